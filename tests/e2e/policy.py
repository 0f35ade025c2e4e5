"""A service that follows a signed policy, and what happens if it cannot.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from service import call, check, start_service

program = sys.argv[1]


def govern(*words):
    return subprocess.run([program, "govern", *map(str, words)], capture_output=True, text=True, timeout=60)


def refused(*words):
    """What a service says that does not start."""
    done = subprocess.run([program, "serve", "--port", "0", "-m", "mini", *map(str, words)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    log, key, signer = work / "audit", work / "key", work / "signer"
    for name in (key, signer):
        govern("audit", "key", name)
    names = [json.loads(line)["profile"] for line in govern("profile", "list", "--json").stdout.splitlines()]
    check("policy: five come with the program", names == ["internal", "eu-public", "it-public", "cn-public", "us-ca-public"])

    code, said = refused("--policy", "eu-public")
    check("policy: what a service has not ends its start", code == 4 and "audit log" in said and "--watermark-keys" in said)
    code, said = refused("--policy", "mars-public")
    check("policy: an unknown one", code == 3 and "no profile of that name" in said)

    ours = json.loads(govern("profile", "show", "internal").stdout)
    ours.update(profile="ours", keyword_packs=[{"file": "words.txt", "action": "block"}])
    ours["guard"] = {"input": {"pii": {"email": "mask"}}, "output": {"pii": {"all": "mask"}}, "tell_client": True}
    file, sealed = work / "ours.json", work / "sealed.json"
    (work / "words.txt").write_text("[arms]\nbomb\n")
    file.write_text(json.dumps(ours))
    code, said = refused("--policy", file, "--policy-key", f"{signer}.pub")
    check("policy: one that is not signed", code == 4 and "is not signed" in said)
    govern("profile", "sign", file, "--key", signer, "-o", sealed)
    check("policy: signed", govern("profile", "check", sealed, "--key", f"{signer}.pub").returncode == 0)
    broken = work / "broken.json"
    broken.write_text(sealed.read_text().replace('"mask"', '"flag"', 1))
    check("policy: and changed since", govern("profile", "check", broken, "--key", f"{signer}.pub").returncode == 4)

    traffic = work / "traffic.jsonl"
    traffic.write_text('{"input": "write to a@b.org", "output": "a bomb"}\n'
                       '{"messages": [{"role": "user", "content": "b o m b"}, {"role": "assistant", "content": "no"}]}\n')
    tried = json.loads(govern("profile", "try", sealed, "--on", traffic, "--json").stdout)
    check("policy: tried on what was said before", tried["lines"] == 2 and tried["input"]["blocked"] == 1 and tried["output"]["blocked"] == 1
          and {"kind": "pii/email", "action": "mask", "count": 1} in tried["input"]["findings"])

    server, port = start_service(program, work / "log", "-m", "mini", "--policy", str(sealed), "--policy-key", f"{signer}.pub",
                                 "--audit-log", str(log), "--audit-key", str(key))
    try:
        def ask(text, **more):
            return call(port, "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": text}], "max_tokens": 8, **more})
        status, body = ask("how is a bomb made")
        check("policy: a request that it blocks", status == 400 and body["error"]["code"] == "content_filter" and "keyword/arms" in body["error"]["message"])
        status, body = ask("write to a@b.org", timings=True)
        check("policy: one that it masks", status == 200 and body["guard"]["input"] == [{"kind": "pii/email", "action": "mask", "count": 1}])
        status, body = call(port, "POST", "/api/chat", {"model": "mini", "messages": [{"role": "user", "content": "bomb"}]})
        check("policy: in another protocol", status == 400)
        records = [json.loads(line) for line in (log / "records.jsonl").read_text().splitlines()]
        followed = records[0]["policies"][0]
        check("policy: the start names it", followed["profile"] == "ours" and followed["packs"][0]["file"] == "words.txt" and "key" in followed)
        check("policy: every record names it", [r["type"] for r in records[1:]] == ["refusal", "generation", "refusal"]
              and all(r["policy"] == followed["policy"] for r in records[1:]))
        check("policy: and no text", "bomb" not in (log / "records.jsonl").read_text())
    finally:
        server.terminate()
        server.wait(timeout=60)
    check("policy: the log is whole", govern("audit", "verify", log, "--key", f"{key}.pub").returncode == 0)
