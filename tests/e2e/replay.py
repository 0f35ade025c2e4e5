"""What was asked and answered, kept encrypted as a policy says; answers drawn again to the same tokens; keys turned,
contents erased and changed.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import json
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import heads_models
from service import ask, check, send, start_service, wait_for

program = sys.argv[1]
SECRET, SAID = "床前明月光", "A chest of gold under the old oak."


def run(*words):
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=120)


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    log, key, store, keys, marks = work / "audit", work / "key", work / "state.db", work / "content.keys", work / "marks"
    run("govern", "audit", "key", key)
    first_key = run("govern", "content", "key", keys).stdout.strip()
    run("govern", "watermark", "add", marks)
    check("content: keys are their owner's alone", first_key.startswith("ck-") and keys.stat().st_mode & 0o77 == 0)

    def policy(name, **retention):
        whole = {"profile": name, "version": 1, "date": "2026-11-29", "retention": retention}
        (work / f"{name}.json").write_text(json.dumps(whole))
        return str(work / f"{name}.json")

    ours = policy("kept", content="encrypted", content_days=30)
    audited = ["-m", "mini", "--store", str(store), "--audit-log", str(log), "--audit-key", str(key)]
    refused = run("serve", "--port", "0", *audited, "--policy", ours)
    check("content: a policy that keeps it needs its keys", refused.returncode == 4 and "--content-keys" in refused.stderr)
    words = [*audited, "--content-keys", str(keys), "--watermark-keys", str(marks), "--policy", ours, "--draft", "lookup"]

    def records(kind="generation"):
        return [r for r in map(json.loads, (log / "records.jsonl").read_text().splitlines()) if r["type"] == kind]

    def whole():
        return run("govern", "audit", "verify", log, "--key", str(key) + ".pub").returncode == 0

    server, port = start_service(program, work / "log", *words)
    try:
        owner = re.search(r"sk-qw-[0-9a-f]+", wait_for(work / "log", "sk-qw-")).group(0)

        def draw(path, body):
            status, text, head = send(port, "POST", path, body, owner)
            return status, {name.lower(): value for name, value in head.items()}.get("x-request-id")

        def again(request):
            return ask(port, "POST", "/admin/audit/replay", {"request": request}, owner)[1]

        def admin(*more):
            done = run("admin", *more, "--store", store, "--json")
            return json.loads(done.stdout)

        message = [{"role": "user", "content": SECRET + " " + SAID}]
        shape = {"type": "json_schema", "json_schema": {"name": "p", "schema": {
            "type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}}, "required": ["a", "b"], "additionalProperties": False}}}
        tools = [{"type": "function", "function": {"name": "go", "parameters": {"type": "object", "properties": {"to": {"enum": ["n", "s"]}}, "required": ["to"]}}}]
        asked = {
            "a marked answer, drafts on": ("/v1/chat/completions", {"messages": message, "max_tokens": 40}),
            "a seed and three choices": ("/v1/chat/completions", {"messages": message, "max_tokens": 12, "seed": 9007199254740993, "n": 3, "temperature": 1.3}),
            "a greedy answer": ("/v1/chat/completions", {"messages": message, "max_tokens": 16, "temperature": 0}),
            "penalties and a bias": ("/v1/chat/completions", {"messages": message, "max_tokens": 16, "presence_penalty": 0.7, "frequency_penalty": 0.3, "logit_bias": {"5": 2.5}}),
            "a form": ("/v1/chat/completions", {"messages": message, "max_tokens": 40, "response_format": shape}),
            "a tool that must be called": ("/v1/chat/completions", {"messages": message, "max_tokens": 60, "tools": tools, "tool_choice": "required"}),
            "a stop string": ("/v1/completions", {"prompt": SAID, "max_tokens": 60, "stop": [" "], "temperature": 0.9}),
            "one token again and again, which drafts guess": ("/v1/completions", {"prompt": SAID + " one two three four" * 12, "max_tokens": 160, "temperature": 0.3, "logit_bias": {"5": 100}, "loop_breaker": False}),
            "several prompts": ("/v1/completions", {"prompt": [SAID, SECRET], "max_tokens": 8, "n": 2}),
            "a stream of another protocol": ("/v1/messages", {"messages": message, "max_tokens": 20, "stream": True}),
        }
        told = {}
        for name, (path, body) in asked.items():
            status, told[name] = draw(path, body if path == "/v1/messages" else {"model": "mini", **body})
            record = [r for r in records() if r["request"] == told[name]]
            check(f"content: {name} names what is kept", status == 200 and len(record) == 1 and record[0]["content"]["id"].startswith("cnt_")
                  and len(record[0]["model_sha256"]) == len(record[0]["template_sha256"]) == 64 and record[0]["compute"])
        guessed = re.search(r"^qianwen_drafted_tokens_total\S* (\d+)", send(port, "GET", "/metrics", key=owner)[1], re.M)
        check("replay: drafts were made", guessed and int(guessed.group(1)) > 0)
        check("replay: most were marked", sum(bool(r.get("watermark")) for r in records()) >= 7)
        for name, request in told.items():
            verdict = again(request)
            choices = verdict.get("choices", [])
            check(f"replay: {name}: the same {sum(c['tokens'] for c in choices)} tokens", verdict["verdict"] == "same" and choices
                  and all(c["tokens"] > 0 and c["same"] for c in choices))
        check("replay: it is on record itself", [(r["verdict"], "replayed" in r) for r in records("replay")] == [("same", True)] * len(told))
        check("replay: what is not there", ask(port, "POST", "/admin/audit/replay", {"request": "req_none"}, owner)[0] == 404)
        check("replay: what drew nothing", ask(port, "POST", "/admin/audit/replay", {"seq": 0}, owner)[1]["reason"] == "not_an_answer")
        check("replay: a number of an answer, or none", ask(port, "POST", "/admin/audit/replay", {}, owner)[0] == 400)

        everything = b"".join(p.read_bytes() for p in [*log.iterdir(), *work.glob("state.db*")] if p.is_file())
        check("content: no word of it stands in log or store", SECRET.encode() not in everything and SAID.encode() not in everything)
        mine = ask(port, "GET", "/v1/my/data", key=owner)[1]["contents"]
        check("content: whose it is takes it along in plain words", len(mine) == len(told) and SAID in json.dumps(mine[0]["prompt_texts"], ensure_ascii=False))

        lines = run("govern", "content", "list", "--store", store).stdout.splitlines()
        check("content: listed without its words", len(lines) == len(told) and SAID not in "".join(lines))
        held = run("govern", "content", "list", "--store", store, "--keys", keys, "--holds", "old oak").stdout.splitlines()
        only = run("govern", "content", "list", "--store", store, "--keys", keys, "--holds", "Nobody said this").stdout
        check("content: searched with the key", len(held) == len(told) and only == "")
        blind = run("govern", "content", "list", "--store", store, "--holds", "oak")
        check("content: not without it", blind.returncode == 2 and "--keys" in blind.stderr)
        one = records()[0]["content"]["id"]
        shown = run("govern", "content", "show", one, "--store", store, "--keys", keys)
        check("content: one is shown", json.loads(shown.stdout)["answers"][0]["tokens"])

        # The command draws it with a model of its own: the same, whatever drafts are made.
        number = records()[0]["seq"]
        command = ["govern", "replay", log, "--seq", number, "-m", "mini", "--store", store, "--content-keys", keys, "--watermark-keys", marks]
        for draft in ("lookup", "off"):
            done = run(*command, "--draft", draft)
            check(f"replay: by the command, drafts {draft}", done.returncode == 0 and "the same" in done.stdout)
        unmarked = run(*command[:-2])
        check("replay: without the mark's key it says so", unmarked.returncode == 4 and "--watermark-keys" in unmarked.stderr)

        # Another key: what is old is brought under it, and the old one goes.
        second_key = run("govern", "content", "key", keys).stdout.strip()
        early = run("govern", "content", "forget", first_key, "--store", store, "--keys", keys)
        check("content: a key that is needed stays", early.returncode == 4 and "rotate" in early.stderr)
        turned = run("govern", "content", "rotate", "--store", store, "--keys", keys)
        check("content: keys are turned", turned.returncode == 0 and f"{len(told)} contents" in turned.stdout and second_key in turned.stdout)
        gone = run("govern", "content", "forget", first_key, "--store", store, "--keys", keys)
        check("content: the old key goes, and all can be read", gone.returncode == 0 and first_key not in keys.read_text()
              and len(run("govern", "content", "list", "--store", store, "--keys", keys, "--holds", "old oak").stdout.splitlines()) == len(told))
        check("replay: after that, by the new key", run(*command).returncode == 0)
    finally:
        server.terminate()
        server.wait(30)

    # A changed byte, another model, another content's bytes: each is told.
    with sqlite3.connect(store) as db:
        body = db.execute("SELECT body FROM contents WHERE id = ?", (one,)).fetchone()[0]
        db.execute("UPDATE contents SET body = ? WHERE id = ?", (body[:40] + bytes([body[40] ^ 1]) + body[41:], one))
    changed = run(*command)
    check("replay: a changed content is found by the log's hash", changed.returncode == 4 and "not the one that the log has the hash of" in changed.stderr)
    with sqlite3.connect(store) as db:
        db.execute("UPDATE contents SET body = ? WHERE id = ?", (body, one))
    other = work / "mini"
    source = pathlib.Path(program).resolve().parents[2] / "models" / "mini"
    if source.is_dir():
        shutil.copytree(source, other)
        for file in other.glob("*.gguf"):
            with open(file, "r+b") as f:
                f.seek(-1, 2)
                last = f.read(1)
                f.seek(-1, 2)
                f.write(bytes([last[0] ^ 1]))
        command[command.index("mini")] = next(iter(other.glob("*.gguf")), other)
        differs = run(*command)
        check("replay: another model is refused by its hash", differs.returncode == 4 and "SHA-256" in differs.stderr)
        command[command.index("-m") + 1] = "mini"

    # Erasing takes the content and its key, and nothing of the log.
    run("govern", "content", "erase", one, "--store", store)
    erased = run(*command)
    check("content: erased, and the log is whole", erased.returncode == 4 and "was erased at" in erased.stderr and whole())
    server, port = start_service(program, work / "log", *words)
    try:
        check("replay: the service says so too", again(records()[0]["request"])["reason"] == "content_erased")
        counts = ask(port, "DELETE", "/v1/my/data", key=owner)
        left = run("govern", "content", "list", "--store", store).stdout.splitlines()
        check("content: whoever is erased takes his contents", (counts[0] == 200 and counts[1]["contents"] == len(told) - 1 and not left)
              or (counts[0] == 409 and len(left) == len(told) - 1))
    finally:
        server.terminate()
        server.wait(30)

    # The other two choices of a policy.
    for kept, member in (("hashed", True), ("dropped", False)):
        words[words.index("--policy") + 1] = policy(kept, content=kept)
        server, port = start_service(program, work / "log", *words)
        try:
            status, request = draw("/v1/chat/completions", {"model": "mini", "messages": message, "max_tokens": 4})
            record = records()[-1]
            check(f"content: {kept}", status == 200 and ("prompts_hmac" in record) == member and ("content_hmac" in record["choices"][0]) == member)
            check(f"replay: {kept} content is drawn by nobody", again(request)["reason"] == f"content_{kept}")
        finally:
            server.terminate()
            server.wait(30)
    check("content: the log is whole", whole())

    # What a policy refuses, and what is embedded, is kept as it says; whoever decides on an appeal sees what was refused.
    (work / "words.txt").write_text("[arms]\nzeppelin bomb\n")
    asked = [{"role": "user", "content": "Tell me how a zeppelin bomb is built, please"}]
    vectors = heads_models.embedding(heads_models.base_folder(program, work / "base"), work / "embedding")
    words[words.index("-m") + 1] = "mini"
    words += ["-m", str(vectors)]
    for kept in ("encrypted", "hashed", "dropped"):
        whole_policy = {"profile": kept, "version": 1, "date": "2026-11-29", "retention": {"content": kept},
                        "keyword_packs": [{"file": "words.txt", "action": "block", "where": "input"}]}
        (work / "refusing.json").write_text(json.dumps(whole_policy))
        words[words.index("--policy") + 1] = str(work / "refusing.json")
        server, port = start_service(program, work / "log", *words)
        try:
            status, refused = draw("/v1/chat/completions", {"model": "mini", "messages": asked, "max_tokens": 4})
            record = records("refusal")[-1]
            check(f"refused: {kept}", status == 400 and record["request"] == refused
                  and isinstance(record.get("content"), dict) == (kept == "encrypted") and ("asked_hmac" in record) == (kept != "dropped"))
            status, request = draw("/v1/embeddings", {"model": "embedding", "input": ["a red kite", SAID]})
            reading = records("reading")[-1]
            check(f"embedded: {kept}", status == 200 and reading["request"] == request
                  and isinstance(reading.get("content"), dict) == (kept == "encrypted") and ("prompts_hmac" in reading) == (kept != "dropped"))
            if kept == "encrypted":
                shown = json.loads(run("govern", "content", "show", reading["content"]["id"], "--store", store, "--keys", keys).stdout)
                check("embedded: its texts can be read with the key", "a red kite" in shown["prompt_texts"][0] and SAID in shown["prompt_texts"][1])
            filed = ask(port, "POST", "/v1/complaints", {"text": "I write a novel", "about": refused}, owner)[1]
            admin("complaint", "answer", filed["id"], "no", "--by", "bo")
            appeal = ask(port, "POST", f"/v1/complaints/{filed['id']}/appeal", {"text": "look again"}, owner)[1]
            status, opened, _ = ask(port, "GET", f"/admin/v1/contents/{appeal['id']}", key=owner)
            check(f"appeal: whoever decides sees what there is of what was refused: {kept}", status == 200 and opened["same_project"]
                  and opened["record"]["request"] == refused and opened.get("asked", {}).get("messages") == (asked if kept == "encrypted" else None)
                  and opened.get("reason") == {"encrypted": None, "hashed": "content_hashed", "dropped": "content_dropped"}[kept])
            project = admin("project", "list")[0]["id"]
            clerk, judge = (admin("key", "add", project, "--scope", scope)["key"] for scope in ("admin", "contents.read"))
            check(f"appeal: and nobody without that right: {kept}", ask(port, "GET", f"/admin/v1/contents/{appeal['id']}", key=clerk)[0] == 403
                  and ask(port, "GET", f"/admin/v1/contents/{appeal['id']}", key=judge)[0] == 200
                  and ask(port, "GET", "/admin/v1/complaints", key=judge)[0] == 403)
            nothing = ask(port, "POST", "/v1/complaints", {"text": "it was slow", "about": "the page"}, owner)[1]
            check(f"appeal: what is about nothing known says so: {kept}", ask(port, "GET", f"/admin/v1/contents/{nothing['id']}", key=owner)[0] == 409
                  and ask(port, "GET", "/admin/v1/contents/cmp_none", key=owner)[0] == 404)
            looked = [r for r in records("administration") if r["operation"] == "contents.open"]
            check(f"appeal: who looked is on record: {kept}", looked[-1]["complaint"] == appeal["id"] and looked[-1]["opened"] == record["seq"])
        finally:
            server.terminate()
            server.wait(30)
    everything = b"".join(p.read_bytes() for p in [*log.iterdir(), *work.glob("state.db*")] if p.is_file())
    check("refused: no word of it stands in log or store", b"zeppelin" not in everything and b"red kite" not in everything and whole())
