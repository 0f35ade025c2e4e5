#!/usr/bin/env bash
# One training by several processes that mpirun starts: the bytes of one process, a process that is killed, others that go on,
# and two hosts (network namespaces with a cable between). $1 = the program. Prints "ok ..." or "FAILED ..." per check.
set -u
program=$(realpath "$1")
subject="training on several hosts"
command -v mpirun >/dev/null || { echo "skipped $subject: mpirun is not installed"; exit 0; }
[ -e "$(dirname "$program")/qianwen_mpi.so" ] || { echo "skipped $subject: the program was built without MPI"; exit 0; }
here=$(realpath "$(dirname "$0")")
work=$(mktemp -d)
ours=qw$$
leave() {
  ip netns del "${ours}a" 2>/dev/null
  ip netns del "${ours}b" 2>/dev/null
  rm -rf "$work"
}
trap leave EXIT
cd "$work"
. "$here/several.bash"

"$program" convert mini base --type f32 --json >/dev/null || { echo "FAILED mini becomes a folder"; exit 0; }  # its tokenizer is used
vocab=$(python3 -c "import json; print(json.load(open('base/config.json'))['vocab_size'])")
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do printf '{"text":"床前明月光 %s"}\n{"text":"疑是地上霜 举头望明月 %s"}\n' $i $i; done >lines.jsonl
printf 'output = "shards"\ndedup = "none"\n[tokenizer]\nfolder = "base"\n[[source]]\nname = "lines"\npath = "./lines.jsonl"\nformat = "jsonl"\nlicence = "CC0"\norigin = "test"\nheldout_tail = 0.25\n' >data.toml
cat >recipe.toml <<R
data = "data.toml"
output = "run"
threads = 1
steps = 6
sequence_length = 32
batch_sequences = 1
accumulation = 4
export_type = "f32"
[model]
model_type = "qwen3"
vocab_size = $vocab
hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 32
max_position_embeddings = 64
rope_theta = 10000.0
rms_norm_eps = 1e-6
tie_word_embeddings = true
[parallel]
parts = 4
bucket_mib = 1
[checkpoint]
every = 2
keep = 9
[eval]
every = 3
R
# The newest process of the run with this output (in this network).
one_of() {
  for p in $(pgrep -x qianwen); do
    [ "$(readlink "/proc/$p/cwd")" = "$work" ] && tr '\0' ' ' <"/proc/$p/cmdline" | grep -q "output=$1 " && [ "${2:-}" = "${2:+$(ip netns identify "$p")}" ] && echo "$p"
  done | tail -1
}

train one >one.log 2>&1
check "one process" "[ -s one/model/model.safetensors ]"
check "four processes: the same bytes" "together 4 four >four.log 2>&1 && same four one"
check "one of them tells, one writes" "[ \$(grep -c '\"loss\"' four.log) = 6 ] && [ \$(grep -c '\"loss\"' four/log.jsonl) = 6 ] && [ \$(grep -c '\"eval_loss\"' four/log.jsonl) = 2 ] && [ \$(ls four/checkpoints/step-* | wc -l) = 3 ]"
check "losses and evaluations are those of one" \
  "python3 -c \"import json; a,b=([(r['step'], r.get('loss'), r.get('eval_loss'), r.get('grad_norm')) for r in map(json.loads, open(f + '/log.jsonl'))] for f in ('one', 'four')); exit(a != b)\""
check "moments shared out: the same bytes" "together 3 zero1 --set parallel.zero=1 >zero1.log 2>&1 && same zero1 one"
check "gradients too: the same bytes" "together 2 zero2 --set parallel.zero=2 --set optimizer.kind=adamw_8bit >zero2.log 2>&1 && train eight --set optimizer.kind=adamw_8bit >eight.log 2>&1 && same zero2 eight"
check "more processes than micro-batches are refused" "! together 5 five >five.log 2>&1 && grep -q 'parallel.parts = 4 is less than the 5 processes' five.log && [ ! -e five/checkpoints ]"

# Answers of the model's own: drawn, judged and learnt from by two, to the adapter of one.
for i in 1 2 3 4 5 6 7 8; do printf '{"prompt":"写一首诗 %s","answer":"月"}\n' $i; done >asked.jsonl
sed 's/lines/asked/g; s/"jsonl"/"prompts"/; s/"shards"/"asked.shards"/; s/heldout_tail.*//' data.toml >asked.data.toml
cat >asked.toml <<R
data = "asked.data.toml"
init_from = "base"
steps = 2
sequence_length = 32
batch_sequences = 4
accumulation = 2
[parallel]
parts = 2
[lora]
rank = 4
[grpo]
group = 4
max_tokens = 8
[[grpo.reward]]
kind = "regex"
R
check "answers drawn by two processes: the same adapter" \
  "'$program' train asked.toml --set output=asked1 --set threads=1 --json >asked1.log 2>&1 && several 2 '$program' train asked.toml --set output=asked2 --set threads=1 --json >asked2.log 2>&1 && cmp -s asked1/adapter/adapter_model.safetensors asked2/adapter/adapter_model.safetensors && grep -q sampler_gap asked2.log"

mkdir copy && cp "$program" copy/qianwen
check "without MPI nobody trains" "! several 2 copy/qianwen train recipe.toml --set output=without --json >without.log 2>&1 && grep -q 'one of 2 processes, but this program has no MPI here' without.log && [ ! -e without ]"

# A process is killed between two checkpoints; the job ends, says so, and goes on with fewer.
train whole --set steps=600 --set checkpoint.every=100 --set eval.every=0 >whole.log 2>&1
together 3 killed --set steps=600 --set checkpoint.every=100 --set eval.every=0 --set parallel.zero=1 >killed.log 2>&1 &
job=$!
for _ in $(seq 300); do [ -e killed/checkpoints/step-0000000100.safetensors ] && break; sleep 0.1; done
kill -9 "$(one_of killed)"
wait $job
ended=$?
check "a process that is killed ends the job, which says so" "[ $ended != 0 ] && grep -q 'signal 9' killed.log"
check "no other process is left" "sleep 0.5; [ -z \"\$(one_of killed)\" ]"
check "its last checkpoint is whole, and two others go on from it to the bytes of a whole run" \
  "ls killed/checkpoints | grep -q step- && [ ! -e killed/model/model.safetensors ] && together 2 killed --resume --set steps=600 --set checkpoint.every=100 --set eval.every=0 >again.log 2>&1 && same killed whole"

# One process is asked to stop: all do, with a checkpoint.
: >stopped.log  # looked at before they have made it
together 2 stopped --set steps=6000 --set checkpoint.every=0 --set eval.every=0 >stopped.log 2>&1 &
job=$!
for _ in $(seq 300); do [ "$(grep -c '"loss"' stopped.log)" -gt 3 ] && break; sleep 0.1; done
kill -TERM "$(one_of stopped)"
wait $job
check "one that is asked to stop stops all, at one step" "[ \$(ls stopped/checkpoints | wc -l) = 1 ] && [ \$(grep -c 'resume goes on from there' stopped.log) = 1 ]"

# Two hosts: each a network of its own and a name of its own; the second has another folder for its output and sees no checkpoint.
hosts() {
  command -v ip >/dev/null && [ "$(id -u)" = 0 ] || { echo "ip and root are needed"; return 1; }
  ip netns add "${ours}a" && ip netns add "${ours}b" && ip link add "${ours}x" netns "${ours}a" type veth peer name "${ours}y" netns "${ours}b" &&
    ip -n "${ours}a" addr add 10.77.0.1/24 dev "${ours}x" && ip -n "${ours}b" addr add 10.77.0.2/24 dev "${ours}y" &&
    ip -n "${ours}a" link set "${ours}x" up && ip -n "${ours}b" link set "${ours}y" up &&
    ip -n "${ours}a" link set lo up && ip -n "${ours}b" link set lo up
}
if hosts >hosts.log 2>&1 && unshare --uts true 2>>hosts.log; then
  printf '#!/bin/sh\nshift\nexec ip netns exec %sb unshare --uts sh -c '"'"'hostname hostb; eval "$*"'"'"' sh "$@"\n' "$ours" >agent
  chmod +x agent
  two() {
    ip netns exec "${ours}a" unshare --uts sh -c 'hostname hosta; exec "$@"' sh timeout 120 mpirun --allow-run-as-root --bind-to none \
      --host 10.77.0.1:2,10.77.0.2:2 --mca plm_rsh_agent "$work/agent" --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 "$@"
  }
  check "two hosts, two processes on each: the same bytes" "two -n 4 '$program' train recipe.toml --set output=hosts --set parallel.zero=1 --json >two.log 2>&1 && same hosts one"
  check "a model over two hosts: the bytes of one over two processes here" \
    "together 2 cut --set parallel.tensor=2 --set model.num_key_value_heads=2 >cut.log 2>&1 && two -n 2 --map-by node '$program' train recipe.toml --set output=apart --set parallel.tensor=2 --set model.num_key_value_heads=2 --json >apart.log 2>&1 && same apart cut"
  # A host goes: its network ends.
  two -n 2 --map-by node "$program" train recipe.toml --set output=gone --set steps=6000 --set checkpoint.every=2 --set eval.every=0 --json >gone.log 2>&1 &
  job=$!
  for _ in $(seq 300); do ls gone/checkpoints/step-* >/dev/null 2>&1 && break; sleep 0.1; done
  kill -9 "$(one_of gone "${ours}b")"
  wait $job
  check "the process on the other host is killed: the job ends, and one host goes on" \
    "grep -q 'signal 9' gone.log && last=\$(ls gone/checkpoints | grep step- | tail -1 | tr -dc 0-9 | sed 's/^0*//') && train gone --resume --set steps=\$((last + 2)) --set checkpoint.every=2 --set eval.every=0 >gone2.log 2>&1"
else
  echo "skipped two hosts: $(tail -n 1 hosts.log)"
fi
