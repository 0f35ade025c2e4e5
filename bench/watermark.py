#!/usr/bin/env python3
"""What watermarks are worth and what they cost: how many marked texts are found at a false-positive rate of 0.1 %, by length, after
edits and in longer texts; perplexity and repetition; tokens per second.

usage: bench/watermark.py PROGRAM [--model mini] [--texts 40] [--tokens 1000] [--speed]

Without --speed: detection and quality. With it: speed alone, to be run on a quiet machine. Texts are completions at temperature 1,
top_k 40, of the first words of each prompt below, cut into pieces of each length. Edits act on words (or characters, where there are
no blanks): one in so many is deleted, doubled or replaced by another of the text.
"""
import argparse
import collections
import concurrent.futures
import json
import math
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/e2e"))
from service import start_service  # noqa: E402

PROMPTS = ["The fox", "Once upon a time", "She looked at", "In the morning", "春江", "却说", "In the beginning of the", "He was not"]
LEVEL = 0.001
LENGTHS = (50, 100, 200, 400, 1000)
SCHEMES = {"unmarked": None, "synthid": ["--scheme", "synthid"], "synthid, published hash": ["--scheme", "synthid", "--hash", "reference"],
           "synthid, 8 leaves": ["--scheme", "synthid", "--leaves", "8"], "gumbel": ["--scheme", "gumbel"]}


class Service:
    def __init__(self, program, model, folder, scheme):
        self.keys = pathlib.Path(folder, re.sub(r"\W+", "-", scheme))
        words = ["-m", model]
        if SCHEMES[scheme] is not None:
            if not self.keys.exists():
                subprocess.run([program, "govern", "watermark", "add", self.keys, *SCHEMES[scheme]], check=True, capture_output=True)
            words += ["--watermark-keys", str(self.keys)]
        self.process, self.port = start_service(program, pathlib.Path(folder, "log"), *words)

    def post(self, path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def write(self, seed, tokens, **more):
        return self.post("/v1/completions", {"prompt": PROMPTS[seed % len(PROMPTS)], "max_tokens": tokens, "min_tokens": tokens, "seed": seed,
                                             "temperature": 1, "top_k": 40, "top_p": 1, "ignore_eos": True, **more})["choices"][0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)


def edited(text, share, rng):
    parts = re.findall(r"\s*[^\s\u2e80-\u9fff\uff00-\uffef]+|\s*[\u2e80-\u9fff\uff00-\uffef]", text)
    out = []
    for part in parts:
        if rng.random() >= share:
            out.append(part)
            continue
        kind = rng.randrange(3)
        if kind == 1:
            out += [part, rng.choice(parts)]
        elif kind == 2:
            out.append(rng.choice(parts))
    return "".join(out)


def repeated(text, n=4):
    """Share of n-grams of characters or words that came before."""
    parts = re.findall(r"[^\s\u2e80-\u9fff]+|[\u2e80-\u9fff]", text)
    grams = collections.Counter(tuple(parts[i:i + n]) for i in range(len(parts) - n + 1))
    total = sum(grams.values())
    return 1 - len(grams) / total if total else 0


class Pieces:
    """Texts cut into pieces of so many tokens."""

    def __init__(self, service, texts):
        self.service = service
        self.ids = [service.post("/v1/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"] for text in texts]

    def of(self, length, most=400):
        out = []
        for ids in self.ids:
            for at in range(0, len(ids) - length * 95 // 100 + 1, length):
                out.append(self.service.post("/v1/detokenize", {"tokens": ids[at:at + length]})["prompt"])
        return out[:most]


def found(program, model, keys, texts):
    lines = "\n".join(json.dumps(t) for t in texts) + "\n"
    done = subprocess.run([program, "govern", "watermark", "detect", keys, "-m", model, "--lines", "--json", "--level", str(LEVEL)],
                          input=lines, capture_output=True, text=True, check=True)
    # By p-value alone: a verdict asks for 40 scored tokens beside.
    return [json.loads(line).get("p_value", 1) < LEVEL for line in done.stdout.splitlines()]


def false_positives(program, model, scheme, texts, folder, keys=30):
    hits = []
    for i in range(keys):
        file = pathlib.Path(folder, f"fresh-{i}-" + re.sub(r"\W+", "-", scheme))
        subprocess.run([program, "govern", "watermark", "add", file, *SCHEMES[scheme]], check=True, capture_output=True)
        hits += found(program, model, file, texts)
    return hits


def share(hits):
    return f"{sum(hits) / len(hits):6.1%} of {len(hits)}"


def detection(program, model, texts, tokens, folder):
    written, nll = {}, {}
    for scheme in SCHEMES:
        with Service(program, model, folder, scheme) as service, concurrent.futures.ThreadPoolExecutor(8) as pool:
            choices = list(pool.map(lambda seed: service.write(seed, tokens, logprobs=1), range(texts)))
        written[scheme] = [c["text"] for c in choices]
        nll[scheme] = [-x for c in choices for x in c["logprobs"]["token_logprobs"] if x is not None]
    with Service(program, model, folder, "unmarked") as service:
        plain = Pieces(service, written["unmarked"])
        lengths = [n for n in LENGTHS if n <= tokens]
        plain_pieces = {n: plain.of(n) for n in lengths}
        for scheme in SCHEMES:
            print(f"\n{scheme}: perplexity {math.exp(statistics.mean(nll[scheme])):.2f} (standard error "
                  f"{math.exp(statistics.mean(nll[scheme])) * statistics.stdev(nll[scheme]) / math.sqrt(len(nll[scheme])):.2f}), repeated 4-grams "
                  f"{statistics.mean(repeated(t) for t in written[scheme]):.2%}")
            if scheme == "unmarked":
                continue
            keys = pathlib.Path(folder, re.sub(r"\W+", "-", scheme))
            marked = Pieces(service, written[scheme])
            rng = random.Random(1)
            print(f"{'tokens':>8} {'found':>16} {'falsely':>16} {'1 in 10 edited':>16} {'3 in 10 edited':>16}")
            for n in lengths:
                pieces = marked.of(n)
                cells = [pieces, plain_pieces[n], [edited(t, 0.1, rng) for t in pieces], [edited(t, 0.3, rng) for t in pieces]]
                print(f"{n:8} " + " ".join(f"{share(found(program, model, keys, cell)):>16}" for cell in cells), flush=True)
            print(f"unmarked pieces of 400 tokens under 30 fresh keys: {sum(hits := false_positives(program, model, scheme, plain.of(400), folder)) / len(hits):.2%} "
                  f"of {len(hits)} found falsely", flush=True)
            for n in (100, 200):
                longer = [a[:len(a) // 2] + quote + a[len(a) // 2:] for a, quote in zip(written["unmarked"], marked.of(n, len(written["unmarked"])))]
                print(f"a quote of {n} tokens in an unmarked text of {tokens}: {share(found(program, model, keys, longer))}", flush=True)


def speed(program, model, folder):
    services = {}
    try:
        for scheme in SCHEMES:
            services[scheme] = Service(program, model, folder, scheme)
        for top_k in (20, 0):
            times = {scheme: [] for scheme in SCHEMES}
            for round in range(5):
                for scheme, service in services.items():
                    begun = time.perf_counter()
                    service.write(round, 200, top_k=top_k)
                    times[scheme].append(200 / (time.perf_counter() - begun))
            base = statistics.median(times["unmarked"])
            for scheme in SCHEMES:
                rate = statistics.median(times[scheme])
                print(f"top_k {top_k or 'all':>3}  {scheme:24} {rate:8.1f} tokens/s  {rate / base:6.1%}")
    finally:
        for service in services.values():
            service.__exit__()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--speed", action="store_true")
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if o.speed:
            speed(o.program, o.model, folder)
        else:
            detection(o.program, o.model, o.texts, o.tokens, folder)


main()
