#!/usr/bin/env bash
# A model's way between the formats: weights, tokenizer and the sampling its makers want all come along.
# $1 = the program. Prints "ok ..." or "FAILED ..." per check.
set -u
program=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
check() { if eval "$2"; then echo "ok $1"; else echo "FAILED $1"; fi; }
sampling() { "$program" show "$1" --json | grep -o '"sampling": {[^}]*}'; }

"$program" convert mini "$work/folder" --type f32 >"$work/log" 2>&1
check "GGUF to folder" "[ -s $work/folder/model.safetensors ] && [ -s $work/folder/config.json ] && [ -s $work/folder/tokenizer.json ]"
check "the stop ids are in generation_config.json" "grep -q eos_token_id $work/folder/generation_config.json"

# The folder's own file, with a key that only its readers know.
sed -i -E '/"(do_sample|temperature|top_k|top_p)"/d' "$work/folder/generation_config.json"  # what the model itself asks for
sed -i '0,/{/s//{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.05, "max_new_tokens": 7,/' "$work/folder/generation_config.json"
wanted='"sampling": {"do_sample": true, "temperature": 0.6, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.05, "top_k": 20}'
check "show prints the folder's sampling" "[ \"\$(sampling $work/folder)\" = '$wanted' ]"
"$program" quantize "$work/folder" "$work/small.gguf" --type q8_0 >"$work/log" 2>&1
check "quantize carries it into GGUF keys" "[ \"\$(sampling $work/small.gguf)\" = '$wanted' ]"
"$program" convert "$work/small.gguf" "$work/again.gguf" --type f16 >"$work/log" 2>&1
check "GGUF to GGUF keeps it" "[ \"\$(sampling $work/again.gguf)\" = '$wanted' ]"
"$program" convert "$work/again.gguf" "$work/back" >"$work/log" 2>&1
check "GGUF to folder writes it back" "[ \"\$(sampling $work/back)\" = '$wanted' ] && grep -q eos_token_id $work/back/generation_config.json"
"$program" convert "$work/folder" "$work/copy" --type bf16 >"$work/log" 2>&1
check "folder to folder keeps the other keys" "grep -q max_new_tokens $work/copy/generation_config.json"

for form in folder small.gguf; do
  "$program" tokenize -m "$work/$form" --text '春江 <|im_end|> x' --json >"$work/ids.$form"
done
check "both forms tokenise alike" "[ -s $work/ids.folder ] && cmp -s $work/ids.folder $work/ids.small.gguf"

# What a model states is what a request that says nothing gets: greedy here, whatever the seed.
printf '{"do_sample": false}' >"$work/copy/generation_config.json"
for seed in 1 2; do "$program" complete -m "$work/copy" -p '春' --max-tokens 16 --seed $seed >"$work/greedy$seed"; done
check "do_sample false is greedy" "[ -s $work/greedy1 ] && cmp -s $work/greedy1 $work/greedy2"
for seed in 1 2; do "$program" complete -m "$work/copy" -p '春' --max-tokens 16 --seed $seed --temperature 2 >"$work/hot$seed"; done
check "a request may say otherwise" "! cmp -s $work/hot1 $work/hot2"
printf '{"temperature": "hot"}' >"$work/copy/generation_config.json"
"$program" show "$work/copy" >/dev/null 2>"$work/errors"; code=$?
check "a setting that is no number is exit code 3 and names the file" "[ $code -eq 3 ] && grep -q 'generation_config.json: temperature' $work/errors"

text=$work/text; printf '床前明月光，疑是地上霜。举头望明月，低头思故乡。' >"$text"
"$program" quantize mini "$work/q8.gguf" --type q8_0 --file "$text" --json >"$work/report"
before=$(grep -o '"ppl_before": [0-9.]*' "$work/report" | grep -o '[0-9.]*$'); scored=$("$program" score -m mini --file "$text" --json | grep -o '"ppl": [0-9.]*' | grep -o '[0-9.]*$')
check "quantize and score agree on the perplexity" "[ -n '$before' ] && [ '$before' = '$scored' ]"

# Calibration and what number formats cost. The shipped model is in Q8_0, so Q8_0 must cost nothing.
for i in $(seq 20); do printf '春江潮水连海平，海上明月共潮生。床前明月光，疑是地上霜。\n'; done >"$work/calibration"
"$program" imatrix -m mini -f "$work/calibration" -o "$work/i.gguf" >"$work/log" && "$program" imatrix -m mini -f "$work/calibration" -o "$work/i.dat" >>"$work/log"
check "imatrix writes both layouts" "[ -s $work/i.gguf ] && [ -s $work/i.dat ] && head -c 4 $work/i.gguf | grep -q GGUF"
"$program" quantize mini "$work/plain.gguf" --type q4_k_m --report "$text" --candidates q8_0 --json >"$work/report"
check "the report finds Q8_0 without loss" "grep -o '\"type\": \"q8_0\", \"bytes\": [0-9]*, \"ppl\": [0-9.]*, \"kl_mean\": 0.0, \"kl_max\": 0.0, \"same_top\": 1.0' $work/report >/dev/null"
check "and recommends a format" "grep -q '\"recommended\": \"q' $work/report"
# Rounding activations, with formats that products round them for: less than what the weights lost, and little in itself.
"$program" quantize mini "$work/x.gguf" --type q8_0 --candidates q6_k,q5_k_m,q4_k_m,q4_0,iq4_xs,iq4_nl,mxfp4,f16 --report "$text" --rounding --json >"$work/report"
tr '{' '\n' <"$work/report" | sed -n 's/.*"type": "\([a-z0-9_]*\)".*"kl_mean": \([0-9.e-]*\).*"kl_rounding": \([0-9.e-]*\).*/\1 \2 \3/p' >"$work/rounding"
check "rounding activations costs less than each format's weights, and is told" \
  "awk '(\$1 != \"f16\" && \$3 <= 0) || \$3 > 0.0015 || (\$1 != \"q8_0\" && \$3 >= \$2) { bad = 1 } END { exit bad || NR != 9 }' $work/rounding"
rm -f "$work/x.gguf"
for form in gguf dat; do "$program" quantize mini "$work/weighed.$form.gguf" --type q4_k_m --imatrix "$work/i.$form" --json >"$work/log"; done
check "an importance matrix changes what is written" "! cmp -s $work/plain.gguf $work/weighed.gguf.gguf && [ -s $work/weighed.dat.gguf ]"
printf 'no matrix' >"$work/bad.dat"
"$program" quantize mini "$work/x.gguf" --type q4_k_m --imatrix "$work/bad.dat" >/dev/null 2>"$work/errors"; code=$?
check "a file that is no importance matrix is exit code 3" "[ $code -eq 3 ] && grep -q bad.dat $work/errors && [ ! -e $work/x.gguf ]"
