"""A service for the public under each profile that comes with the program: approved, its answers marked, labelled and found
again, a complaint answered, the log whole, its documents made and verified.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from service import ask, check, start_service

program = sys.argv[1]
OPERATOR = {"provider": "Example", "contact": "x@example.org", "purpose": "poems", "limits": "it errs", "filing_number": "X-1",
            "training_data": "https://example.org/data", "marking": "SynthID", "detector": "/v1/content_provenance", "complaints": "/v1/complaints"}


def run(*words):
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=120)


def walk_through(name, work):
    log, key, marks = work / "audit", work / "key", work / "marks"
    run("govern", "audit", "key", key)
    run("govern", "watermark", "add", marks)
    (work / "cn-keywords.txt").write_text("[arms]\nbomb\n")
    profile = json.loads(run("govern", "profile", "show", name).stdout)
    policy = ["--policy", name, "--policy-packs", str(work)]
    words = ["--host", "0.0.0.0", "-m", "mini", "--store", str(work / "state.db"), "--audit-log", str(log), "--audit-key", str(key),
             "--watermark-keys", str(marks), "--label-producer", "Example", *policy]
    refused = run("serve", "--port", "0", *words)
    check(f"{name}: not before it is approved", refused.returncode == 4 and all(a in refused.stderr for a in profile["required_approvals"]))
    shown = re.compile(r"sk-qw-[0-9a-f]+")
    check(f"{name}: nor is the only first key spent on a start that was refused", not shown.search(refused.stdout + refused.stderr))
    for approval in profile["required_approvals"]:
        run("govern", "approve", approval, *policy[:2], "--packs", work, "--audit-log", log, "--audit-key", key, "--by", "Anna")
    server, port = start_service(program, work / "log", *words)
    owner = shown.search((work / "log").read_text()).group(0)
    try:
        body = {"model": "mini", "prompt": "The fox", "max_tokens": 400, "seed": 1, "temperature": 1, "top_k": 40, "ignore_eos": True}
        status, answer, head = ask(port, "POST", "/v1/completions", body, owner)
        number = answer.get("aigc", {}).get("ProduceID", "")
        check(f"{name}: an answer, marked and labelled", status == 200 and head.get("X-Watermark") == "synthid" and number)
        status, found, _ = ask(port, "POST", "/v1/content_provenance", {"input": answer["choices"][0]["text"]}, owner)
        check(f"{name}: found again by its mark", status == 200 and found["results"][0]["verdict"] == "marked")
        status, found, _ = ask(port, "POST", "/v1/content_provenance", {"produce_id": number}, owner)
        check(f"{name}: and by its number", status == 200 and found["results"][0]["verdict"] == "produced_here")
        days = profile["complaints"]["answer_days"]
        status, filed, _ = ask(port, "POST", "/v1/complaints", {"text": "it is wrong", "about": number})
        check(f"{name}: a complaint, with its deadline", status == 200 and filed["due"] - filed["created"] == days * 86400)
        status, _, _ = ask(port, "POST", f"/admin/v1/complaints/{filed['id']}/answer", {"text": "it was put right", "by": "bo"}, owner)
        seen = ask(port, "GET", f"/v1/complaints/{filed['id']}?receipt={filed['receipt']}")[1]
        check(f"{name}: answered", status == 200 and seen["answer"] == "it was put right")
        if "crisis" in profile:
            status, answer, _ = ask(port, "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "I want to end my life"}]}, owner)
            check(f"{name}: help for who is in danger", all(h["contact"] in answer["choices"][0]["message"]["content"] for h in profile["crisis"]["helplines"]))
    finally:
        server.terminate()
        server.wait(60)
    check(f"{name}: the log is whole", run("govern", "audit", "verify", log, "--key", f"{key}.pub").returncode == 0)
    operator, out = work / "operator.json", work / "dossier"
    operator.write_text(json.dumps({name: OPERATOR[name] for name in OPERATOR}))
    made = run("govern", "dossier", "--out", out, "--audit-key", key, "--audit-log", log, *policy[:2], "--model", "mini", "--operator", operator,
               "--store", work / "state.db", "--no-pdf")
    page = (out / "transparency.html").read_text() if made.returncode == 0 else made.stderr
    check(f"{name}: its documents", made.returncode == 0 and run("govern", "dossier", "verify", out, "--key", f"{key}.pub").returncode == 0)
    given = [OPERATOR[field] for field in profile["public_page_fields"] if field in OPERATOR]
    check(f"{name}: its public page says what the profile asks for", given and all(text in page for text in given))


def walk(name):
    with tempfile.TemporaryDirectory() as folder:
        walk_through(name, pathlib.Path(folder))


with concurrent.futures.ThreadPoolExecutor() as pool:
    list(pool.map(walk, ("eu-public", "it-public", "cn-public", "us-ca-public")))
