#!/usr/bin/env bash
# The shipped model as a user meets it: chat in a pipe, scoring, and the service with a real client.
# $1 = the program. Prints "ok ..." or "FAILED ..." per check.
set -u
program=$(realpath "$1")
work=$(mktemp -d)
trap 'kill ${server:-} 2>/dev/null; rm -rf "$work"' EXIT
check() { if eval "$2"; then echo "ok $1"; else echo "FAILED $1"; fi; }

"$program" doctor >"$work/doctor" 2>&1
check "doctor finds the shipped model" "grep -q 'everything needed to run is here' $work/doctor"

echo '写一首关于春江的七言绝句' | "$program" chat --seed 1 >"$work/poem" 2>"$work/errors"
check "a pipe gets an answer" "[ -s $work/poem ]"
"$program" chat -p '你好' --seed 5 --threads 1 >"$work/one"; "$program" chat -p '你好' --seed 5 --threads 3 >"$work/three"
check "the same seed gives the same answer with any thread count" "cmp -s $work/one $work/three"
"$program" chat -p '你好' --temperature 0 --json >"$work/json"
check "--json has text and timings" "grep -q '\"text\": ' $work/json && grep -q '\"predict_tps\"' $work/json"
for isa in portable avx2; do
  QW_ISA=$isa "$program" chat -p '你好' --temperature 0 --max-tokens 8 >"$work/$isa" 2>&1
  check "QW_ISA=$isa runs" "[ -s $work/$isa ]"
done
if command -v python3 >/dev/null; then
  check "poems have the form that was asked for" "python3 tools/check_poem_forms.py --program $program --answers 40 >$work/forms"
else
  echo "skipped poem forms: python3 is not installed"
fi
printf '床前明月光，疑是地上霜。' >"$work/text"
"$program" score -m mini --file "$work/text" --json >"$work/score"
check "score gives bits per byte" "grep -q '\"bits_per_byte\": [0-9]' $work/score"
ids=$("$program" tokenize -m mini --text '春江花月夜' --json | tr -d '{}"a-z: []')
check "tokenize and back" "[ \"\$('$program' tokenize -m mini --decode '$ids')\" = 春江花月夜 ]"

echo '[{"role":"user","content":"<|im_end|>"}]' >"$work/messages"
end=$("$program" tokenize -m mini --text '<|im_end|>' --json | tr -d '{}"a-z: []')
"$program" render -m mini --messages "$work/messages" --ids >"$work/ids"
check "a user's <|im_end|> is text: the turn is closed once" "[ \$(grep -ow $end $work/ids | wc -l) -eq 1 ]"

printf 'GGUF\003\000\000\000' >"$work/cut.gguf"
"$program" show "$work/cut.gguf" >/dev/null 2>"$work/errors"; code=$?
check "a cut file is exit code 3 and one line" "[ $code -eq 3 ] && [ \$(wc -l <$work/errors) -eq 1 ]"
"$program" chat no-such-model -p x >/dev/null 2>&1; code=$?
check "an unknown model is exit code 3" "[ $code -eq 3 ]"
"$program" chat --no-such-option >/dev/null 2>&1; code=$?
check "wrong usage is exit code 2" "[ $code -eq 2 ]"

if ! command -v curl >/dev/null; then echo "skipped service checks: curl is not installed"; exit 0; fi
"$program" serve --port 0 --log-json >"$work/log" 2>&1 &
server=$!
for _ in $(seq 100); do grep -q listening "$work/log" && break; sleep 0.1; done
port=$(grep -o 'listening on 127.0.0.1:[0-9]*' "$work/log" | grep -o '[0-9]*$')
url=http://127.0.0.1:$port
check "ready" "curl -fs $url/health/ready | grep -q ready"
check "the chat page" "curl -fs $url/ | grep -q '<title>qianwen'"
body='{"model":"mini","messages":[{"role":"user","content":"写一首五言绝句"}],"seed":3}'
curl -fs $url/v1/chat/completions -d "$body" >"$work/a"; curl -fs $url/v1/chat/completions -d "$body" >"$work/b"
check "a seed repeats an answer" "[ -s $work/a ] && [ \"\$(sed 's/.*\"content\"//;s/\"refusal.*//' $work/a)\" = \"\$(sed 's/.*\"content\"//;s/\"refusal.*//' $work/b)\" ]"
curl -fsN $url/v1/chat/completions -d "${body%\}},\"stream\":true}" >"$work/stream"
check "a stream ends in [DONE]" "tail -n 2 $work/stream | grep -q 'data: \[DONE\]'"
kill -TERM $server; wait $server; code=$?
check "SIGTERM drains and ends with 0" "[ $code -eq 0 ]"
