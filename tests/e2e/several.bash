# Sourced by tests of training by several processes, from the folder they work in: how these are started and compared.
# As root mpirun wants to be asked twice; more processes than processors are wanted here, and none bound to one.
several() { local n=$1; shift; timeout 120 mpirun $( [ "$(id -u)" = 0 ] && echo --allow-run-as-root ) --oversubscribe --bind-to none -n "$n" "$@"; }
several 2 true >mpirun.log 2>&1 || { echo "skipped $subject: mpirun starts nothing here: $(tail -n 1 mpirun.log)"; exit 0; }
check() { if eval "$2"; then echo "ok $1"; else echo "FAILED $1"; fi; }
train() { local out=$1; shift; "$program" train recipe.toml --set "output=$out" --json "$@"; }
together() { local n=$1 out=$2; shift 2; several "$n" "$program" train recipe.toml --set "output=$out" --json "$@"; }
same() { cmp -s "$1/model/model.safetensors" "$2/model/model.safetensors"; }
