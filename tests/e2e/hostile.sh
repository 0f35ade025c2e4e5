#!/usr/bin/env bash
# Files that are broken, absurd or no files at all: one line that says where and why, exit code 3 (5 where memory or disk
# is what lacks), quickly, and never much memory. $1 = the program. Prints "ok ..." or "FAILED ..." per check.
set -u
program=$(realpath "$1")
source=$(realpath "$(dirname "$0")/../..")
work=$(mktemp -d)
trap 'umount "$work/disk" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
check() { if eval "$2"; then echo "ok $1"; else echo "FAILED $1"; fi; }

# The program with little memory and little time; what it wrote stands in ./errors. Sanitizers reserve more than any limit.
limit_kb=4000000
grep -q __asan_init "$program" && limit_kb=unlimited
limited() { ( ulimit -v $limit_kb; exec timeout -s KILL 30 "$program" "$@" ) >out 2>errors </dev/null; }
refused() {  # code words arguments...
  local code=$1 words=$2 got
  shift 2
  limited "$@"; got=$?
  # One line, after what long work says of its progress.
  if [ $got -eq "$code" ] && [ "$(grep -cvE '^(building |tokenizer: |shards: )' errors)" -eq 1 ] && grep -qF -- "$words" errors; then
    echo "ok $*: $(tail -n 1 errors | head -c 200)"
  else
    echo "FAILED $*: exit code $got instead of $code, or no '$words' in: $(head -c 300 errors)"
  fi
}

# ---- what is no file of a model at all -----------------------------------------------------------------------------------
: >empty; printf hello >short; mkdir folder; mkfifo pipe
cp "$source/models/mini/mini.gguf" whole.gguf
head -c 100000 whole.gguf >cut.gguf; head -c 3000000 whole.gguf >cut_data.gguf
truncate -s 100G holes.gguf
for command in "show M" "chat M -p a" "complete -m M -p a" "tokenize -m M --text a" "score -m M --ids 1,2" "bench -m M -r 1" \
  "convert M o.gguf" "quantize M o.gguf --type q8_0" "render -m M --messages short" "serve -m M --port 0"; do
  for file in empty short pipe /dev/zero folder cut.gguf cut_data.gguf holes.gguf nowhere; do
    limited ${command//M/$file}; code=$?
    [ $code -eq 3 ] && [ "$(wc -l <errors)" -eq 1 ] && grep -qF "$file" errors && continue
    [[ $command == tokenize* || $command == render* ]] && [ $file = cut_data.gguf ] && continue   # needs the vocabulary only
    [[ $file == holes.gguf ]] && [ $code -eq 5 ] && [ "$(wc -l <errors)" -eq 1 ] && continue          # more than may be mapped
    echo "FAILED ${command%% *} with $file: exit code $code: $(head -c 300 errors)"
  done
  echo "ok ${command%% *}: nine files that are no models"
done
check "nothing was written" "[ ! -e o.gguf ]"
if [ "$(id -u)" -ne 0 ]; then
  chmod 000 whole.gguf; refused 3 "whole.gguf: cannot open: Permission denied" show whole.gguf; chmod 600 whole.gguf
fi

# ---- GGUF by the byte ----------------------------------------------------------------------------------------------------
u32() { local i v=$1; for i in 1 2 3 4; do printf "\\x$(printf %02x $((v & 255)))"; v=$((v >> 8)); done; }
u64() { u32 $(($1 & 0xffffffff)); u32 $((($1 >> 32) & 0xffffffff)); }
text() { u64 ${#1}; printf %s "$1"; }
header() { printf GGUF; u32 "${3:-3}"; u64 "$1"; u64 "$2"; }   # tensors, keys, version
tensor() { text t; u32 $#; local d; for d in "$@"; do u64 "$d"; done; }   # type and offset follow
{ header 0 0 9; } >a.gguf;                                                       refused 3 "version 9" show a.gguf
{ header $((1 << 62)) 0; head -c 100 /dev/zero; } >a.gguf;                       refused 3 "tensors do not fit the file" show a.gguf
{ header 0 $((1 << 62)); head -c 100 /dev/zero; } >a.gguf;                       refused 3 "metadata keys do not fit the file" show a.gguf
{ header 0 1; text a; u32 9; u32 0; u64 $((1 << 60)); } >a.gguf;                 refused 3 "longer than the file" show a.gguf
{ header 0 1; text a; u32 8; u64 $((1 << 62)); head -c 99 /dev/zero; } >a.gguf;  refused 3 "longer than the file" show a.gguf
{ header 1 0; tensor $((1 << 32)) $((1 << 32)); u32 0; u64 0; } >a.gguf;         refused 3 "size out of range" show a.gguf
{ header 1 0; tensor 4; u32 0; u64 $((1 << 62)); head -c 64 /dev/zero; } >a.gguf;  refused 3 "past the end" show a.gguf
{ header 1 0; tensor 4; u32 0; u64 7; head -c 64 /dev/zero; } >a.gguf;           refused 3 "not aligned" show a.gguf
{ header 1 0; tensor 1 1 1 1 1 1 1 1 1; u32 0; u64 0; head -c 64 /dev/zero; } >a.gguf;  refused 3 "9 dimensions" show a.gguf
{ header 1 0; tensor 33; u32 8; u64 0; head -c 64 /dev/zero; } >a.gguf;          refused 3 "no whole blocks" show a.gguf

# ---- model folders ---------------------------------------------------------------------------------------------------
"$program" convert whole.gguf good --type bf16 >/dev/null 2>&1
check "a folder to break" "[ -s good/model.safetensors ] && [ -s good/tokenizer.json ]"
# A copy of the folder (by links) in which one file is what standard input says.
broken() { rm -rf bad; mkdir bad; ln -s "$work"/good/* bad/; rm -f "bad/$1"; cat >"bad/$1"; }
nest() { printf "%0.s$1" $(seq 100000); }
for file in config.json generation_config.json tokenizer.json tokenizer_config.json; do
  printf '' | broken $file;                  refused 3 "bad/$file" chat bad -p a
  printf '{"a": ' | broken $file;            refused 3 "bad/$file" chat bad -p a
  printf 'null' | broken $file;              refused 3 "bad/$file" chat bad -p a
  printf '{"\xff": 1}' | broken $file;       refused 3 "bad/$file" chat bad -p a
  nest '[' | broken $file;                   refused 3 "bad/$file" chat bad -p a
  : | broken $file; rm bad/$file; mkdir bad/$file;   refused 3 "bad/$file" chat bad -p a
  rmdir bad/$file; mkfifo bad/$file;                 refused 3 "bad/$file" chat bad -p a
  rm bad/$file; truncate -s 100G bad/$file;          refused 3 "bad/$file" chat bad -p a
done
change() { sed -E "s/\"$1\": [^,}]*/\"$1\": $2/" good/config.json | broken config.json; }   # key value
for value in 0 -1 1e308 9223372036854775807 '"x"' '[]' 2147483647; do
  for key in hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim intermediate_size vocab_size; do
    change $key "$value"; limited chat bad -p a; code=$?
    [ $code -eq 3 ] && [ "$(wc -l <errors)" -eq 1 ] && grep -qE "bad: $key|shape|layers|tensor" errors && continue
    echo "FAILED config.json with $key $value: exit code $code: $(head -c 300 errors)"
  done
  echo "ok config.json: sizes of $value"
done

json_file() { u64 ${#1}; printf %s "$1"; head -c "${2:-64}" /dev/zero; }   # the JSON header of a safetensors file, data bytes
: | broken model.safetensors;                                                      refused 3 "bad/model.safetensors" show bad
{ u64 $((1 << 62)); head -c 64 /dev/zero; } | broken model.safetensors;            refused 3 "bad/model.safetensors" show bad
json_file '{"t":{"dtype":"F32","shape":[4],"data_offsets":[0,9999]}}' | broken model.safetensors;   refused 3 "bad/model.safetensors" show bad
json_file '{"t":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}' | broken model.safetensors;     refused 3 "bad/model.safetensors" show bad
json_file '{"t":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,64]}}' | broken model.safetensors
refused 3 "bad/model.safetensors" show bad
json_file '{"t":{"dtype":"Q9","shape":[-1],"data_offsets":[0,64]}}' | broken model.safetensors;     refused 3 "bad" show bad
index() { rm -rf bad; mkdir bad; ln -s "$work"/good/* bad/; rm bad/model.safetensors; cat >bad/model.safetensors.index.json; }
echo '{"weight_map": {"a": "../good/model.safetensors"}}' | index;   refused 3 "model.safetensors.index.json" show bad
echo '{"weight_map": {"a": "nowhere.safetensors"}}' | index;         refused 3 "nowhere.safetensors" show bad
echo '{"weight_map": 7}' | index;                                    refused 3 "model.safetensors.index.json" show bad
echo '{}' | index;                                                   refused 3 "model.safetensors.index.json" show bad

# vocab.json with merges.txt, for a folder without tokenizer.json
mkdir words; echo '{"a": 0, "b": 1}' >words/vocab.json
printf '#version: 0.2\na b c d\n' >words/merges.txt;  refused 3 "words/merges.txt" tokenize -m words --text a
printf '#version: 0.2\na zz\n' >words/merges.txt;     refused 3 "words" tokenize -m words --text a
echo '{"a": -1}' >words/vocab.json;                   refused 3 "words" tokenize -m words --text a
echo '{"a": 4294967296}' >words/vocab.json;           refused 3 "words" tokenize -m words --text a

# ---- templates, messages, texts ------------------------------------------------------------------------------------------
echo '[{"role": "user", "content": "hi"}]' >messages.json
template() { printf %s "$1" >t.jinja; }
template '{% for %}';                                              refused 3 "t.jinja" render --template t.jinja --messages messages.json
template '{{ messages[0].content[ }}';                             refused 3 "t.jinja" render --template t.jinja --messages messages.json
template '{% for a in range(1000000000) %}x{% endfor %}';          refused 3 "range" render --template t.jinja --messages messages.json
template '{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}'; refused 3 "too many steps" render --template t.jinja --messages messages.json
template '{{ "x" * 1000000000000 }}';                              refused 3 "too much text" render --template t.jinja --messages messages.json
{ printf '{{'; nest '('; } >t.jinja;                                refused 3 "t.jinja" render --template t.jinja --messages messages.json
template '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}';        refused 3 "nests too deeply" render --template t.jinja --messages messages.json
for bad in empty short folder pipe /dev/zero nowhere; do refused 3 "$bad" render -m mini --messages $bad; done
for bad in folder pipe /dev/zero nowhere; do refused 3 "$bad" tokenize -m mini --file $bad; refused 3 "$bad" score -m mini --file $bad; done
( ulimit -v $limit_kb; timeout -s KILL 30 "$program" chat mini </dev/zero ) >out 2>errors; code=$?
check "chat </dev/zero ends in one line" "[ $code -eq 3 ] && [ \$(wc -l <errors) -eq 1 ]"
printf '"a"\n{"text": 3}\n' >lines; refused 3 "line 2" tokenize -m mini --lines --file lines
refused 3 "99999" score -m mini --ids 1,99999
refused 3 "99999" tokenize -m mini --decode 99999

# ---- recipes, data, serve.toml -------------------------------------------------------------------------------------------
for bad in empty short folder pipe /dev/zero nowhere; do
  refused 3 "$bad" train $bad; refused 3 "$bad" data build $bad; refused 3 "$bad" data show $bad
  [ $bad = empty ] || refused 3 "$bad" serve --config $bad --port 0
done
recipe() { # a tiny recipe on words.txt, with these lines in front
  { printf '%s\n' "$@"; cat <<'TOML'
output = "run"
data = "data.toml"
seed = 1
steps = 4
sequence_length = 32
batch_sequences = 2
[model]
model_type = "qwen3"
vocab_size = 300
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
max_position_embeddings = 64
tie_word_embeddings = true
[checkpoint]
every = 2
TOML
  } >recipe.toml
}
cat >data.toml <<'TOML'
corpus = "."
output = "shards"
seed = 1
[tokenizer]
folder = "tok"
vocab = 300
added = ["<|endoftext|>"]
[[source]]
name = "words"
path = "words.txt"
licence = "public domain"
origin = "made here"
heldout_tail = 0.1
TOML
recipe; refused 3 "words.txt" train recipe.toml
for i in $(seq 300); do printf 'the %d birds sing %d songs\n\n' $i $((i * 7)); done >words.txt
printf '\xfd7zXZ\x00garbage' >words.xz
sed 's/words.txt/words.xz/' data.toml >xz.toml; refused 3 "words.xz" data build xz.toml
printf '{"text": "a"}\n{"text": \n' >words.jsonl
sed 's/path = "words.txt"/path = "words.jsonl"\nformat = "jsonl"/' data.toml >jsonl.toml; refused 3 "words.jsonl" data build jsonl.toml
recipe 'stepz = 3'; refused 3 "stepz" train recipe.toml
recipe; refused 3 "steps" train recipe.toml --set steps=-5
refused 3 "hidden_size" train recipe.toml --set model.hidden_size=999999999
limited train recipe.toml --json; check "the tiny recipe trains" "[ $? -eq 0 ] && [ -s run/model/model.safetensors ]"

# ---- a disk that fills up during a checkpoint leaves the one before ----------------------------------------------------------
first=$(ls run/checkpoints/step-*.safetensors | tail -1); sum=$(sha256sum <"$first")
( ulimit -f 50; trap '' XFSZ; exec "$program" train recipe.toml --resume --set steps=8 --set checkpoint.keep=1 ) >out 2>errors; code=$?
check "no room for a checkpoint is exit code 5 and one line" "[ $code -eq 5 ] && [ \$(grep -c qianwen: errors) -eq 1 ]"
check "the checkpoint before is as it was" "[ \"\$(sha256sum <\"$first\")\" = '$sum' ] && ! ls run/checkpoints | grep -q tmp"
limited train recipe.toml --resume --set steps=8; check "and training goes on from it" "[ $? -eq 0 ]"
newest=$(ls run/checkpoints/step-*.safetensors | tail -1); head -c 5000 "$newest" >cut; cp cut "$newest"
refused 3 "$(basename "$newest")" train recipe.toml --resume --set steps=10

# ---- more memory than there is -------------------------------------------------------------------------------------------
refused 5 "needs" serve -m mini --port 0 --cache-tokens 1000000000
"$program" show mini --context 2048 --json >out; check "show says what memory a model needs" "grep -q '\"total_bytes\": [0-9]' out"
