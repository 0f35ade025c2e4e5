"""Answers that are marked, alone and together, with drafts and without, and the search for their marks.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import urllib.request

from service import call, check, start_service, wait_for

program = sys.argv[1]
LONG = 400  # tokens of an answer, which the model does not end: what is found of a short text is luck


def govern(*words, input=None):
    return subprocess.run([program, "govern", "watermark", *map(str, words)], capture_output=True, text=True, timeout=60, input=input)


def ask(port, seed, **more):
    """Text and X-Watermark of an answer."""
    body = {"model": "mini", "prompt": "The fox", "max_tokens": LONG, "seed": seed, "temperature": 1, "top_k": 40, "ignore_eos": True, **more}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["choices"][0]["text"], answer.headers["X-Watermark"]


def pinned(keys, made, number):
    """The key that was made, with a secret of this test's: of keys that are drawn one in some thousand finds its mark by chance."""
    file = json.loads(keys.read_text())
    for key in file["watermark_keys"]:
        if key["id"] == made["id"]:
            key["secret"] = f"{number:02x}" * 32
    keys.write_text(json.dumps(file))
    return made


def stop(server):
    server.terminate()
    return server.wait(60)


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    keys, audit = work / "keys", work / "audit.key"

    def results(port, texts):
        status, body = call(port, "POST", "/v1/content_provenance", {"input": texts})
        return body["results"] if status == 200 else [body]

    server, port = start_service(program, work / "plain.log", "-m", "mini")
    try:
        plain = [ask(port, seed) for seed in range(4)]
        greedy = ask(port, 0, temperature=0)
        check("watermark: without keys nothing is marked", plain[0][1] is None)
        status, body = call(port, "POST", "/v1/content_provenance", {"input": "x"})
        check("watermark: without keys nobody can say whose a text is", status == 501 and body["error"]["code"] == "no_watermark")
    finally:
        stop(server)

    missing = subprocess.run([program, "serve", "--port", "0", "-m", "mini", "--watermark-keys", str(keys)], capture_output=True, text=True, timeout=30)
    check("watermark: a file of keys that is not there is refused", missing.returncode != 0 and "keys" in missing.stderr)

    made = pinned(keys, json.loads(govern("add", keys, "--json").stdout), 1)
    check("watermark: the file of keys is its owner's alone", keys.stat().st_mode & 0o77 == 0)
    subprocess.run([program, "govern", "audit", "key", str(audit)], capture_output=True, check=True)
    for scheme in ("synthid", "gumbel"):
        if scheme == "gumbel":
            made = pinned(keys, json.loads(govern("add", keys, "--scheme", "gumbel", "--json").stdout), 2)
        words = ("-m", "mini", "--watermark-keys", str(keys))
        server, port = start_service(program, work / "alone.log", *words, "--draft", "off", "--audit-log", str(work / f"log-{scheme}"),
                                     "--audit-key", str(audit))
        try:
            alone = [ask(port, seed) for seed in range(4)]
            check(f"watermark: {scheme} is told", all(mark == scheme for _, mark in alone))
            check(f"watermark: {scheme} changes what is drawn", all(a[0] != p[0] for a, p in zip(alone, plain)))
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                together = list(pool.map(lambda seed: ask(port, seed % 4), range(8)))
            check(f"watermark: {scheme}: the same alone and together", together == alone + alone)
            check(f"watermark: {scheme}: greedy answers are as without keys, and say so", ask(port, 0, temperature=0) == (greedy[0], "none"))
            record = [json.loads(line) for line in (work / f"log-{scheme}" / "records.jsonl").read_text().splitlines()]
            marked = [r["watermark"] for r in record if r["type"] == "generation"]
            check(f"watermark: {scheme}: on record with its key", marked[0] == made["id"] and marked[-1] is None)

            text = alone[0][0]
            found = results(port, [text, plain[0][0], "Too short."])
            check(f"watermark: {scheme}: found where it is, with the key, and nowhere else",
                  [r["verdict"] for r in found] == ["marked", "not_found", "inconclusive"] and found[0]["tests"][0]["key"] == made["id"]
                  and found[0]["p_value"] < 1e-6 and found[0]["basis"] == "watermark")
            told = govern("detect", keys, "-m", "mini", "--json", input=text)
            check(f"watermark: {scheme}: the command says what the service says", json.loads(told.stdout) == found[0])
            quoted = plain[1][0] + text[len(text) // 4:] + plain[2][0]
            check(f"watermark: {scheme}: found in a longer text", results(port, [quoted])[0]["verdict"] == "marked")
            check(f"watermark: {scheme}: characters that do not show hide nothing",
                  results(port, ["\u200b".join(text)])[0]["p_value"] == found[0]["p_value"])
            detections = [json.loads(line) for line in (work / f"log-{scheme}" / "records.jsonl").read_text().splitlines()][-1]
            check(f"watermark: {scheme}: who looked is on record", detections["type"] == "detection" and text not in json.dumps(detections))
        finally:
            stop(server)
        server, port = start_service(program, work / "drafts.log", *words, "--draft", "lookup")
        try:
            check(f"watermark: {scheme}: the same with drafts", [ask(port, seed) for seed in range(4)] == alone)
            if scheme == "gumbel":
                # The key is turned while the service runs.
                old, made = made, pinned(keys, json.loads(govern("add", keys, "--json").stdout), 3)
                govern("retire", keys, old["id"])
                os.kill(server.pid, signal.SIGHUP)
                wait_for(work / "drafts.log", "watermark key for new answers: " + made["id"])
                fresh = ask(port, 0)
                both = results(port, [alone[0][0], fresh[0]])
                check("watermark: a key that was turned marks no more, and is still found",
                      fresh[1] == "synthid" and [r["tests"][0]["key"] for r in both] == [old["id"], made["id"]]
                      and all(r["verdict"] == "marked" for r in both))
                keys.write_text("{}")
                os.kill(server.pid, signal.SIGHUP)
                wait_for(work / "drafts.log", "the watermark keys in use stay")
                check("watermark: keys that cannot be read leave those in use", ask(port, 0) == fresh)
        finally:
            stop(server)
