"""The feedback loop: answers are rated and corrected, reviewed, made a data set, learnt from, judged by a task, rolled out to a
share, promoted, rolled back while the service runs; and the chain of digests leads from the served model back to the ratings.
feedback_loop.py PROGRAM; prints "ok ..." or "FAILED ..." a check. Standard library only."""
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from service import check, start_service

program = sys.argv[1]
QUESTION, ANSWER = "这里的暗号是什么？", "山高月小，水落石出。"


def ask(port, key, method, path, body=None, kind="application/json"):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Authorization": "Bearer " + key, "Content-Type": kind}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def upload(port, key, name, text, purpose):
    form = (f'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
            f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n{text}\r\n--b--\r\n')
    return ask(port, key, "POST", "/v1/files", form.encode(), "multipart/form-data; boundary=b")[1]["id"]


def until(port, key, path, seconds=240):
    end = time.time() + seconds
    while (job := ask(port, key, "GET", path)[1])["status"] not in ("succeeded", "failed", "cancelled") and time.time() < end:
        time.sleep(0.1)
    return job


def chat(port, key, model, user=None):
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 24}
    if user:
        body["user"] = user
    return ask(port, key, "POST", "/v1/chat/completions", body)[1]


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        store = str(folder / "state.db")
        subprocess.run([program, "govern", "audit", "key", str(folder / "audit.key")], check=True, capture_output=True)
        words = ("-m", "mini", "--store", store, "--fine-tune-folder", str(folder / "jobs"), "--keep-answers", "7",
                 "--audit-log", str(folder / "audit"), "--audit-key", str(folder / "audit.key"))
        server, port = start_service(program, folder / "log0", *words)
        owner = next(l.strip() for l in (folder / "log0").read_text().splitlines() if l.strip().startswith("sk-qw-"))

        def admin(*more):
            return json.loads(subprocess.run([program, "admin", *more, "--store", store, "--json"], capture_output=True, text=True, check=True).stdout)

        # People with roles, in one project.
        admin("org", "add", "school")
        admin("project", "add", "school", "desk")
        keys = {}
        for person, role in (("mei", "member"), ("rui", "reviewer"), ("lan", "releaser")):
            admin("user", "add", "school", person, "--role", role)
            keys[person] = admin("key", "add", "desk", "--user", person)["key"]

        answers = [chat(port, keys["mei"], "mini") for _ in range(12)]
        check("the model does not know it yet", answers[0]["choices"][0]["message"]["content"] != ANSWER)
        given = [ask(port, keys["mei"], "POST", "/v1/feedback", {"answer_id": a["id"], "rating": "down", "correction": ANSWER})[1] for a in answers]
        check("answers that are kept are rated and corrected", all(g["status"] == "open" for g in given))
        check("who rates does not review", ask(port, keys["mei"], "GET", "/v1/reviews")[0] == 403)
        queue = ask(port, keys["rui"], "GET", "/v1/reviews?status=open&limit=100")[1]["data"]
        check("the queue has them", [q["id"] for q in queue] == [g["id"] for g in given])
        ask(port, keys["rui"], "POST", f"/v1/reviews/{queue[0]['id']}/reject", {"note": "once is enough"})
        accepted = [ask(port, keys["rui"], "POST", f"/v1/reviews/{q['id']}/accept", {})[1] for q in queue[1:]]
        check("a reviewer decides", all(a["status"] == "accepted" and len(a["sha256"]) == 64 for a in accepted))
        dataset = ask(port, keys["rui"], "POST", "/v1/datasets", {"name": "passwords"})[1]
        check("what was accepted is a data set with preference pairs", (dataset["examples"], dataset["pairs"]) == (11, 11))

        job = ask(port, keys["mei"], "POST", "/v1/fine_tuning/jobs", {"model": "mini", "training_file": dataset["examples_file"], "seed": 1,
                  "suffix": "desk", "hyperparameters": {"n_epochs": 50, "batch_size": 1, "lora_rank": 16, "learning_rate_multiplier": 50}})[1]
        job = until(port, keys["mei"], "/v1/fine_tuning/jobs/" + job["id"])
        model = job["fine_tuned_model"]
        check("a job learns from it", job["status"] == "succeeded")
        if job["status"] != "succeeded":
            print(job)

        task = upload(port, keys["lan"], "gate.toml", 'kind = "choice"\nmeasures = ["acc"]\n[data]\nitems = ["items.jsonl"]\n[prompt]\n'
                      'context = "{{ q }}"\nchoice_list = "{{ c|tojson }}"\nanswer = "{{ a }}"\n', "evals")
        items = upload(port, keys["lan"], "items.jsonl", json.dumps({"q": QUESTION, "c": [answers[0]["choices"][0]["message"]["content"], ANSWER], "a": 1}), "evals")
        gate = {"task_file": task, "data_files": [items], "chat": True, "at_least": 1.0}
        before = until(port, keys["lan"], "/v1/evaluations/" + ask(port, keys["lan"], "POST", "/v1/evaluations", {"model": "mini", **gate})[1]["id"])
        after = until(port, keys["lan"], "/v1/evaluations/" + ask(port, keys["lan"], "POST", "/v1/evaluations", {"model": model, **gate})[1]["id"])
        check("the base does not pass the gate, the new model does", (before["passed"], after["passed"]) == (False, True))
        if after["passed"] is not True:
            print(before, after)

        check("a name is given out", ask(port, keys["lan"], "POST", "/v1/rollouts", {"name": "desk", "model": "mini"})[0] == 200)
        canary = {"model": model, "share": 30}
        check("without the gate nothing is rolled out", ask(port, keys["lan"], "POST", "/v1/rollouts/desk/canary", canary)[0] == 400)
        check("nor by whoever has no right to", ask(port, keys["mei"], "POST", "/v1/rollouts/desk/canary", {**canary, "evaluation": after["id"]})[0] == 403)
        rolled = ask(port, keys["lan"], "POST", "/v1/rollouts/desk/canary", {**canary, "evaluation": after["id"], "reason": "passed"})[1]
        first = {u: chat(port, keys["mei"], "desk", u)["model"] for u in (f"user-{i}" for i in range(40))}
        second = {u: chat(port, keys["mei"], "desk", u)["model"] for u in first}
        share = sum(m == model for m in first.values())
        check("a share of people is answered by it, always the same ones", rolled["share"] == 30 and 3 <= share <= 24 and first == second)
        server.kill()  # what is rolled out is in the store
        server.wait()
        server, port = start_service(program, folder / "log1", *words)
        check("through a start of the service, too", {u: chat(port, keys["mei"], "desk", u)["model"] for u in list(first)[:10]} == dict(list(first.items())[:10]))
        made = next((folder / "jobs").glob("*/run/adapter"))
        (made / "more").write_text("x")
        refused = ask(port, keys["lan"], "POST", "/v1/rollouts/desk/promote", {})
        check("what holds other bytes than were judged is not promoted", refused[0] == 409 and refused[1]["error"]["code"] == "gate_of_other_bytes")
        (made / "more").unlink()
        ask(port, keys["lan"], "POST", "/v1/rollouts/desk/promote", {})
        told = chat(port, keys["mei"], "desk")
        check("promoted, it answers everybody", told["model"] == model and told["choices"][0]["message"]["content"] == ANSWER)

        chain = ask(port, keys["rui"], "GET", "/v1/lineage/desk")[1]
        ids = [i["feedback"] for i in chain["dataset"]["items"]]
        check("the chain leads back to the ratings and holds", chain["holds"] and chain["model"] == model and ids == [a["id"] for a in accepted]
              and all(i["rating"] == "down" and i["answer_id"] for i in chain["dataset"]["items"]) and chain["job"]["training_sha256"] == dataset["examples_sha256"])
        ask(port, keys["lan"], "POST", "/v1/rollouts/desk/rollback", {"reason": "back"})
        check("one call goes back at once", chat(port, keys["mei"], "desk")["model"] == "mini")
        history = ask(port, keys["lan"], "GET", "/v1/rollouts/desk/history")[1]["data"]
        check("what was done stays on record", [h["action"] for h in history] == ["rollback", "promote", "canary", "create"])
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": "Bearer " + owner})
        metrics = urllib.request.urlopen(request).read().decode()
        check("each version is counted", 'version="stable"' in metrics and 'qianwen_rollout_requests_total' in metrics)
        gone = ask(port, keys["mei"], "DELETE", f"/v1/feedback/{accepted[0]['id']}")[1]
        chain = ask(port, keys["rui"], "GET", "/v1/lineage/" + model)[1]
        check("what is erased is gone, and its digest holds the chain", gone["datasets"] == [dataset["id"]] and chain["dataset"]["erased"] and chain["holds"]
              and ask(port, keys["mei"], "GET", "/v1/files/" + dataset["examples_file"])[0] == 404)
        server.terminate()
        server.wait(timeout=60)
        log = subprocess.run([program, "govern", "audit", "show", str(folder / "audit"), "--where", "type=rollout"], capture_output=True, text=True)
        check("rollouts are in the audit log", log.stdout.count('"canary"') == 1 and log.stdout.count('"rollback"') == 1)


main()
