"""Complaints of users of a service, with and without a key; their data given out and erased; the log stays whole.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from service import ask, check, start_service, wait_for

program = sys.argv[1]


def run(*words):
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=60)


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    log, key, store, policy = work / "audit", work / "key", work / "state.db", work / "ours.json"
    run("govern", "audit", "key", key)

    def admin(*words):
        done = run("admin", *words, "--store", store, "--json")
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout else done

    ours = json.loads(run("govern", "profile", "show", "internal").stdout)
    ours.update(profile="ours", complaints={"open": True, "answer_days": 15, "appeal_days": 7})
    policy.write_text(json.dumps(ours))
    words = ["-m", "mini", "--store", str(store), "--audit-log", str(log), "--audit-key", str(key), "--policy", str(policy),
             "--label-producer", "Example", "--keep-answers", "7"]
    server, port = start_service(program, work / "log", *words)
    try:
        owner = re.search(r"sk-qw-[0-9a-f]+", wait_for(work / "log", "sk-qw-")).group(0)
        organisation = admin("org", "list")[0]["name"]
        admin("project", "add", organisation, "essays")
        user = admin("user", "add", organisation, "ann")
        ann = admin("key", "add", "essays", "--user", "ann")["key"]

        status, answer, head = ask(port, "POST", "/v1/responses", {"model": "mini", "input": "明月", "max_output_tokens": 8}, ann)
        number = answer.get("aigc", {}).get("ProduceID", "")
        check("complaints: an answer with a number", status == 200 and number)
        status, found, _ = ask(port, "POST", "/v1/content_provenance", {"produce_id": number}, ann)
        check("provenance: found by its number", status == 200 and found["basis"] == "audit_log"
              and found["results"][0]["verdict"] == "produced_here" and found["results"][0]["model"] == "mini")
        other = number[:-1] + ("0" if number[-1] != "0" else "1")
        status, found, _ = ask(port, "POST", "/v1/content_provenance", {"produce_id": [number, other]}, ann)
        check("provenance: and another is not", [one["verdict"] for one in found["results"]] == ["produced_here", "not_found"]
              and "project" not in json.dumps(found))
        text = answer["output"][-1]["content"][0]["text"]
        prove = lambda what, who: ask(port, "POST", "/v1/content_provenance", {"produce_id": number, "text": what}, who)[1]["results"][0]
        proved = prove(text, ann)
        (work / "answer.md").write_text(proved.get("signed", ""))
        verify = lambda: run("govern", "label", "verify", work / "answer.md", "--key", f"{key}.pub").returncode
        check("provenance: an answer comes back signed, and is verified by the key alone", proved["text"] == "same" and text in proved["signed"] and verify() == 0)
        (work / "answer.md").write_text(proved["signed"].replace(text, text + "!"))
        check("provenance: and not when it was changed", verify() == 4)
        foreign = prove(text + "!", ann), prove(text, owner)
        check("provenance: nothing is signed but what was answered to whoever asks", [f["text"] for f in foreign] == ["differs"] * 2 and not any("signed" in f for f in foreign))
        check("provenance: a text is of one number", ask(port, "POST", "/v1/content_provenance", {"produce_id": [number, other], "text": "x"}, ann)[0] == 400)
        check("provenance: what is no number", ask(port, "POST", "/v1/content_provenance", {"produce_id": "7"}, ann)[0] == 400)

        status, filed, _ = ask(port, "POST", "/v1/complaints", {"text": "it was rude", "about": number, "contact": "a@b.org"})
        check("complaints: without a key", status == 200 and filed["status"] == "open" and filed["due"] - filed["created"] == 15 * 86400)
        path = f"/v1/complaints/{filed['id']}"
        check("complaints: seen with its receipt", ask(port, "GET", f"{path}?receipt={filed['receipt']}")[1]["text"] == "it was rude")
        check("complaints: and not without", ask(port, "GET", path)[0] == 404 and ask(port, "GET", f"{path}?receipt=guess")[0] == 404)
        check("complaints: no list for strangers", ask(port, "GET", "/v1/complaints")[0] == 401)
        check("complaints: an empty one", ask(port, "POST", "/v1/complaints", {"text": ""}, ann)[0] == 400)
        status, mine, _ = ask(port, "POST", "/v1/complaints", {"text": "it is wrong"}, ann)
        check("complaints: with a key", status == 200 and ask(port, "GET", f"/v1/complaints/{mine['id']}", key=ann)[0] == 200)
        check("complaints: one's own are listed", [c["id"] for c in ask(port, "GET", "/v1/complaints", key=ann)[1]["data"]] == [mine["id"]])

        status, body, _ = ask(port, "POST", f"{path}/appeal", {"text": "no", "receipt": filed["receipt"]})
        check("complaints: no appeal against nothing", status == 409)
        listed = ask(port, "GET", "/admin/v1/complaints?status=open", key=owner)[1]["data"]
        check("complaints: the operator's list", [c["id"] for c in listed] == [filed["id"], mine["id"]])
        check("complaints: is the operator's", ask(port, "GET", "/admin/v1/complaints", key=ann)[0] == 403)
        status, body, _ = ask(port, "POST", f"/admin/v1/complaints/{filed['id']}/answer", {"text": "we are sorry", "by": "bo"}, owner)
        check("complaints: answered", status == 200 and body["status"] == "answered")
        seen = ask(port, "GET", f"{path}?receipt={filed['receipt']}")[1]
        check("complaints: whoever complained is told", seen["answer"] == "we are sorry" and "answered_by" not in seen)
        status, appeal, _ = ask(port, "POST", f"{path}/appeal", {"text": "not enough", "receipt": filed["receipt"]})
        check("complaints: appealed against", status == 200 and appeal["kind"] == "appeal" and appeal["due"] - appeal["created"] == 7 * 86400)
        check("complaints: closed by the command", admin("complaint", "close", appeal["id"], "final", "--by", "bo")["status"] == "closed")
        check("complaints: listed by it", len(admin("complaint", "list")) == 3 and admin("complaint", "list", "--overdue", "true") == [])

        codes = [ask(port, "POST", "/v1/complaints", {"text": "again"})[0] for _ in range(60)]
        check("complaints: too many from one address", codes[0] == 200 and codes[-1] == 429)

        answered = ask(port, "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "my question"}], "max_tokens": 4}, ann)[1]["id"]
        ask(port, "POST", "/v1/feedback", {"answer_id": answered, "rating": "down", "comment": "not so"}, ann)
        held = ask(port, "GET", "/v1/my/data", key=ann)[1]
        check("data: what one said of answers", [f["comment"] for f in held["feedback"]] == ["not so"])
        check("data: given out", held["user"]["name"] == "ann" and any(d["id"] == answer["id"] for d in held["documents"])
              and [c["text"] for c in held["complaints"]] == ["it is wrong"])
        check("data: as the operator gives it out", admin("data", "user", "ann")["user"]["id"] == user["id"])
        status, gone, _ = ask(port, "DELETE", "/v1/my/data", key=ann)
        check("data: erased", status == 200 and gone["users"] == 1 and gone["documents"] >= 1 and gone["complaints"] == 1)
        check("data: the key is worth nothing now", ask(port, "GET", "/v1/models", key=ann)[0] == 401)
        left = admin("data", "user", user["id"], "--project", "essays")
        check("data: nothing is left but that there was somebody", left["user"]["name"] == "erased-" + user["id"] and left["documents"] == []
              and left["complaints"][0]["text"] == "" and left["complaints"][0]["status"] == "open"
              and left["keys"] and left["files"] == [] and [f["comment"] for f in left["feedback"]] == [""])
    finally:
        server.terminate()
        server.wait(30)
    kept = b"".join(f.read_bytes() for f in work.glob("state.db*"))
    check("data: not in the store's file either", all(words not in kept for words in (b"it is wrong", b"my question", b"not so")) and b"it was rude" in kept)
    records = [json.loads(line) for line in (log / "records.jsonl").read_text().splitlines()]
    kinds = [(r["type"], r.get("action") or r.get("operation")) for r in records]
    check("log: complaints, answers, appeals, erasure", all(k in kinds for k in
          [("complaint", "received"), ("complaint", "appealed"), ("administration", "complaints.answer"), ("erasure", None)]))
    check("log: none of their words", "rude" not in (log / "records.jsonl").read_text() and "sorry" not in (log / "records.jsonl").read_text())
    check("log: whole", run("govern", "audit", "verify", log, "--key", f"{key}.pub").returncode == 0)

    ours["complaints"]["open"] = False
    policy.write_text(json.dumps(ours))
    server, port = start_service(program, work / "log2", *words)
    try:
        check("complaints: for keys only, where the policy says so", ask(port, "POST", "/v1/complaints", {"text": "x"})[0] == 401)
    finally:
        server.terminate()
        server.wait(30)
