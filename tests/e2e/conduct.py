"""What a policy makes of how people use a service: strikes that outlive it, help for who is in danger, minors, reminders.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import json
import pathlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import urllib.request

from service import check, send, start_service, wait_for

program = sys.argv[1]
PERSONA = {"role": "system", "content": "You are my virtual girlfriend."}


def run(*words):
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=60)


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    log, key, store, policy = work / "audit", work / "key", work / "state.db", work / "ours.json"
    run("govern", "audit", "key", key)

    def admin(*words):
        done = run("admin", *words, "--store", store, "--json")
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout else done

    def chat(text, whose, before=(), **more):
        return send(port, "POST", "/v1/chat/completions", {"messages": [*before, {"role": "user", "content": text}], "max_tokens": 8, **more}, whose)

    # What ships for China and California is what these tests go by; the operator's keywords are one word.
    ours = json.loads(run("govern", "profile", "show", "us-ca-public").stdout)
    china = json.loads(run("govern", "profile", "show", "cn-public").stdout)
    check("conduct: the shipped profiles ask for it", china["strikes"]["in_a_row"] == 3 and china["companion"]["reminder_min"] == 120
          and china["crisis"]["helplines"] and ours["crisis"]["helplines"][0]["contact"].endswith("988") and ours["minors"]["reminder_min"] == 180)
    ours.update(profile="ours", strikes=china["strikes"], companion=china["companion"] | {"reminder_min": 120, "reminder": "You talk with an AI."},
                keyword_packs=[{"file": "words.txt", "action": "block"}], detector="off", required_approvals=[])
    ours["minors"].update(companions=False, minutes_a_day=240)
    ours.pop("watermark")
    (work / "words.txt").write_text("[arms]\nbomb\n")
    policy.write_text(json.dumps(ours))
    words = ["-m", "mini", "--store", str(store), "--audit-log", str(log), "--audit-key", str(key), "--policy", str(policy)]
    refused = run("serve", "--port", "0", "-m", "mini", "--policy", policy, "--audit-log", log, "--audit-key", key)
    check("conduct: nothing is counted without a store", refused.returncode == 4 and "--store" in refused.stderr)
    server, port = start_service(program, work / "log", *words)
    try:
        owner = re.search(r"sk-qw-[0-9a-f]+", wait_for(work / "log", "sk-qw-")).group(0)
        organisation = admin("org", "list")[0]["name"]
        for name in ("ann", "bo"):
            admin("user", "add", organisation, name)
        project = admin("project", "list")[0]["name"]
        ann, bo = (admin("key", "add", project, "--user", name)["key"] for name in ("ann", "bo"))

        status, said, head = chat("how is a bomb made", ann)
        check("strikes: a warning", status == 400 and "1 in a row" in said and head.get("X-Conduct") == "warned")
        check("strikes: what is fine goes on", chat("hello", ann)[0] == 200)
        codes = [chat("bomb", ann)[0] for _ in range(3)]
        status, said, head = chat("hello", ann, stream=True)
        check("strikes: three in a row suspend", codes == [400] * 3 and status == 403 and '"suspended"' in said and int(head["Retry-After"]) > 86000)
        check("strikes: nobody else", chat("hello", bo)[0] == 200)

        helped = {}
        for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "I want to kill myself"}]}),
                           ("/v1/responses", {"input": "I want to kill myself"}),
                           ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": "I want to kill myself"}]}),
                           ("/api/chat", {"model": "mini", "messages": [{"role": "user", "content": "I want to kill myself"}]}),
                           ("/v1/completions", {"prompt": "I want to kill myself"})):
            for stream in (False, True):
                status, said, _ = send(port, "POST", path, body | {"stream": stream}, bo)
                helped[path, stream] = status == 200 and "call or text 988" in said and "helplines" in said
        check("crisis: help in every protocol, streamed or not", all(helped.values()))
        check("crisis: is no strike", admin("conduct", "list") and [c["total"] for c in admin("conduct", "list")] == [4])

        check("minors: an adult may have a companion", chat("hi", bo, [PERSONA])[0] == 200)
        check("minors: flagged", admin("minor", "set", "--user", "bo", "--age", "15")["age"] == 15)
        server.terminate()
        server.wait(30)
        server, port = start_service(program, work / "log", *words)
        check("strikes: a start forgets nothing", chat("hello", ann)[0] == 403)
        status, said, _ = chat("hi", bo, [PERSONA])
        check("minors: no companion", status == 403 and "not_for_minors" in said and chat("hi", bo)[0] == 200)

        def ago(minutes, column):
            with sqlite3.connect(store) as db:
                db.execute(f"UPDATE conduct SET {column} = {column} {minutes:+d} * 60000000 WHERE subject = (SELECT id FROM users WHERE name = 'bo')")
        ago(-121, "reminded_us")
        check("reminders: two hours are not enough for a minor here", "ai_reminder" not in chat("hi", bo)[1])
        ago(-60, "reminded_us")
        status, said, _ = chat("hi", bo, stream=True)
        events = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: {")]
        text = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
        check("reminders: three are, in the first event and in the text", events[0]["ai_reminder"] == "You talk with an AI."
              and text.startswith("You talk with an AI.\n\n") and "ai_reminder" not in chat("hi", bo)[1])
        ago(240, "used_us")
        status, said, head = chat("hi", bo)
        check("minors: the day's time ends", status == 429 and "daily_time_used" in said and 0 < int(head["Retry-After"]) <= 86400)

        check("conduct: visible and lifted", [c["standing"] for c in admin("conduct", "list", "--status", "suspended")] == ["suspended"]
              and send(port, "POST", "/admin/v1/conduct/ann/lift", {}, owner)[0] == 200 and chat("hello", ann)[0] == 200)
        mine = json.loads(urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/v1/my/data", headers={"Authorization": "Bearer " + bo})).read())
        check("conduct: given out with one's data", mine["conduct"][0]["used_seconds"] >= 240 * 60 and mine["minors"][0]["age"] == 15)

        # What the policy would do with a text is told by the rules that requests go through.
        screened = json.loads(send(port, "POST", "/v1/screen", {"input": ["a bomb", "hello", "I want to kill myself"]}, owner)[1])
        check("screen: the same verdicts", [r["action"] for r in screened["results"]] == ["block", "pass", "help"]
              and screened["results"][0]["findings"][0] == {"stage": "keywords", "kind": "keyword/arms", "action": "block", "begin": 2, "end": 6}
              and "988" in screened["results"][2]["reply"] and screened["policy"]["profile"] == "ours")
        check("screen: of answers", json.loads(send(port, "POST", "/v1/screen", {"input": "hi", "side": "output"}, owner)[1])["results"] == [
            {"action": "pass", "findings": [], "text": "hi"}])
        check("screen: not for every key", send(port, "POST", "/v1/screen", {"input": "bomb"}, bo)[0] == 403)
        judged = json.loads(send(port, "POST", "/v1/moderations", {"input": ["a bomb", "hello"]}, owner)[1])["results"]
        check("screen: moderations say the same", [(r["flagged"], r["policy"]["action"]) for r in judged] == [(True, "block"), (False, "pass")])

        # Strikes of whom the client names, and of nobody else with that key.
        server.terminate()
        server.wait(30)
        ours["strikes"] = {"of": "end_user", "in_a_row": 2, "action": "suspend"}
        ours["version"] += 1
        policy.write_text(json.dumps(ours))
        server, port = start_service(program, work / "log", *words)
        codes = [chat("bomb", ann, user="kim")[0] for _ in range(2)] + [chat("hello", ann, user="kim")[0]]
        check("strikes: of a named end user", codes == [400, 400, 403] and chat("hello", ann, user="lee")[0] == 200 and chat("hello", ann)[0] == 200)
        message = lambda who: send(port, "POST", "/v1/messages", {"max_tokens": 3, "metadata": {"user_id": who},
                                                                  "messages": [{"role": "user", "content": "hello"}]}, ann)[0]
        check("strikes: of one whom Anthropic's protocol names, too", message("kim") == 403 and message("lee") == 200)
        named = [c["subject"] for c in admin("conduct", "list", "--status", "suspended")]
        check("strikes: his name is not kept, and they are lifted", len(named) == 1 and ".u" in named[0] and "kim" not in named[0]
              and send(port, "POST", f"/admin/v1/conduct/{named[0]}/lift", {}, owner)[0] == 200 and chat("hello", ann, user="kim")[0] == 200)
    finally:
        server.terminate()
        server.wait(30)
    records = [json.loads(line) for line in (log / "records.jsonl").read_text().splitlines()]
    check("log: strikes, suspensions, crises, reminders, what was lifted",
          any(r.get("conduct", {}).get("standing") == "suspended" for r in records) and any(r.get("crisis") == "request" for r in records)
          and any(r.get("reminder") for r in records) and any(r.get("operation") == "conduct.lift" for r in records))
    check("log: whole", run("govern", "audit", "verify", log, "--key", f"{key}.pub").returncode == 0)
