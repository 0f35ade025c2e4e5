"""Training that is paid for, killed (kill -9) again and again: its budget is never exceeded, and in the end exactly what was
trained is paid, once. Usage: training_budget.py PROGRAM. QW_SLOW=1: twelve kills, and the same over PostgreSQL, where the
leases of the dead have to run out. Standard library only."""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import urllib.request

from service import check, start_service

program = sys.argv[1]
slow = os.environ.get("QW_SLOW") == "1"
tests = pathlib.Path(__file__).resolve().parent.parent
PRICE = 3.5  # of a million trained tokens
ENDED = ("succeeded", "failed", "cancelled")


def admin(store, *words):
    out = subprocess.run([program, "admin", *words, "--store", store, "--json"], capture_output=True, text=True, check=True).stdout
    return json.loads(out)


def ledger(store):
    out = subprocess.run([program, "admin", "usage", "--rows", "--store", store], capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def ask(port, key, path, body=None, kind="application/json"):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": "Bearer " + key, "Content-Type": kind}
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers), timeout=60) as answer:
        return json.load(answer)


def upload(port, key, text):
    form = ('--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            '--b\r\nContent-Disposition: form-data; name="file"; filename="t.jsonl"\r\n\r\n' + text + "\r\n--b--\r\n")
    return ask(port, key, "/v1/files", form.encode(), "multipart/form-data; boundary=b")["id"]


def budgets(store):
    return {b["unit"]: b for b in admin(store, "budget", "list")}


def killed(name, store, folder, kills, seconds_between):
    """A job that is killed so often, and what it cost."""
    base = folder / "base"
    if not base.exists():
        subprocess.run([program, "convert", "mini", base], check=True, capture_output=True)
    words = ("-m", str(base), "--store", store, "--fine-tune-folder", str(folder / name))
    log = folder / "log"
    server, port = start_service(program, log, *words)
    admin(store, "org", "add", "school")
    admin(store, "project", "add", "school", "essays")
    key = admin(store, "key", "add", "essays")["key"]
    admin(store, "price", "set", "base", "--currency", "CNY", "--prompt", "1", "--output", "1", "--trained", str(PRICE))
    amounts = {"tokens": 4_000_000, "CNY": 20}
    for unit, amount in amounts.items():
        admin(store, "budget", "set", "project:essays", str(amount), "--unit", unit)
    line = json.dumps({"messages": [{"role": "user", "content": "春江"}, {"role": "assistant", "content": "花月夜"}]})
    file = upload(port, key, (line + "\n") * 40)
    hyper = {"n_epochs": 30, "batch_size": 1}
    job = ask(port, key, "/v1/fine_tuning/jobs", {"model": "base", "training_file": file, "seed": 1, "suffix": "x",
                                                  "method": {"type": "supervised", "supervised": {"hyperparameters": hyper}}})
    look = lambda: ask(port, key, "/v1/fine_tuning/jobs/" + job["id"])
    order, over, seen, reserved, cut = random.Random(11), [], [0], 0, 0

    def watch():
        nonlocal job, reserved
        job = look()
        seen.append(job["trained_tokens"] or seen[-1])
        for unit, b in budgets(store).items():
            reserved = max(reserved, float(b["reserved"]))
            if float(b["spent"]) + float(b["reserved"]) > amounts[unit]:
                over.append((unit, b))

    deadline = time.monotonic() + 600
    while job["status"] not in ENDED and time.monotonic() < deadline:
        before = seen[-1]
        pause = time.monotonic() + order.uniform(0, seconds_between)
        # However fast the machine is, something is left for every kill.
        soon_done = lambda: cut < kills and job["estimate"] and seen[-1] >= job["estimate"]["trained_tokens"] * (cut + 1) / (kills + 2)
        while job["status"] not in ENDED and time.monotonic() < deadline and (
                seen[-1] <= before or (time.monotonic() < pause and not soon_done())):
            watch()
            time.sleep(0.2)  # training is at idle priority, and looking takes processors
        if cut == kills or job["status"] in ENDED:
            continue
        server.kill()
        server.wait()
        cut += 1
        server, port = start_service(program, log, *words, port=port)
    watch()
    server.terminate()
    server.wait(timeout=60)

    rows = ledger(store)
    trained = sum(r["trained_tokens"] for r in rows)
    left = budgets(store)
    print(f"   {name}: {cut} kills, {job['trained_tokens']} tokens trained, {len(rows)} rows of the ledger", flush=True)
    check(f"{name}: a job that was killed {cut} times is done", cut == kills and job["status"] == "succeeded")
    check(f"{name}: what was trained is never forgotten", seen == sorted(seen) and reserved > 0)
    check(f"{name}: all of it is in the ledger, once", rows and trained == job["trained_tokens"] and
          all(r["request_id"] == job["id"] for r in rows))
    check(f"{name}: and paid, to the billionth", float(left["tokens"]["spent"]) == trained and
          round(float(left["CNY"]["spent"]) * 10**9) == round(trained * PRICE * 1000))
    check(f"{name}: no budget was ever exceeded, and nothing stays reserved", not over and all(float(b["reserved"]) == 0 for b in left.values()))


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    killed("sqlite", str(folder / "state.db"), folder, 12 if slow else 3, 1.5)
    if slow:
        place = tempfile.mkdtemp(prefix="qw-pg-", dir="/tmp")
        start = subprocess.run([tests / "temporary_postgres", "start", place], capture_output=True, text=True)
        if start.returncode == 77:
            print("skipped the same over PostgreSQL: " + start.stdout.strip())
        else:
            try:
                killed("postgres", start.stdout.strip(), folder, 2, 1.5)
            finally:
                subprocess.run([tests / "temporary_postgres", "stop", place])
