#!/usr/bin/env bash
# What scripts rely on: the signature, the model store, the service's configuration file, refusals and exit codes.
# $1 = the program. Prints "ok ..." or "FAILED ..." per check.
set -u
program=$(realpath "$1")
work=$(mktemp -d)
trap 'kill ${server:-} 2>/dev/null; rm -rf "$work"' EXIT
check() { if eval "$2"; then echo "ok $1"; else echo "FAILED $1"; fi; }
refused() {  # code words command...: ends with the code and one line that holds the words
  local code=$1 words=$2 got
  shift 2
  timeout 20 "$program" "$@" >/dev/null 2>"$work/errors"; got=$?
  check "$* is exit code $code: $words" "[ $got -eq $code ] && [ \$(wc -l <$work/errors) -eq 1 ] && grep -qF -- \"$words\" $work/errors"
}

one=$("$program" bench --signature --threads 1); three=$(QW_ISA=portable "$program" bench --signature --threads 3)
check "the signature is 64 bits in hexadecimal" "[[ '$one' =~ ^[0-9a-f]{16}\$ ]]"
check "threads and instruction set do not change it" "[ '$one' = '$three' ]"
check "--json gives the same" "[ \"\$('$program' bench --signature --json)\" = '{\"signature\": \"$one\"}' ]"

mkdir "$work/store"; cp "$(dirname "$0")/../../models/mini/mini.gguf" "$work/store/poet.gguf"
check "--models names the store" "'$program' show poet --models $work/store --json | grep -q poet.gguf"
check "QW_MODELS names the store" "QW_MODELS=$work/store '$program' tokenize -m poet --text a --json | grep -q ids"
refused 3 "no model of that name in $work/store" show nobody --models "$work/store"

says() { "$program" complete -m "$work/store/poet.gguf" -p 春江 --max-tokens 8 --temperature 0 2>"$work/errors"; }
packed=$(says); first=$(QW_PACK_CACHE=$work/packed says); again=$(QW_PACK_CACHE=$work/packed says)
check "packed weights are kept in a file, and found there" "[ -n '$packed' ] && [ '$packed' = '$first' ] && [ '$packed' = '$again' ] && [ \$(ls $work/packed | wc -l) -eq 1 ] && [ ! -s $work/errors ]"
printf x | dd of="$(ls "$work"/packed/*.qwpack)" bs=1 seek=100000 conv=notrunc 2>/dev/null
check "a damaged one is told of, and made anew" "[ '$packed' = \"\$(QW_PACK_CACHE=$work/packed says)\" ] && grep -q 'damaged' $work/errors && QW_PACK_CACHE=$work/packed says >/dev/null && [ ! -s $work/errors ]"
touch "$work/store/poet.gguf"; QW_PACK_CACHE=$work/packed QW_PACK_CACHE_LIMIT=10000000 says >/dev/null
check "a model that was touched is packed anew, within the limit" "[ \$(ls $work/packed | wc -l) -eq 1 ]"

printf 'port = 0\nmodel = ["poet"]\nmodels = "%s"\nlog_json = true\nmax_sequences = 2\n' "$work/store" >"$work/serve.toml"
"$program" serve --config "$work/serve.toml" --log-level debug >"$work/log" 2>&1 &
server=$!
for _ in $(seq 100); do grep -q listening "$work/log" && break; sleep 0.1; done
check "serve reads its configuration file" "grep -q 'loaded poet' $work/log && grep -q 'listening on 127.0.0.1:' $work/log"
kill -TERM $server; wait $server; server=
echo 'prot = 1' >"$work/bad.toml"; refused 3 "bad.toml: unknown key prot" serve --config "$work/bad.toml"
echo 'port = 99999' >"$work/bad.toml"; refused 3 "bad.toml: port: " serve --config "$work/bad.toml"
echo 'port = [' >"$work/bad.toml"; refused 3 "bad.toml:1: " serve --config "$work/bad.toml"
"$program" serve "$work/store/poet.gguf" --check --port 0 --store "$work/new.db" 2>"$work/checked"
check "serve --check says that all is fine, and changes nothing" "[ $? -eq 0 ] && grep -q 'can start as configured' $work/checked && [ ! -e $work/new.db ]"
echo x >"$work/words"
refused 3 "no model of that name" serve nobody --check
refused 3 "words: line 1: a word before" serve --check --moderation-words "$work/words"
refused 2 "needs --store" serve --check --fine-tune-folder "$work/jobs"
refused 1 "cannot listen on 192.0.2.1" serve --check --host 192.0.2.1
refused 1 "its folder is not there" serve --check --store "$work/absent/state.db"
QW_SERVE_PORT=99999 "$program" serve --check 2>"$work/errors"
check "the environment is checked as the command line is" "[ $? -eq 2 ] && grep -q 'QW_SERVE_PORT: ' $work/errors"
QW_SERVE_PORT=99999 "$program" serve --check --port 1 2>"$work/errors"
check "the command line wins over the environment" "[ $? -eq 0 ]"
echo 'port = 99999' >"$work/bad.toml"; QW_SERVE_PORT=1 "$program" serve --check --config "$work/bad.toml" 2>"$work/errors"
check "the environment wins over the file" "[ $? -eq 0 ]"
refused 3 "absent.toml" serve --config "$work/absent.toml"
refused 2 "expected postgres://... or a file" serve --store mysql://x
refused 3 "not a file" serve --store "$work"
refused 3 "x.safetensors" chat --adapter x.safetensors -p x
refused 3 "is no adapter" convert mini "$work/out.gguf" --adapter "$(dirname "$0")/../../models/mini/mini.gguf"
refused 2 "expected NAME=PATH" serve --lora x
refused 2 "100000 not in range" chat -m mini -p x -t 100000
refused 2 "give --model, --signature or --limits" bench
refused 2 "give --ids or --file" score -m mini
refused 2 "expects ids such as 1,2,3" score -m mini --ids 1,x
refused 2 "unknown type q9_9" quantize mini "$work/out.gguf" --type q9_9
printf '\377' >"$work/bytes"; echo '["a", 1]' >"$work/list.json"; echo '{}' >"$work/object.json"
echo '[{"role": "user", "content": "hi"}]' >"$work/hi.json"; printf 'a\n  {{ messages[0].nope.x }}' >"$work/bad.jinja"
check "bytes that are no text have tokens" "'$program' tokenize -m mini --file $work/bytes --json | grep -q '\[[0-9]*\]'"
refused 3 "absent: cannot open" tokenize -m mini --file "$work/absent"
refused 3 "is no id of the vocabulary" tokenize -m mini --decode 1,99999999
refused 2 "expects ids such as 1,2,3" tokenize -m mini --decode 1,x
for ids in 1,,2 1, ,1 '[1,2' '1]' '1;2'; do refused 2 "expects ids such as 1,2,3" tokenize -m mini --decode "$ids"; done
check "ids in brackets or with blanks" "[ \"\$('$program' tokenize -m mini --decode '[300, 301  302]')\" = \"\$('$program' tokenize -m mini --decode 300,301,302)\" ]"
refused 2 " excludes " tokenize -m mini --decode 1 --lines
refused 2 "--model is required" tokenize
refused 2 "--messages is required" render
refused 3 "bytes: line 1: JSON: " tokenize -m mini --lines --file "$work/bytes"
refused 3 "object.json: expected an array of messages" render -m mini --messages "$work/object.json"
refused 3 "list.json: messages[0]: expected an object" render -m mini --messages "$work/list.json"
refused 3 "object.json: expected an array of tools" render -m mini --messages "$work/hi.json" --tools "$work/object.json"
refused 2 "expects key=value" render -m mini --messages "$work/hi.json" --set "=1"
refused 2 "give --model or --template" render --messages "$work/hi.json"
refused 3 "line 2, column 18: " render --template "$work/bad.jinja" --messages "$work/hi.json"
refused 3 "bytes: chat template line 1, column 1: template is not valid UTF-8" render --template "$work/bytes" --messages "$work/hi.json"
for command in admin bench chat complete convert data doctor models quantize render score serve show tokenize tokenizer train; do
  "$program" $command --help >"$work/help" 2>&1; code=$?
  check "$command --help" "[ $code -eq 0 ] && grep -q Usage $work/help"
done

printf 'the cat sat on the mat\n\nthe dog sat on the log\n' >"$work/text"
"$program" tokenizer train --input "$work/text" --vocab 270 "$work/tok" >/dev/null 2>&1
check "tokenizer extend adds tokens" "'$program' tokenizer extend $work/tok $work/more --add '<|a|>' '<|b|>' --json | grep -q '<|b|>'"
check "the new tokens are found" "[ \"\$('$program' tokenize -m $work/more --text '<|a|><|b|>' --json)\" != \"\$('$program' tokenize -m $work/tok --text '<|a|><|b|>' --json)\" ]"
refused 2 "is the input itself" tokenizer extend "$work/tok" "$work/tok" --add "<|a|>"
refused 2 "already" tokenizer extend "$work/tok" "$work/other" --add "<|im_end|>"
refused 2 "not a folder" tokenizer extend mini "$work/other" --add "<|a|>"

printf '[arms]\nbomb\n炸药\n' >"$work/words"; printf 'a b o m b, 炸 药, card 4111 1111 1111 1111\n' >"$work/letter"
check "govern scan tells what a text holds" "[ \"\$('$program' govern scan $work/letter --keywords $work/words --pii us --json | wc -l)\" = 3 ]"
check "and covers it" "[ \"\$('$program' govern scan --keywords $work/words --pii us --redact <$work/letter)\" = 'a *******, ***, card **** **** **** 1111' ]"
refused 4 "3 findings" govern scan "$work/letter" --keywords "$work/words" --pii all --fail
refused 2 "no kind of personal data" govern scan --pii names
refused 2 "nothing is looked for" govern scan "$work/letter"
refused 3 "line 1: a word before" govern scan "$work/letter" --keywords "$work/letter"
