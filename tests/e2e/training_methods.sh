#!/usr/bin/env bash
# Every way to train, from lines of JSON through the command to a model that this program loads. $1 = the program.
# Prints "ok ..." or "FAILED ..." per check.
set -u
program=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
check() { if eval "$2"; then echo "ok $1"; else echo "FAILED $1"; fi; }
cd "$work"
"$program" convert mini base --type f32 --json >/dev/null || { echo "FAILED mini becomes a folder"; exit 0; }

# data NAME FORMAT: a configuration over NAME.jsonl; the last quarter is held out.
data() {
  printf 'output = "%s.shards"\ndedup = "none"\n[tokenizer]\nfolder = "base"\n[[source]]\nname = "%s"\npath = "./%s.jsonl"\nformat = "%s"\nlicence = "CC0"\norigin = "test"\nheldout_tail = 0.25\n%s\n' \
    "$1" "$1" "$1" "$2" "${3:-}" >"$1.data.toml"
}
# recipe NAME TABLE...: six steps over these data.
recipe() {
  local name=$1
  shift
  printf 'output = "%s.run"\ndata = "%s.data.toml"\ninit_from = "base"\nsteps = 6\nsequence_length = 64\nbatch_sequences = 3\naccumulation = 2\n' "$name" "$name" >"$name.toml"
  printf '%s\n' "$@" '[optimizer]' 'lr = 2e-4' 'weight_decay = 0.0' '[schedule]' 'kind = "constant"' >>"$name.toml"
}
# falls NAME: the loss of the last step is below that of the first.
falls() {
  python3 - "$1.run/log.jsonl" <<'P'
import json, sys
losses = [json.loads(l)["loss"] for l in open(sys.argv[1]) if '"loss"' in l]
sys.exit(0 if len(losses) == 6 and losses[-1] < losses[0] else 1)
P
}

for i in 1 2 3 4 5 6 7 8; do
  printf '{"prompt":"写一首诗 %s","completion":"明月松间照","label":true}\n{"prompt":"写一首诗 %s","completion":"好的好的","label":false}\n' $i $i
done >rated.jsonl
data rated rating
recipe rated '[kto]' 'beta = 0.3' '[lora]' 'rank = 4'
check "rated answers: kto with an adapter" "'$program' train rated.toml --json >rated.log 2>&1 && falls rated && grep -q '\"drift\"' rated.log"
check "the adapter is applied" "'$program' complete -m mini -p 月 --adapter rated.run/adapter --max-tokens 4 >/dev/null 2>rated.err"

# QLoRA: the matrices inside the layers in four bits, the token table as it is.
check "QLoRA: the base in NF4 is smaller than in its file" \
  "'$program' train rated.toml --set lora.base=nf4 --set output=four.run --json >four.log 2>&1 && falls four && python3 -c \"import json,sys; a,b=(json.loads(x)['memory']['base'] for x in sys.argv[1:]); exit(not b < 0.45 * a)\" \"\$('$program' train --estimate rated.toml --calibrate 0 --json)\" \"\$('$program' train --estimate rated.toml --calibrate 0 --set lora.base=nf4 --json)\""
check "its adapter is applied to the base as it was" "'$program' complete -m mini -p 月 --adapter four.run/adapter --max-tokens 4 >/dev/null 2>four.err"

for i in 1 2 3 4 5 6 7 8; do
  printf '{"text":"明月 %s","label":"moon"}\n{"text":"春江 %s","label":"river"}\n' $i $i
done >kinds.jsonl
data kinds class 'labels = ["moon", "river"]'
recipe kinds '[classes]'
check "classes" "'$program' train kinds.toml --json >kinds.log 2>&1 && falls kinds"
echo '[{"role":"user","content":"明月 3"}]' >moon.json
check "the folder classifies" "'$program' reward -m kinds.run/model --messages moon.json --json | grep -q '\"label\": \"moon\"'"
check "as GGUF too" "'$program' convert kinds.run/model kinds.gguf --type bf16 --json >/dev/null && [ \"\$('$program' reward -m kinds.gguf --messages moon.json)\" = \"\$('$program' reward -m kinds.run/model --messages moon.json)\" ]"

for i in 1 2 3 4 5 6 7 8; do printf '{"prompt":"写一首诗 %s","chosen":"明月松间照","rejected":"好的好的"}\n' $i; done >taste.jsonl
data taste preference
recipe taste '[reward]' 'center = 0.01'
check "rewards" "'$program' train taste.toml --json >taste.log 2>&1 && falls taste"
echo '[{"role":"user","content":"写一首诗 2"},{"role":"assistant","content":"明月松间照"}]' >liked.json
echo '[{"role":"user","content":"写一首诗 2"},{"role":"assistant","content":"好的好的"}]' >not.json
check "the folder rewards what was preferred" \
  "python3 -c \"import json,sys; a,b=(json.loads(x)['score'] for x in sys.argv[1:]); sys.exit(a <= b)\" \"\$('$program' reward -m taste.run/model --messages liked.json)\" \"\$('$program' reward -m taste.run/model --messages not.json)\""

cp kinds.toml kinds8.toml
check "moments of 8 bits" "'$program' train kinds8.toml --set output=kinds8.run --set optimizer.kind=adamw_8bit --json >kinds8.log 2>&1 && falls kinds8"
check "and going on with them gives the same bytes" \
  "'$program' train kinds8.toml --set output=half.run --set optimizer.kind=adamw_8bit --set checkpoint.every=3 --set checkpoint.keep=9 --json >half.log 2>&1 && rm half.run/checkpoints/step-0000000006* && '$program' train kinds8.toml --resume --set output=half.run --set optimizer.kind=adamw_8bit --set checkpoint.every=3 --set checkpoint.keep=9 --json >>half.log 2>&1 && cmp -s half.run/model/model.safetensors kinds8.run/model/model.safetensors"

printf '{"text":"床前明月光"}\n{"text":"疑是地上霜"}\n{"text":"举头望明月"}\n{"text":"低头思故乡"}\n' >lines.jsonl
data lines jsonl
recipe lines '[distill]' 'teacher = "kinds.gguf"'
check "a teacher with another head is refused" "! '$program' train lines.toml --json >lines.log 2>&1 && grep -q 'is not a language model' lines.log"
"$program" convert base mini.gguf --type q8_0 --json >/dev/null
check "distillation from a quantised teacher" "'$program' train lines.toml --set distill.teacher=mini.gguf --set distill.temperature=2.0 --set distill.hard=0.2 --json >lines.log 2>&1 && falls lines"

for i in 1 2 3 4 5 6 7 8; do printf '{"prompt":"写一首诗 %s","answer":"月"}\n' $i; done >asked.jsonl
data asked prompts
recipe asked '[grpo]' 'group = 8' 'max_tokens = 16' '[[grpo.reward]]' 'kind = "regex"' '[[grpo.reward]]' 'kind = "overlong"' 'tokens = 4' 'weight = 0.1' '[lora]' 'rank = 8'
# rises NAME: the mean reward of the last three steps is above that of the first three.
rises() {
  python3 - "$1.run/log.jsonl" <<'P'
import json, sys
steps = [r for r in map(json.loads, open(sys.argv[1])) if "rewards" in r]
rewards = [r["rewards"]["regex"] for r in steps]
sys.exit(0 if len(rewards) == 12 and sum(rewards[-3:]) > sum(rewards[:3]) and max(r["sampler_gap"] for r in steps) < 0.05 else 1)
P
}
check "answers of its own: grpo with an adapter, drawn by the engine that serves" "'$program' train asked.toml --set steps=12 --set batch_sequences=16 --set optimizer.lr=0.01 --set seed=3 --json >asked.log 2>&1 && rises asked && grep -q '\"eval_loss\"' asked.log"

i=0
for line in 月 花 山 水 风 雨 春 秋; do
  i=$((i + 1))
  printf '{"query":"%s","positive":"第%s首","negatives":["无%s"]}\n' $line $i $i
done >finds.jsonl
data finds retrieval 'instruction = "Find"'
sed -i 's/heldout_tail = 0.25//' finds.data.toml
recipe finds '[embedding]'
check "embeddings" "'$program' train finds.toml --set steps=12 --set batch_sequences=4 --set optimizer.lr=0.00002 --json >finds.log 2>&1 && python3 -c \"import json; l=[json.loads(x) for x in open('finds.run/log.jsonl')]; l=[x['loss'] for x in l if 'loss' in x]; exit(len(l) != 12 or l[-1] >= l[0])\""
printf '{"text":"%s"}\n' 第1首 第2首 第3首 >found.jsonl
check "the folder embeds, the query nearest to its own document" \
  "'$program' embed -m finds.run/model --lines --file found.jsonl >found.json && '$program' embed -m finds.run/model --instruct Find -p 月 >asked.json && python3 -c \"import json; q=json.load(open('asked.json')); d=[sum(a*b for a,b in zip(q,json.loads(x))) for x in open('found.json')]; exit(d[0] != max(d))\""

# Cleaning: what tells of people is replaced by the program's own finder, and what evaluations ask is left out.
mkdir -p pages eval
printf '<html><body><nav>menu</nav><p>write to someone@example.org</p></body></html>' >pages/a.html
printf '<p>one two three four five six seven eight nine ten eleven twelve thirteen</p>' >pages/b.html
echo '{"question":"one two three four five six seven eight nine ten eleven twelve thirteen"}' >eval/test.jsonl
printf 'output = "pages.shards"\nkeep_out = ["eval"]\n[tokenizer]\nfolder = "base"\n[[source]]\nname = "pages"\npath = "./pages"\nformat = "html"\nlicence = "CC0"\norigin = "test"\n[source.clean]\npersonal_data = "eu"\n' >pages.toml
check "pages are cleaned" "'$program' data build pages.toml --json >pages.json 2>pages.err && grep -q '\"held_out_elsewhere\": 1' pages.json && grep -q '\"personal_data_replaced\": 1' pages.json && '$program' data show pages.shards --samples 1 | grep -qx 'write to .email.<|endoftext|>'"

"$program" tokenizer extend base words --add yes --add no --plain --json >/dev/null || echo "FAILED mini learns two words"
for i in 1 2 3 4 5 6 7 8; do printf '{"query":"诗%s","positive":"明月","negatives":["好的"]}\n' $i; done >ranks.jsonl
data ranks ranking 'instruction = "R"'
sed -i 's/"base"/"words"/; s/heldout_tail = 0.25//' ranks.data.toml
recipe ranks '[ranking]'
sed -i 's/"base"/"words"/; s/sequence_length = 64/sequence_length = 400/' ranks.toml
check "rankings" "'$program' train ranks.toml --set optimizer.lr=0.00003 --json >ranks.log 2>&1 && falls ranks"
printf '{"text":"好的"}\n{"text":"明月"}\n' >two.jsonl
check "the folder ranks" "'$program' rerank -m ranks.run/model --instruct R --query 诗9 --file two.jsonl --top-n 1 | grep -q 明月"
