#!/usr/bin/env python3
"""qianwen eval beside lm-evaluation-harness: the same items, the same model, item by item.

    python3 -m venv v && v/bin/pip install lm-eval torch transformers
    build/release/qianwen convert mini /tmp/mini --type f32   # each weight as both will take it
    v/bin/python tools/reference/compare_lm_eval.py --program build/release/qianwen --model /tmp/mini \
        --data FOLDER --limit 100 [--task arc_easy,gsm8k] [--chat]

The harness runs its own task files (its prompts, filters and metrics) with transformers in float32; only where the items come
from is replaced: FOLDER holds them as the data sets' authors or open_lm publish them (docs/evaluation.md), and they are turned
into the harness's columns here. Prompts must be the same bytes, log-likelihoods agree within a tolerance, and each item's
metrics be the same (an item whose two best choices lie within the tolerance may fall either way: it is counted). Ends with 1 if
anything else differs.
"""
import argparse
import csv
import glob
import json
import lzma
import os
import re
import subprocess
import sys
import tempfile

TOLERANCE = 2e-3  # nats of a continuation: two float32 forwards that add in other orders


def rows(path):
    opened = lzma.open(path, "rt", encoding="utf-8") if path.endswith(".xz") else open(path, encoding="utf-8")
    with opened as lines:
        return [json.loads(line) for line in lines if line.strip()]


def question_of(row):
    return row["query"].strip().removeprefix("Question: ")


def arc(name):
    def make(folder):
        return {"test": [{"question": question_of(r), "choices": {"text": r["choices"], "label": [str(i) for i in range(len(r["choices"]))]},
                          "answerKey": str(r["gold"])} for r in rows(f"{folder}/openlm/{name}.jsonl")]}
    return make


def piqa(folder):
    return {"validation": [{"goal": question_of(r), "sol1": r["choices"][0], "sol2": r["choices"][1], "label": r["gold"]}
                           for r in rows(f"{folder}/openlm/piqa.jsonl")]}


def winogrande(folder):
    out = []
    for r in rows(f"{folder}/openlm/winogrande.jsonl"):
        one, two = r["context_options"]
        same = os.path.commonprefix([one, two])
        out.append({"sentence": f"{same}_ {r['continuation']}", "option1": one[len(same):], "option2": two[len(same):],
                    "answer": str(r["gold"] + 1)})
    return {"validation": out}


def boolq(folder):
    out = []
    for r in rows(f"{folder}/openlm/boolq.jsonl"):
        passage, question = r["query"].strip().removeprefix("Passage: ").rsplit("\nQuestion: ", 1)
        out.append({"passage": passage, "question": question.removesuffix("?"), "label": r["gold"], "idx": 0})
    return {"validation": out}


def lambada(folder):
    return {"test": [{"text": f"{r['context']} {r['continuation']}"} for r in rows(f"{folder}/openlm/lambada_openai.jsonl")]}


def gsm8k(folder):
    return {"test": rows(f"{folder}/gsm8k/test.jsonl"), "train": rows(glob.glob(f"{folder}/gsm8k/train.jsonl*")[0])}


def mmlu(subject):
    def make(folder):
        out = {}
        for split in ("test", "dev"):
            with open(f"{folder}/mmlu/{split}/{subject}_{split}.csv", encoding="utf-8", newline="") as file:
                table = [r for r in csv.reader(file) if r[0] != "question"]
            out[split] = [{"question": r[0], "choices": r[1:5], "answer": "ABCD".index(r[5]) if r[5] in "ABCD" else int(r[5])} for r in table]
        return out
    return make


def wikitext(folder):
    text = open(f"{folder}/ppl/wikitext2_valid.txt", encoding="utf-8").read()
    pages, begin, at = [], 0, 0
    for line in text.splitlines(keepends=True):
        bare = line.strip(" \n")
        if at > 0 and re.fullmatch(r"= .*? =", bare) and not bare.startswith("= =") and not bare.endswith("= =") and len(bare) > 4:
            pages.append(text[begin:at])
            begin = at
        at += len(line)
    pages.append(text[begin:])
    return {"test": [{"page": p} for p in pages if p.strip()]}


# Ours: the harness's file, its subject (MMLU), how its columns are made, metrics (ours -> the harness's and the filter's name).
CHOICE = {"acc": ("acc", "none"), "acc_norm": ("acc_norm", "none")}
TASKS = {
    "arc_easy": ("arc/arc_easy.yaml", arc("arc_easy"), CHOICE),
    "arc_challenge": ("arc/arc_easy.yaml", arc("arc_challenge"), CHOICE),
    "piqa": ("piqa/piqa.yaml", piqa, CHOICE),
    "winogrande": ("winogrande/default.yaml", winogrande, {"acc": ("acc", "none")}),
    "boolq": ("super_glue/boolq/default.yaml", boolq, {"acc": ("acc", "none")}),
    "lambada": ("lambada/lambada_openai.yaml", lambada, {"acc": ("acc", "none"), "perplexity": ("perplexity", "none")}),
    "gsm8k": ("gsm8k/gsm8k.yaml", gsm8k,
              {"strict_match": ("exact_match", "strict-match"), "flexible_extract": ("exact_match", "flexible-extract")}),
    "mmlu:anatomy": ("mmlu/default/mmlu_anatomy.yaml", mmlu("anatomy"), {"acc": ("acc", "none")}),
    "mmlu:high_school_physics": ("mmlu/default/mmlu_high_school_physics.yaml", mmlu("high_school_physics"), {"acc": ("acc", "none")}),
    "wikitext": ("wikitext/wikitext.yaml", wikitext, {m: (m, "none") for m in ("word_perplexity", "byte_perplexity", "bits_per_byte")}),
}


def harness(options, names, folder):
    import lm_eval
    from lm_eval.tasks import TaskManager

    root = os.path.dirname(lm_eval.tasks.__file__)
    for name in names:
        file, make, _ = TASKS[name]
        splits = make(options.data)
        paths = {}
        for split, items in splits.items():
            paths[split] = f"{folder}/{name.replace(':', '_')}.{split}.jsonl"
            with open(paths[split], "w", encoding="utf-8") as out:
                out.writelines(json.dumps(item) + "\n" for item in items)
        source = f"{root}/{file}"
        lines = [f"include: {source}", f"task: qw_{name.replace(':', '_')}", "dataset_path: json", "dataset_name: null", "tag: null",
                 "dataset_kwargs: " + json.dumps({"data_files": paths})]
        if name == "gsm8k":  # the harness draws examples with Python's generator; here both take the first
            lines.append("fewshot_config: {sampler: first_n}")
        if name.startswith("mmlu"):
            lines.append("num_fewshot: 5")
        for split in ("training", "validation", "test"):
            present = {"training": "train"}.get(split, split) in splits
            lines.append(f"{split}_split: {({'training': 'train'}.get(split, split)) if present else 'null'}")
        with open(f"{folder}/qw_{name.replace(':', '_')}.yaml", "w", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")
    if options.served:
        arguments = {"model": "local-completions",
                     "model_args": {"model": os.path.basename(options.model), "base_url": f"{options.served}/v1/completions", "tokenizer": options.model,
                                    "tokenizer_backend": "huggingface", "max_length": options.context, "num_concurrent": 4}}
    else:
        arguments = {"model": "hf", "model_args": {"pretrained": options.model, "dtype": "float32", "device": "cpu", "max_length": options.context}}
    return lm_eval.simple_evaluate(
        **arguments, tasks=[f"qw_{n.replace(':', '_')}" for n in names], limit=options.limit, log_samples=True, bootstrap_iters=0,
        task_manager=TaskManager(include_path=folder, include_defaults=False), batch_size=1, apply_chat_template=options.chat,
        confirm_run_unsafe_code=False, random_seed=None, numpy_random_seed=None, torch_random_seed=None)


def ours(options, names, folder):
    out = {}
    for name in names:
        task, _, subject = name.partition(":")
        data = options.data
        if subject:  # one subject alone: a folder with its two files
            data = f"{folder}/{subject}"
            for split in ("test", "dev"):
                os.makedirs(f"{data}/mmlu/{split}", exist_ok=True)
                os.symlink(os.path.abspath(f"{options.data}/mmlu/{split}/{subject}_{split}.csv"), f"{data}/mmlu/{split}/{subject}_{split}.csv")
        if task == "gsm8k":
            text = open(f"{options.tasks_folder}/gsm8k.toml", encoding="utf-8").read().replace('pick = "random"', 'pick = "first"')
            task = f"{folder}/gsm8k.toml"
            open(task, "w", encoding="utf-8").write(text)
        samples = f"{folder}/{name}.samples.jsonl"
        command = [options.program, "eval", "-m", options.model, "--task", task, "--data", data, "--samples", samples, "--limit",
                   str(options.limit), "--context", str(options.context), "--cache-type", "f32"] + (["--chat"] if options.chat else [])
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        out[name] = ([json.loads(line) for line in lines], rows(samples))
    return out


def harness_samples(result, name, filter_name):
    mine = [s for s in result["samples"][f"qw_{name.replace(':', '_')}"] if s["filter"] == filter_name]
    return sorted(mine, key=lambda s: s["doc_id"])


def compare(options, name, result, lines, samples):
    problems, largest, near = [], 0.0, 0
    metrics = TASKS[name][2]
    for metric, (theirs, filter_name) in metrics.items():
        other = harness_samples(result, name, filter_name)
        if len(other) != len(samples):
            return [f"{len(samples)} items here, {len(other)} there"]
        for sample, reference in zip(samples, other):
            where = f"item {sample['id']}"
            arguments = [a for a in reference["arguments"]] if isinstance(reference["arguments"], (list, tuple)) else \
                [list(v.values()) for v in reference["arguments"].values()]
            close = False
            if "choices" in sample or "loglikelihood" in sample:
                likelihoods = [c["loglikelihood"] for c in sample["choices"]] if "choices" in sample else [sample["loglikelihood"]]
                answers = [r[0] for r in reference["resps"]]
                scores = [float(a[0] if isinstance(a, (list, tuple)) else a) for a in answers]
                scale = 1 if "tokens" not in sample else max(1, sample["tokens"] / 100)
                for a, b in zip(likelihoods, scores):
                    largest = max(largest, abs(a - b) / scale)
                    if abs(a - b) > TOLERANCE * scale:
                        problems.append(f"{where}: log-likelihood {a} here, {b} there")
                ordered = sorted(scores, reverse=True)
                close = len(ordered) > 1 and ordered[0] - ordered[1] < TOLERANCE
            elif not options.served and sample["output"] != reference["resps"][0][0]:
                problems.append(f"{where}: answer {sample['output']!r} here, {reference['resps'][0][0]!r} there")
            if not options.chat and "prompt" in sample and arguments[0][0] != sample["prompt"]:
                problems.append(f"{where}: prompt {sample['prompt']!r} here, {arguments[0][0]!r} there")
            value = sample["values"][metric]
            if metric.endswith(("perplexity", "per_byte")):
                continue
            if value != float(reference[theirs]):
                if close:
                    near += 1
                else:
                    problems.append(f"{where}: {metric} {value} here, {reference[theirs]} there")
        whole = next(line for line in lines if line["metric"] == metric)
        reference = result["results"][f"qw_{name.replace(':', '_')}"][f"{theirs},{filter_name}"]
        if near == 0 and abs(whole["value"] - reference) > 2e-3 * abs(reference) + 1e-12:
            problems.append(f"{metric}: {whole['value']} here, {reference} there")
        print(f"{name:28} {metric:18} n {len(samples):5}  here {whole['value']:.6f}  there {reference:.6f}  largest difference {largest:.2e} nats"
              + (f"  {near} ties" if near else ""), flush=True)
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/qianwen")
    parser.add_argument("--model", required=True, help="a folder that transformers loads too")
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", default=",".join(TASKS))
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--served", help="address of `qianwen serve` with the model: the harness asks that in place of transformers")
    parser.add_argument("--tasks-folder", default=os.path.join(os.path.dirname(__file__), "../../src/eval/tasks"))
    options = parser.parse_args()
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    names = options.task.split(",")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = f"{folder}/hf"
        mine = ours(options, names, folder)
        result = harness(options, names, folder)
        for name in names:
            for problem in compare(options, name, result, *mine[name])[:5]:
                print(f"  {name}: {problem}")
                failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
