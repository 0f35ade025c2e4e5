#!/usr/bin/env bash
# A model that several processes of mpirun hold together (parallel.tensor): what one process trains, the same checkpoints, others that
# go on, and what is refused. $1 = the program. Prints "ok ..." or "FAILED ..." per check.
set -u
program=$(realpath "$1")
subject="a model over several processes"
command -v mpirun >/dev/null || { echo "skipped $subject: mpirun is not installed"; exit 0; }
[ -e "$(dirname "$program")/qianwen_mpi.so" ] || { echo "skipped $subject: the program was built without MPI"; exit 0; }
here=$(realpath "$(dirname "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
. "$here/several.bash"

for i in $(seq 40); do echo "moon $i over the river, the old friend leaves at dawn by boat number $i"; echo; done >text.txt
cat >data.toml <<D
output = "shards"
dedup = "none"
[tokenizer]
folder = "tokenizer"
vocab = 300
added = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
[[source]]
name = "text"
path = "./text.txt"
licence = "CC0"
origin = "test"
heldout_tail = 0.25
D
cat >recipe.toml <<R
data = "data.toml"
output = "run"
threads = 1
steps = 6
sequence_length = 32
batch_sequences = 2
accumulation = 2
precision = "f32"
export_type = "f32"
[model]
model_type = "qwen3"
vocab_size = 300
hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 16
max_position_embeddings = 64
rope_theta = 10000.0
rms_norm_eps = 1e-6
tie_word_embeddings = true
[optimizer]
kind = "sgd"
lr = 0.1
momentum = 0.9
[parallel]
parts = 2
[checkpoint]
every = 2
keep = 9
[eval]
every = 3
R
close() { python3 "$here/close_runs.py" "$@"; }

train one >one.log 2>&1
check "one process" "[ -s one/model/model.safetensors ] && grep -q eval_loss one.log"
check "two hold it together: the losses and weights of one, but for roundings" "together 2 two --set parallel.tensor=2 >two.log 2>&1 && close one two"
check "the same names, shapes and places in the file" "[ \$(stat -c %s one/model/model.safetensors) = \$(stat -c %s two/model/model.safetensors) ] && cmp -s one/model/config.json two/model/config.json"
check "another time: the same bytes" "together 2 again --set parallel.tensor=2 >again.log 2>&1 && same again two"
check "two copies of two, moments and gradients shared out: the same bytes" \
  "together 4 four --set parallel.tensor=2 --set parallel.zero=2 >four.log 2>&1 && same four two && [ \$(grep -c '\"loss\"' four.log) = 6 ]"
check "what comes out is a model" "'$program' convert two/model two.gguf --type f32 --json >convert.log 2>&1 && [ -s two.gguf ]"

# A process is killed between two checkpoints; one alone goes on, and two go on from what one left.
together 2 killed --set parallel.tensor=2 --set steps=6000 --set checkpoint.every=20 --set eval.every=0 >killed.log 2>&1 &
job=$!
for _ in $(seq 300); do [ -e killed/checkpoints/step-0000000020.safetensors ] && break; sleep 0.1; done
kill -9 "$(for p in $(pgrep -x qianwen); do [ "$(readlink "/proc/$p/cwd")" = "$work" ] && echo "$p"; done | tail -1)"
wait $job
check "a process that is killed ends the job" "grep -q 'signal 9' killed.log && [ ! -e killed/model/model.safetensors ]"
last=$(ls killed/checkpoints | grep step- | tail -1 | tr -dc 0-9 | sed 's/^0*//')
check "one alone goes on from there" "train killed --resume --set steps=$((last + 2)) --set checkpoint.every=2 --set eval.every=0 >alone.log 2>&1 && [ -s killed/model/model.safetensors ]"
cp -r one whole && rm -r whole/model whole/checkpoints/step-000000000[46].safetensors whole/checkpoints/best.safetensors
check "two go on from what one left, to where one would have come" \
  "together 2 whole --resume --set parallel.tensor=2 >whole.log 2>&1 && grep -qE '\"step\": ?3' whole.log && ! grep -qE '\"step\": ?2' whole.log && close one whole"

refused() { local what=$1 n=$2; shift 2; check "refused: $what" "! together $n no $* >no.log 2>&1 && grep -qF '$what' no.log && [ ! -e no/checkpoints ]"; }
refused "parallel.tensor = 2 does not divide the 3 processes" 3 --set parallel.tensor=2
refused "parallel.tensor: 4 does not divide the 2 key and value heads" 4 --set parallel.tensor=4
refused "does not go together with an optimizer.kind that looks at whole matrices" 2 --set parallel.tensor=2 --set optimizer.kind=muon
