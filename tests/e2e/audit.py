"""An audit log while the service answers, is killed under load, meets a disk that takes no more, and is tampered with.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import json
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from service import check, start_service

program = sys.argv[1]
SECRET = "床前明月光"  # of prompts: must not stand in the log


def govern(*words):
    return subprocess.run([program, "govern", "audit", *map(str, words)], capture_output=True, text=True, timeout=60)


def post(port, path, body):
    """Status, X-Request-Id and body, read to the end."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers["X-Request-Id"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["X-Request-Id"], error.read().decode()


def chat(port, stream=False, tokens=8, **more):
    return post(port, "/v1/chat/completions", {"model": "mini", "messages": [{"role": "user", "content": SECRET}], "max_tokens": tokens,
                                               "stream": stream, "temperature": 0.7, "seed": 5, **more})


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    log, key, public = work / "audit", work / "key", work / "key.pub"
    made = govern("key", key, "--json")
    check("audit: a key", made.returncode == 0 and json.loads(made.stdout)["public"] == str(public) and key.stat().st_mode & 0o77 == 0)
    words = ("-m", "mini", "--audit-log", str(log), "--audit-key", str(key))

    def records():
        return [json.loads(line) for line in (log / "records.jsonl").read_text().splitlines()]

    def whole(*more):
        done = govern("verify", log, "--key", public, "--json", *more)
        return done.returncode == 0 and json.loads(done.stdout)["whole"]

    alone = subprocess.run([program, "serve", "--port", "0", "-m", "mini", "--audit-log", str(log)], capture_output=True, text=True, timeout=30)
    check("audit: a log without its key is refused", alone.returncode == 2 and "go together" in alone.stderr)

    server, port = start_service(program, work / "log", *words)
    try:
        first = chat(port)
        told = [r for r in records() if r.get("request") == first[1]]
        check("audit: an answer is on record when it is there", first[0] == 200 and len(told) == 1)
        used = json.loads(first[2])["usage"]
        check("audit: who, which model, how drawn, how much", told[0]["model"] == "mini" and told[0]["path"] == "/v1/chat/completions"
              and told[0]["sampling"]["seed"] == "5" and told[0]["used"]["output"] == used["completion_tokens"]
              and told[0]["used"]["prompt"] == used["prompt_tokens"] and told[0]["outcome"] == "complete")
        again, other = chat(port), chat(port, seed=6)
        by = {r.get("request"): r for r in records()}
        same = lambda field: by[first[1]][field] == by[again[1]][field]
        check("audit: the same question and answer have the same hashes", same("prompts_hmac") and same("choices"))
        check("audit: another seed is another answer to the same question",
              by[first[1]]["prompts_hmac"] == by[other[1]]["prompts_hmac"] and by[first[1]]["choices"] != by[other[1]]["choices"])
        streamed = chat(port, stream=True, n=2)
        check("audit: a stream is on record at its last byte", "[DONE]" in streamed[2] and len(records()[-1]["choices"]) == 2
              and records()[-1]["request"] == streamed[1])
        for path, body in (("/v1/completions", {"model": "mini", "prompt": SECRET, "max_tokens": 4}),
                           ("/v1/messages", {"model": "mini", "max_tokens": 4, "messages": [{"role": "user", "content": SECRET}]}),
                           ("/api/generate", {"model": "mini", "prompt": SECRET, "stream": False, "options": {"num_predict": 4}}),
                           ("/api/v1/services/aigc/text-generation/generation",
                            {"model": "mini", "input": {"prompt": SECRET}, "parameters": {"max_tokens": 4}})):
            status, request, _ = post(port, path, body)
            check(f"audit: {path}", status == 200 and records()[-1]["request"] == request and records()[-1]["path"] == path)
        check("audit: a request that is refused leaves nothing", post(port, "/v1/completions", {"model": "none", "prompt": "x"})[0] == 404
              and records()[-1]["path"].startswith("/api/v1/services"))
        check("audit: no text stands in it", SECRET not in (log / "records.jsonl").read_text())
        check("audit: the start names what runs", records()[0]["type"] == "start" and all(len(f["sha256"]) == 64 for m in records()[0]["models"] for f in m["files"]))
        check("audit: it is whole while the service runs", whole())

        # A disk that takes no more, and then does again.
        size = (log / "records.jsonl").stat().st_size
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        full = chat(port)
        check("audit: no answer without its record", full[0] == 500 and "audit_unavailable" in full[2])
        check("audit: nor the end of a stream", "[DONE]" not in chat(port, stream=True)[2])
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        check("audit: it goes on when there is room", chat(port)[0] == 200 and whole())

        # Killed under load: what was answered is on record.
        answered, stop = [], threading.Event()

        def client():
            while not stop.is_set():
                try:
                    status, request, body = chat(port, stream=True, tokens=4)
                    if "[DONE]" in body:
                        answered.append(request)
                except OSError:
                    return
                except Exception:  # cut off in the middle of a chunk
                    return
        for round in range(3):
            stop.clear()
            threads = [threading.Thread(target=client) for _ in range(4)]
            for t in threads:
                t.start()
            enough, end = len(answered) + 5, time.monotonic() + 30
            while len(answered) < enough and time.monotonic() < end:  # however long an answer takes here
                time.sleep(0.01)
            time.sleep(random.random() * 0.5)
            server.kill()
            server.wait(10)
            stop.set()
            for t in threads:
                t.join()
            server, port = start_service(program, work / "log", *words)
        on_record = {r.get("request") for r in records()}
        check(f"audit: killed three times, {len(answered)} answers and each on record", len(answered) > 10 and on_record.issuperset(answered))
        check("audit: it is whole", whole())
    finally:
        server.terminate()
        check("audit: it stops cleanly", server.wait(30) == 0)
    check("audit: a stop that was asked for is on record", records()[-1]["type"] == "stop" and records()[-2]["type"] == "start")

    # What an inspector does.
    (work / "head").write_text(govern("head", log).stdout)
    check("audit: a head that was put by", whole("--head", work / "head"))
    (work / "proof").write_text(govern("prove", log, 3).stdout)
    proof = govern("check", work / "proof", "--key", public)
    check("audit: a proof of one record", proof.returncode == 0 and json.loads(proof.stdout) == records()[3])
    lines = govern("show", log, "--type", "generation", "--limit", 2).stdout.splitlines()
    check("audit: records by type", [json.loads(line)["type"] for line in lines] == ["generation"] * 2)
    one = json.loads(lines[0])
    lines = govern("show", log, "--where", f"request={one['request']}", "--where", f"used.output={one['used']['output']}").stdout.splitlines()
    check("audit: the record of a request", lines and all(json.loads(line)["request"] == one["request"] for line in lines))
    check("audit: none of a request that was not", govern("show", log, "--where", "request=req_none").stdout == "")
    text = (log / "records.jsonl").read_bytes()
    found = 0
    for _ in range(20):
        at = random.randrange(len(text))
        (log / "records.jsonl").write_bytes(text[:at] + bytes([text[at] ^ 1 << random.randrange(8)]) + text[at + 1:])
        found += govern("verify", log, "--key", public).returncode == 3
    check("audit: a changed bit is found, twenty times", found == 20)
    (log / "records.jsonl").write_bytes(text)
    keep = text[:text.rstrip().rfind(b"\n") + 1]
    heads = (log / "heads.jsonl").read_text().splitlines(True)
    cut = len(keep.splitlines())
    while json.loads(heads[-1])["size"] > cut:
        heads.pop()
    (log / "records.jsonl").write_bytes(b"".join(keep.splitlines(True)[:json.loads(heads[-1])["size"]]))
    (log / "heads.jsonl").write_text("".join(heads))
    (log / "leaves").write_bytes((log / "leaves").read_bytes()[:32 * json.loads(heads[-1])["size"]])
    check("audit: an end cut off with its heads is found by the one put by", whole() and not whole("--head", work / "head"))
    (work / "changed").write_text((work / "proof").read_text().replace("mini", "maxi"))
    check("audit: a changed proof is refused", govern("check", work / "changed", "--key", public).returncode == 3)
    govern("key", work / "other")
    refused = subprocess.run([program, "serve", "--port", "0", "-m", "mini", "--audit-log", str(log), "--audit-key", str(work / "other")],
                             capture_output=True, text=True, timeout=30)
    check("audit: another key does not go on with it", refused.returncode == 4 and "is signed by the key" in refused.stderr)
