"""Two services over one PostgreSQL, one of them killed under load: its batch and its responses in the background are
made by the other, each once. Standard library only; needs PostgreSQL. replicas.py PROGRAM."""
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

import service

TESTS = pathlib.Path(__file__).resolve().parent.parent
LINES, RESPONSES = 120, 80
LEASE_S = 30  # what a dead service had is free after this


def ask(port, key, method, path, body=None, content_type="application/json"):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Authorization": "Bearer " + key, "Content-Type": content_type}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def upload(port, key, text):
    form = ('--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            '--b\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n' + text + "\r\n--b--\r\n")
    return json.loads(ask(port, key, "POST", "/v1/files", form.encode(), "multipart/form-data; boundary=b"))["id"]


def run(store, folder):
    program = sys.argv[1]
    first, port_a = service.start_service(program, folder / "a", "--store", store)
    key = next(line.strip() for line in (folder / "a").read_text().splitlines() if line.strip().startswith("sk-qw-"))
    second, port_b = service.start_service(program, folder / "b", "--store", store)
    lines = "".join(json.dumps({"custom_id": f"line-{i}", "method": "POST", "url": "/v1/completions",
                                "body": {"model": "mini", "prompt": "春", "max_tokens": 120, "ignore_eos": True, "seed": i}}) + "\n" for i in range(LINES))
    batch = json.loads(ask(port_a, key, "POST", "/v1/batches", {"input_file_id": upload(port_a, key, lines), "endpoint": "/v1/completions", "completion_window": "24h"}))

    def get(path):
        return json.loads(ask(port_b, key, "GET", path))

    made = []

    def ended():
        return sum(get("/v1/responses/" + one)["status"] in ("completed", "incomplete") for one in made)

    deadline = time.monotonic() + 300
    while get("/v1/batches/" + batch["id"])["request_counts"]["completed"] == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # faster than they are made
        made = list(pool.map(lambda i: json.loads(ask((port_a, port_b)[i % 2], key, "POST", "/v1/responses",
                                                      {"model": "mini", "input": "春江", "background": True, "max_output_tokens": 300, "seed": i}))["id"], range(RESPONSES)))
    first.kill()
    first.wait()
    killed = time.monotonic()
    service.check("the batch had begun and not ended", 0 < get("/v1/batches/" + batch["id"])["request_counts"]["completed"] < LINES)
    service.check("not every response in the background was made", ended() < RESPONSES)
    deadline = killed + LEASE_S + 600  # of a slow machine that does other things, too
    while (ended() < RESPONSES or get("/v1/batches/" + batch["id"])["status"] != "completed") and time.monotonic() < deadline:
        time.sleep(0.5)
    service.check("the other makes all responses", ended() == RESPONSES)
    batch = get("/v1/batches/" + batch["id"])
    service.check("the other ends the batch", batch["status"] == "completed" and batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0})
    answers = [json.loads(line) for line in ask(port_b, key, "GET", f"/v1/files/{batch['output_file_id']}/content").decode().splitlines()]
    service.check("every line is answered once", sorted(a["custom_id"] for a in answers) == sorted(f"line-{i}" for i in range(LINES)))
    time.sleep(max(0, killed + LEASE_S - time.monotonic()))  # till what the dead one had reserved is settled
    rows = [json.loads(line) for line in subprocess.run([program, "admin", "usage", "--rows", "--store", store], capture_output=True, text=True, check=True).stdout.splitlines()]
    given = sum(r["output_tokens"] for r in rows if r["outcome"] in ("stop", "length"))
    told = sum(a["response"]["body"]["usage"]["completion_tokens"] for a in answers) + sum(get("/v1/responses/" + one)["usage"]["output_tokens"] for one in made)
    service.check("what was answered is in the ledger", given >= told)
    service.check("each request is in the ledger once", len({r["request_id"] for r in rows}) == len(rows))
    second.terminate()
    service.check("the other ends by itself", second.wait(timeout=60) == 0)


def main():
    data = tempfile.mkdtemp(prefix="qw-pg-", dir="/tmp")  # a socket's path is short
    start = subprocess.run([TESTS / "temporary_postgres", "start", data], capture_output=True, text=True)
    try:
        if start.returncode != 0:
            print("skipped two services over one PostgreSQL: " + start.stdout.strip())
            return
        with tempfile.TemporaryDirectory() as folder:
            run(start.stdout.strip(), pathlib.Path(folder))
    finally:
        subprocess.run([TESTS / "temporary_postgres", "stop", data])


main()
