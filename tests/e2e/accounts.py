"""Keys, limits, budgets and the ledger through the commands and the wire, and what kill -9 leaves of them.
Usage: accounts.py PROGRAM. QW_SLOW=1: a hundred kills, and waits until the leases of the dead have run out.
"""
import csv
import http.client
import io
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from service import check, start_service, wait_for

program = sys.argv[1]
slow = os.environ.get("QW_SLOW") == "1"
work = pathlib.Path(tempfile.mkdtemp(prefix="qw-acc-"))
tests = pathlib.Path(__file__).resolve().parent.parent


def admin(store, *words, rc=0):
    run = subprocess.run([program, "admin", *words, "--store", store, "--json"], capture_output=True, text=True)
    if run.returncode != rc:
        raise RuntimeError(f"admin {words}: exit code {run.returncode}: {run.stderr}")
    return json.loads(run.stdout) if rc == 0 else run.stderr


def ledger(store):
    out = subprocess.run([program, "admin", "usage", "--rows", "--store", store], capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def post(port, key, body, request_id="", timeout=30):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + key}
    if request_id:
        headers["X-Request-Id"] = request_id
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, answer.getheaders(), answer.read().decode()


def question(tokens, stream=False):
    body = {"model": "mini", "messages": [{"role": "user", "content": "春江"}], "max_tokens": tokens, "ignore_eos": True}
    return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})


def usage_of(text, stream):
    """What a whole answer says was used; nothing if the answer was cut off."""
    if not stream:
        return json.loads(text)["usage"]
    if not text.rstrip().endswith("data: [DONE]"):
        return None
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return chunks[-1]["usage"]


def commands():
    store = str(work / "commands.db")
    log = work / "first.log"
    server, port = start_service(program, log, "--store", store)
    key = next(line.strip() for line in log.read_text().splitlines() if line.strip().startswith("sk-qw-"))
    check("the first start shows a key that works", post(port, key, question(3))[0] == 200)
    check("nobody gets in without one", post(port, "sk-qw-guess", question(3))[0] == 401)
    check("a second service over the same file is refused",
          subprocess.run([program, "serve", "--port", "0", "--store", store], capture_output=True, timeout=60).returncode == 4)
    admin(store, "org", "add", "school")
    admin(store, "project", "add", "school", "essays")
    made = admin(store, "key", "add", "essays", "--scope", "inference", "--network", "127.0.0.1", "--days", "30")
    admin(store, "price", "set", "mini", "--currency", "CNY", "--prompt", "0.3", "--cached", "0.06", "--output", "0.6")
    admin(store, "budget", "set", "project:essays", "0.00003", "--unit", "CNY", "--period", "month")
    status, _, text = post(port, made["key"], question(20))
    used = json.loads(text)["usage"]
    budget = admin(store, "budget", "list", "--subject", "project:essays")[0]
    cost = (used["prompt_tokens"] * 300 + used["completion_tokens"] * 600) / 1e9
    check("a budget in money counts to the billionth", status == 200 and float(budget["spent"]) == cost)
    status, headers, text = post(port, made["key"], question(200))
    check("what it cannot pay is refused before it is computed", status == 429 and "insufficient_quota" in text)
    admin(store, "limit", "set", "project:essays", "--requests", "1")
    admin(store, "budget", "set", "project:essays", "1", "--unit", "CNY", "--period", "month")
    post(port, made["key"], question(2))
    status, headers, text = post(port, made["key"], question(2))
    check("a limit says when to come back", status == 429 and 1 <= int(dict(headers)["Retry-After"]) <= 60)
    admin(store, "key", "revoke", made["id"])
    time.sleep(1.1)
    check("a revoked key is nobody's", post(port, made["key"], question(2))[0] == 401)
    rows = ledger(store)
    table = subprocess.run([program, "admin", "--store", store, "usage", "--csv"], capture_output=True, text=True, check=True).stdout
    check("the ledger is exported as JSON lines and CSV",
          [int(r["output_tokens"]) for r in csv.DictReader(io.StringIO(table))] == [r["output_tokens"] for r in rows] and len(rows) == 3)
    sums = admin(store, "usage", "--by", "model")
    check("sums are those of the rows, by currency", [(s["currency"], s["requests"]) for s in sums] == [("", 1), ("CNY", 2)] and
          sum(s["output_tokens"] for s in sums) == sum(r["output_tokens"] for r in rows))
    admin(store, "backup", str(work / "backup"))
    other = str(work / "restored.db")
    admin(other, "restore", str(work / "backup"))
    check("a backup restores everything", ledger(other) == rows and admin(other, "key", "list") == admin(store, "key", "list"))
    check("and only into a new store", "not empty" in admin(store, "restore", str(work / "backup"), rc=4))
    check("mistakes are named", "there is no project nobody" in admin(store, "key", "add", "nobody", rc=3))
    server.terminate()
    server.wait(timeout=40)
    server, port = start_service(program, log, "--store", store)
    check("the second start shows no key", "sk-qw-" not in log.read_text())
    server.terminate()
    server.wait(timeout=40)


class Replica:
    """A service that is killed and started again on the same port."""

    def __init__(self, store, name):
        self.store, self.log = store, work / f"{name}.log"
        self.server, self.port = start_service(program, self.log, "--store", store)
        self.restarts, self.waits = [], []

    def kill(self):
        self.server.kill()
        self.server.wait()
        began = time.monotonic()
        self.server = subprocess.Popen([program, "serve", "--port", str(self.port), "--store", self.store],
                                       stdout=open(self.log, "w"), stderr=subprocess.STDOUT)
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/health/ready")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            if time.monotonic() - began > 60:
                raise RuntimeError("the service did not come back:\n" + self.log.read_text())
            time.sleep(0.01)
        self.restarts.append(time.monotonic() - began)
        # Of it, what its first thread, which starts the service, stood ready while others had the processors.
        self.waits.append(int(pathlib.Path(f"/proc/{self.server.pid}/schedstat").read_text().split()[1]) / 1e9)


def kills(store, replicas, count, name, wait_for_leases):
    running = [Replica(store, f"{name}{i}") for i in range(replicas)]
    admin(store, "org", "add", "load")
    admin(store, "project", "add", "load", "work")
    key = admin(store, "key", "add", "work")["key"]
    amount = 10_000_000
    admin(store, "budget", "set", "project:work", str(amount))
    admin(store, "limit", "set", "project:work", "--concurrency", "100000")
    acknowledged, lock, done = {}, threading.Lock(), threading.Event()

    def client(number):
        order = random.Random(number)
        count = 0
        while not done.is_set():
            count += 1
            stream, port = order.random() < 0.5, order.choice(running).port
            request_id = f"{name}-{number}-{count}"
            try:
                status, _, text = post(port, key, question(order.randint(1, 60), stream), request_id, timeout=20)
                used = usage_of(text, stream) if status == 200 else None
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.02)
                continue
            if used:
                with lock:
                    acknowledged[request_id] = used

    clients = [threading.Thread(target=client, args=(i,)) for i in range(6)]
    for c in clients:
        c.start()
    order = random.Random(7)
    worst = 0
    for _ in range(count):
        time.sleep(order.uniform(0.1, 0.6))
        order.choice(running).kill()
        budget = admin(store, "budget", "list")[0]
        worst = max(worst, budget["spent"] + budget["reserved"])
    done.set()
    for c in clients:
        c.join()
    for replica in running:
        replica.server.terminate()
    for replica in running:
        replica.server.wait(timeout=60)
    last = Replica(store, name + "-last")   # settles what the dead have left
    if wait_for_leases:
        time.sleep(45)
    last.server.terminate()
    last.server.wait(timeout=60)

    rows = ledger(store)
    by_id = {}
    for row in rows:
        by_id.setdefault(row["request_id"], []).append(row)
    lost = [i for i in acknowledged if i not in by_id]
    wrong = [i for i, u in acknowledged.items() if i in by_id and
             (by_id[i][0]["prompt_tokens"], by_id[i][0]["output_tokens"]) != (u["prompt_tokens"], u["completion_tokens"])]
    budget = admin(store, "budget", "list")[0]
    spent = sum(r["prompt_tokens"] + r["output_tokens"] for r in rows)
    cut = sum(r["outcome"] == "interrupted" for r in rows)
    times = [t for r in running for t in r.restarts]
    own = [t - w for r in running for t, w in zip(r.restarts, r.waits)]
    print(f"   {name}: {count} kills, {len(acknowledged)} answers acknowledged, {cut} cut off, "
          f"back in {statistics.median(times):.2f} s (median), {max(times):.2f} s (most), "
          f"{max(own):.2f} s without waiting for processors", flush=True)
    check(f"{name}: no acknowledged answer is lost", acknowledged and not lost and not wrong)
    check(f"{name}: nothing is entered twice", all(len(r) == 1 for r in by_id.values()))
    check(f"{name}: the budget is the sum of the ledger", budget["spent"] == spent and worst <= amount)
    if wait_for_leases or replicas == 1:
        check(f"{name}: nothing stays reserved", budget["reserved"] == 0 and admin(store, "limit", "list")[0]["running"] == 0)
    # The database's processes wait for processors too, which nobody counts; what waits for a lease or a timeout waits longer.
    check(f"{name}: back within a second, and never held up", statistics.median(own) < 1 and max(own) < 5)


try:
    commands()
    kills(str(work / "kills.db"), 1, 100 if slow else 5, "sqlite", False)
    folder = tempfile.mkdtemp(prefix="qw-pg-", dir="/tmp")
    start = subprocess.run([tests / "temporary_postgres", "start", folder], capture_output=True, text=True)
    if start.returncode == 77:
        print("skipped two services over PostgreSQL: " + start.stdout.strip())
        shutil.rmtree(folder, ignore_errors=True)
    else:
        try:
            kills(start.stdout.strip(), 2, 100 if slow else 5, "postgres", slow)
        finally:
            subprocess.run([tests / "temporary_postgres", "stop", folder])
finally:
    shutil.rmtree(work, ignore_errors=True)
