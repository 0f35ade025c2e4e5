"""Several models under one memory limit, and drafts, as a client sees them: the service with copies of the shipped model.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import concurrent.futures
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from service import check, start_service

program = sys.argv[1]
mini = pathlib.Path(__file__).resolve().parents[2] / "models" / "mini" / "mini.gguf"
poem = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"


def ask(port, model, prompt=poem, **more):
    body = {"model": model, "prompt": prompt, "max_tokens": 24, "seed": 7, **more}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def figures(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode().splitlines()


def refusal(*words):
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    names = ["one", "two", "three"]
    for name in names:
        shutil.copy(mini, work / f"{name}.gguf")
    models = [word for name in names for word in ("-m", str(work / f"{name}.gguf"))]
    small = ["--cache-tokens", "1024", "--max-sequences", "4"]

    # What one of them needs is in the refusal of less.
    code, said = refusal("serve", "--port", "0", *models[:2], *small, "--memory", "1M")
    need = re.search(r"the model one needs ([0-9.]+) GB", said)
    check("a model that cannot fit is refused with both sizes", code == 5 and need is not None)
    check("the refusal names the limit", "more than the 0.00 GB that all models may take" in said)
    one = float(need.group(1)) if need else 0.1

    def loads():
        return re.findall(r" loaded (\w+) in", (work / "log").read_text())

    server, port = start_service(program, work / "log", *models, *small, "--memory", str(int(2.2e9 * one) + 5_000_000))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=10) as answer:
            listed = [entry["id"] for entry in json.load(answer)["data"]]
        check("all models are listed, loaded or not", listed == names)
        check("the first is loaded at the start", loads() == ["one"])
        first = ask(port, "one")
        check("each answers under its name, and copies alike", first[0] == 200 and all(
            ask(port, name)[1]["choices"] == first[1]["choices"] for name in names))
        check("two fit: the third took the place of the one used longest ago", loads() == ["one", "two", "three"])
        ask(port, "two")
        check("what is loaded is not loaded again", loads() == ["one", "two", "three"])
        ask(port, "one")
        check("what was unloaded comes back", loads() == ["one", "two", "three", "one"])
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: ask(port, names[i % 3]), range(24)))
        check("under load each waits for its model and is right", all(a[1].get("choices") == first[1]["choices"] for a in answers))
        loaded = sum(float(line.rsplit(" ", 1)[1]) for line in figures(port) if line.startswith("qianwen_model_loaded{"))
        check("no more than two are loaded", loaded in (1, 2))
        check("a model nobody has is a 404", ask(port, "four")[0] == 404)
    finally:
        server.terminate()
        check("it stops cleanly", server.wait(30) == 0)

    server, port = start_service(program, work / "log", *models, *small, "--unload-after", "1")
    try:
        check("without a limit all are loaded at the start", loads() == names)
        end = time.monotonic() + 20
        while time.monotonic() < end and len(re.findall(r"unloaded \w+", (work / "log").read_text())) < 3:
            time.sleep(0.1)
        check("what nobody uses is unloaded", len(re.findall(r"unloaded \w+", (work / "log").read_text())) == 3)
        check("and comes back when asked for", ask(port, "two")[1]["choices"] == first[1]["choices"] and loads() == names + ["two"])
    finally:
        server.terminate()
        check("it stops cleanly again", server.wait(30) == 0)

    def answers_with(*words):
        process, at = start_service(program, work / "log", *models[:2], *small, *words)
        try:
            return [ask(at, "one", prompt=poem * 3, temperature=t, max_tokens=60, logprobs=2)[1] for t in (0, 0.7)]
        finally:
            process.terminate()
            process.wait(30)

    plain, lookup = answers_with("--draft", "off"), answers_with("--draft", "auto")
    second = answers_with("--draft", str(work / "two.gguf"))
    same = lambda a, b: all(x["choices"] == y["choices"] for x, y in zip(a, b))
    check("answers with drafts are the same, log-probabilities and all", same(plain, lookup) and same(plain, second))
    check("without drafts there are none to count", all("completion_tokens_details" not in a["usage"] for a in plain))
    code, said = refusal("complete", "-m", "mini", "-p", "春", "--draft", "mtp")
    check("a model without layers that draft says so", code == 2 and "has no layers that draft" in said)
