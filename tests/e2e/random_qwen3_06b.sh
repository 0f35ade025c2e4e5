#!/usr/bin/env bash
# A model of the exact shape of Qwen3-0.6B with random weights and the real vocabulary: that it loads, answers, and needs
# the memory that `show` says. About 20 s, 2.3 GB of disk. $1 = the program. Prints "ok ...", "FAILED ..." or "skipped ...".
set -u
program=$(realpath "$1")
source=$(realpath "$(dirname "$0")/../..")
maker=$(dirname "$program")/make_random_checkpoint
vocabulary=${QW_SHARED:-$source/../shared}/data/tokenizer
[ -x "$maker" ] || { echo "skipped random Qwen3-0.6B: $maker is not built"; exit 0; }
[ -f "$vocabulary/qwen2/vocab.json" ] || { echo "skipped random Qwen3-0.6B: the real vocabulary is not in $vocabulary"; exit 0; }
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null; rm -rf "$work"' EXIT
[ "$(df -Pk "$work" | awk 'NR==2{print $4}')" -gt 4000000 ] || { echo "skipped random Qwen3-0.6B: less than 4 GB of disk in $work"; exit 0; }
[ "$(awk '/MemAvailable/{print $2}' /proc/meminfo)" -gt 4000000 ] || { echo "skipped random Qwen3-0.6B: less than 4 GB of memory"; exit 0; }
check() { if eval "$2"; then echo "ok $1"; else echo "FAILED $1"; fi; }
number() { grep -o "\"$1\": [0-9.]*" "$2" | head -1 | grep -o '[0-9.]*$'; }

cat >"$work/config.json" <<'JSON'
{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024,
 "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
 "max_position_embeddings": 40960, "rope_theta": 1000000, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
 "hidden_act": "silu", "attention_bias": false, "torch_dtype": "bfloat16"}
JSON
"$maker" "$work/config.json" "$work/bf16"
for file in vocab.json merges.txt tokenizer_config.json special_tokens_map.json added_tokens.json generation_config.json; do
  cat "$vocabulary/qwen2/$file" >"$work/bf16/$file"
done
cat "$vocabulary/templates/Qwen-Qwen3-0.6B.jinja" >"$work/bf16/chat_template.jinja"

"$program" show "$work/bf16" --json >"$work/show"
check "show counts the published parameters" "[ \$(number parameters $work/show) = 596049920 ]"
for type in q8_0 q4_0; do
  "$program" quantize "$work/bf16" "$work/$type.gguf" --type $type --json >"$work/report"
  check "quantize to $type" "[ \$(number out_bytes $work/report) -lt \$(number in_bytes $work/report) ]"
done
# <|im_start|>user \n 你好 <|im_end|> \n <|im_start|>assistant \n: nine tokens of the real vocabulary.
for model in bf16 q8_0.gguf q4_0.gguf; do
  "$program" chat "$work/$model" -p '你好' --max-tokens 8 --temperature 0 --context 2048 --json >"$work/answer"
  check "chat with $model" "[ \$(number prompt_tokens $work/answer) = 9 ] && [ \$(number completion_tokens $work/answer) = 8 ]"
  echo "# $model: loaded in $(number load_ms "$work/answer") ms"
  "$program" bench -m "$work/$model" -p 64 -n 16 -r 2 --json >"$work/bench"
  check "bench of $model" "[ \$(grep -o tps_median $work/bench | wc -l) -eq 2 ]"
  echo "# $(cat "$work/bench")"
done

# From the program's start to the first token of a short prompt, the file in the page cache. Printed: a busy machine proves nothing.
start=$(date +%s%N)
"$program" complete -m "$work/q4_0.gguf" -p Hello --max-tokens 1 --temperature 0 --context 512 >"$work/text"
echo "# q4_0: first token after $((($(date +%s%N) - start) / 1000000)) ms, the end of the program included"

# A service takes what `models estimate` says, its cache filled and eight requests at once: within 5 % both ways.
if command -v python3 >/dev/null; then
  python3 "$source/bench/memory.py" "$program" "$work/q4_0.gguf" "$work/q8_0.gguf" --context 2048 --limit 5 >"$work/memory"
  within=$?
  sed 's/^/# /' "$work/memory"
  check "memory of a service is what models estimate says" "[ $within -eq 0 ]"
  # Of a model so small that the program is most of it, which depends on the machine's libraries.
  python3 "$source/bench/memory.py" "$program" mini --context 1024 --limit 20 >"$work/memory"
  within=$?
  sed 's/^/# /' "$work/memory"
  check "memory of a service of the shipped model is about what models estimate says" "[ $within -eq 0 ]"
else
  echo "skipped the memory of a service: python3 is not installed"
fi

# What show promises is what the process takes, beside file pages that the system may drop: at most 5 % and 64 MB more (the
# vocabulary and the program itself); and no less than four fifths of it without the cache, which takes memory as it fills.
"$program" serve -m "$work/bf16" --port 0 --context 2048 --log-json >"$work/log" 2>&1 &
server=$!
for _ in $(seq 300); do grep -q listening "$work/log" && break; sleep 0.1; done
taken=$(awk '/RssAnon/{print $2 * 1024}' /proc/$server/status)
kill -TERM $server; wait $server; server=
"$program" show "$work/bf16" --context 2048 --json >"$work/show"
promised=$(number total_bytes "$work/show") cache=$(number cache_bytes "$work/show")
echo "# bf16: show says $promised bytes, $cache of them for the cache; the process takes $taken"
check "memory of bf16 is what show says" "[ ${taken:-0} -gt $(((promised - cache) * 8 / 10)) ] && [ ${taken:-0} -lt $((promised * 105 / 100 + 64000000)) ]"
