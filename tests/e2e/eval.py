"""qianwen eval: what it says of items is what `score` and `complete` say of the same texts, whatever runs beside; two models side
by side; refusals. argv[1] = the program. Prints "ok ..." or "FAILED ..." per check."""
import json
import math
import os
import subprocess
import sys
import tempfile

from service import start_service

PROGRAM = sys.argv[1]
POEMS = ["春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。", "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
         "床前明月光，疑是地上霜。举头望明月，低头思故乡。", "千山鸟飞绝，万径人踪灭。孤舟蓑笠翁，独钓寒江雪。"]


def check(what, fine, seen=""):
    print(f"ok {what}" if fine else f"FAILED {what} {seen}", flush=True)


def run(*arguments, code=0):
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode != code:
        check(f"{' '.join(arguments)} ends with {code}", False, f"{done.returncode}: {done.stderr}")
    return done.stdout if code == 0 else done.stderr


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def ids_of(text):
    return json.loads(run("tokenize", "-m", "mini", "--text", text, "--json"))["ids"]


def score(ids):
    """Log-likelihoods of all but the first."""
    return json.loads(run("score", "-m", "mini", "--ids", ",".join(map(str, ids)), "--json"))["token_logprobs"]


def write(path, text):
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)


def evaluate(folder, task, *more):
    samples = f"{folder}/samples.jsonl"
    results = lines(run("eval", "-m", "mini", "--task", task, "--samples", samples, *more))
    with open(samples, encoding="utf-8") as file:
        return results, lines(file.read())


def choice_task(folder):
    write(f"{folder}/items.jsonl", "".join(json.dumps({"q": p[:6], "c": [p[6:12], q[6:12]], "a": 0}) + "\n"
                                           for p, q in zip(POEMS, POEMS[1:] + POEMS[:1])))
    task = f"{folder}/lines.toml"
    write(task, 'kind = "choice"\nmeasures = ["acc", "acc_norm"]\n[data]\nitems = ["items.jsonl"]\n[prompt]\nseparator = ""\n'
                'description = "唐诗。"\ncontext = "{{ q }}"\nchoice_list = "{{ c|tojson }}"\nanswer = "{{ a }}"\n')
    return task


def choices(folder):
    task = choice_task(folder)
    results, samples = evaluate(folder, task, "--shots", "1")
    expected = []
    for sample in samples[:2]:
        for choice in sample["choices"]:
            context, whole = ids_of(sample["prompt"]), ids_of(sample["prompt"] + choice["text"])
            expected.append(sum(score(whole)[len(context) - 1:]) - choice["loglikelihood"])
    check("likelihoods are those of `score`", all(abs(d) < 1e-4 for d in expected), expected)
    right = [max(range(2), key=lambda i: s["choices"][i]["loglikelihood"]) == s["answer"] for s in samples]
    check("acc is the share of items whose best choice is right", results[0]["value"] == sum(right) / 4 and results[0]["n"] == 4, results)
    check("an item's example is another item", POEMS[1][:12] in samples[0]["prompt"] and POEMS[0][:12] not in samples[0]["prompt"], samples[0])
    alone = evaluate(folder, task, "--shots", "1", "--limit", "1", "-t", "1")[1]
    check("an item alone gives the same bytes as among others", alone[0] == samples[0], alone)
    shown = lines(run("eval", "-m", "mini", "--task", task, "--shots", "1", "--show-prompts"))
    check("--show-prompts prints what is read", [s["prompt"] for s in shown] == [s["prompt"] for s in samples])
    compared = lines(run("eval", "-m", "mini", "-m", "mini", "--task", task))[-1]
    check("a model is as good as itself", compared["difference"] == 0 and compared["p"] == 1 and compared["better_items"] == [], compared)
    write(f"{folder}/a.jsonl", "".join(json.dumps(s) + "\n" for s in samples))
    for s in samples:
        s["values"]["acc"] = 1 - s["values"]["acc"]
    write(f"{folder}/b.jsonl", "".join(json.dumps(s) + "\n" for s in samples))
    compared = lines(run("eval", "--compare", f"{folder}/a.jsonl", f"{folder}/b.jsonl"))[0]
    check("--compare names the questions that changed", compared["better"] == 4 - sum(right) and compared["worse"] == sum(right)
          and sorted(compared["better_items"] + compared["worse_items"]) == ["0", "1", "2", "3"], compared)


def windows(folder):
    text = "".join(POEMS)
    write(f"{folder}/text.txt", text)
    result = {r["metric"]: r["value"] for r in evaluate(folder, "text", "--data", folder, "--context", "32")[0]}
    ids = ids_of("<|im_end|>" + text)  # the vocabulary has no token that begins texts
    total, done = 0.0, 1
    while done < len(ids):
        end = min(len(ids), done + 32)
        begin = max(0, end - 33)
        total += sum(score(ids[begin:end])[done - begin - 1:])
        done = end
    bits = -total / math.log(2) / len(text.encode())
    check("a text is read in windows that meet", len(ids) > 65 and abs(result["bits_per_byte"] - bits) < 1e-5, (result, bits))
    check("and perplexities follow", abs(result["byte_perplexity"] - 2 ** bits) < 1e-4, result)


def answers(folder):
    write(f"{folder}/ask.jsonl", "".join(json.dumps({"q": p[:5]}) + "\n" for p in POEMS))
    task = f"{folder}/ask.toml"
    write(task, 'kind = "generate"\n[data]\nitems = ["ask.jsonl"]\n[prompt]\ncontext = "{{ q }}"\ntarget = "x"\n[generate]\n'
                'stop = ["。"]\nmax_tokens = 24\n[[measure]]\nmetric = "exact_match"\n')
    samples = evaluate(folder, task)[1]
    for sample in samples[:2]:
        said = run("complete", "-m", "mini", "-p", sample["prompt"], "--temperature", "0", "--max-tokens", "24")
        said = said.removeprefix(sample["prompt"])
        check("an answer is what `complete` writes, up to the stop word", said.split("。")[0].strip() == sample["output"].strip(), (said, sample["output"]))


def served(folder):
    """The same answers over HTTP, from the service of the same model."""
    write(f"{folder}/ask.jsonl", "".join(json.dumps({"q": p[:5]}) + "\n" for p in POEMS))
    write(f"{folder}/ask.toml", 'kind = "generate"\n[data]\nitems = ["ask.jsonl"]\n[prompt]\ncontext = "{{ q }}"\ntarget = "x"\n[generate]\n'
          'stop = ["。", "1", "2", "3", "，"]\nmax_tokens = 16\n[[measure]]\nmetric = "exact_match"\n')
    server, port = start_service(PROGRAM, f"{folder}/log", "-m", "mini")
    try:
        for way in ([], ["--chat"]):
            outputs = []
            for model in ("mini", f"http://127.0.0.1:{port}/v1"):
                run("eval", "-m", model, "--task", f"{folder}/ask.toml", "--samples", f"{folder}/samples.jsonl", *way)
                with open(f"{folder}/samples.jsonl", encoding="utf-8") as file:
                    outputs.append([s["output"] for s in lines(file.read())])
            check(f"a served model answers as the model does {' '.join(way)}", outputs[0] == outputs[1] and any(outputs[0]), outputs)
        task, found = choice_task(folder), []
        for model in ("mini", f"http://127.0.0.1:{port}"):
            run("eval", "-m", model, "--task", task, "--shots", "1", "--samples", f"{folder}/samples.jsonl")
            with open(f"{folder}/samples.jsonl", encoding="utf-8") as file:
                found.append([[c["loglikelihood"] for c in s["choices"]] for s in lines(file.read())])
        apart = max(abs(a - b) for one, other in zip(*found) for a, b in zip(one, other))
        check("and says how likely texts are as it does", len(found[1]) == 4 and apart < 1e-4, (apart, found))
        write(f"{folder}/text.txt", "x")
        said = run("eval", "-m", f"http://127.0.0.1:{port}", "--task", "text", "--data", folder, code=2)
        check("and whole texts are refused", "need the model itself" in said, said)
        said = run("eval", "-m", f"http://127.0.0.1:{port}", "--task", task, "--chat", code=2)
        check("and so is what follows a conversation", "need the model itself" in said, said)
    finally:
        server.terminate()
        server.wait()


def refusals(folder):
    check("an unknown task is named with all there are", "arc_challenge" in run("eval", "-m", "mini", "--task", "nope", "--data", folder, code=2))
    write(f"{folder}/bad.toml", 'kind = "choice"\n\nmeasure = 1\n')
    check("a task file's error has its line", "bad.toml:" in run("eval", "-m", "mini", "--task", f"{folder}/bad.toml", code=3))
    check("missing files are named", "gsm8k/test.jsonl" in run("eval", "-m", "mini", "--task", "gsm8k", "--data", folder, code=3))
    check("programs are run when that is allowed only", "--run-code" in run("eval", "-m", "mini", "--task", "humaneval", "--data", folder, code=4))


with tempfile.TemporaryDirectory() as work:
    for part in (choices, windows, answers, served, refusals):
        place = os.path.join(work, part.__name__)
        os.mkdir(place)
        part(place)
