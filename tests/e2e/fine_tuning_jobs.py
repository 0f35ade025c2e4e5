"""Fine-tuning jobs: what is told before training holds afterwards, files that are wrong fail at once, and a job that is
paused, whose service is killed (kill -9) and that is resumed makes the same bytes as one that ran through.
fine_tuning_jobs.py PROGRAM; prints "ok ..." or "FAILED ..." a check. Standard library only."""
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from service import check, start_service

program = sys.argv[1]
ENDED = ("succeeded", "failed", "cancelled")
# How far the memory that is foretold may be from the measured peak of the run, either way.
MEMORY_BOUND = 0.10


class Client:
    def __init__(self, port, key):
        self.root, self.key = f"http://127.0.0.1:{port}", key

    def ask(self, method, path, body=None, kind="application/json"):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Authorization": "Bearer " + self.key, "Content-Type": kind}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def upload(self, text):
        form = ('--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
                '--b\r\nContent-Disposition: form-data; name="file"; filename="t.jsonl"\r\n\r\n' + text + "\r\n--b--\r\n")
        return self.ask("POST", "/v1/files", form.encode(), "multipart/form-data; boundary=b")[1]["id"]

    def create(self, file, **more):
        body = {"model": "mini", "training_file": file, "seed": 1, "suffix": "x", "method": {"type": "supervised", "supervised": {
            "hyperparameters": {"n_epochs": 4, "batch_size": 1, "lora_rank": 4}}}, **more}
        return self.ask("POST", "/v1/fine_tuning/jobs", body)[1]

    def job(self, id):
        return self.ask("GET", "/v1/fine_tuning/jobs/" + id)[1]

    def until(self, id, holds, seconds=120):
        end = time.time() + seconds
        while not holds(job := self.job(id)) and job["status"] not in ENDED and time.time() < end:
            time.sleep(0.05)
        return job


def line(question, answer):
    return json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}, ensure_ascii=False) + "\n"


def pair(question, answer, other):
    return json.dumps({"input": {"messages": [{"role": "user", "content": question}]}, "preferred_output": [{"role": "assistant", "content": answer}],
                       "non_preferred_output": [{"role": "assistant", "content": other}]}, ensure_ascii=False) + "\n"


def prefers(client, folder):
    """A job of the method dpo, over pairs as OpenAI has them."""
    pairs = "".join(pair(f"第{i}句是什么？", f"这是第{i}句。", "我不知道。") for i in range(24))
    method = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 3, "batch_size": 4, "beta": 0.2, "lora_rank": 4, "learning_rate_multiplier": 200}}}
    job = client.until(client.create(client.upload(pairs), method=method)["id"], lambda j: False, 240)
    check("a job learns from pairs", job["status"] == "succeeded" and job["method"]["type"] == "dpo" and job["method"]["dpo"]["hyperparameters"]["beta"] == 0.2)
    run = folder / "jobs" / job["id"] / "run"
    steps = [s for s in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if "margin" in s and "loss" in s]
    check("it begins at ln 2 and comes to prefer what is preferred", len(steps) == 18 and abs(steps[0]["loss"] - 0.6931) < 1e-3 and
          steps[-1]["loss"] < 0.5 and steps[-1]["accuracy"] == 1)
    check("what comes of a base that states its licence states it", 'license: "apache-2.0"' in (run / "adapter/README.md").read_text().lower())


def digest(folder, job):
    return hashlib.sha256((folder / "jobs" / job / "run/adapter/adapter_model.safetensors").read_bytes()).hexdigest()


def children_of(word):
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if word in (process / "cmdline").read_bytes().decode(errors="replace"):
                found.append(process.name)
        except OSError:
            pass
    return found


def peak_of(words):
    """Bytes of the largest that a command was, and whether it ended well."""
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    return usage.ru_maxrss * 1024, status == 0


def foretold(folder, kind, more, top=""):
    """Memory of a recipe: as it is foretold without a step, and the peak of a whole run of it."""
    recipe = folder / f"{kind}.toml"
    recipe.write_text(f'output = "{folder / kind}"\nshards = "{folder / "shards"}"\ninit_from = "{folder / "base"}"\nsteps = 4\n'
                      f'sequence_length = 512\nbatch_sequences = 1\n{top}[optimizer]\nlr = 1e-4\n{more}')
    told = json.loads(subprocess.run([program, "train", "--estimate", str(recipe), "--json", "--calibrate", "0"], capture_output=True,
                                     text=True, check=True).stdout)
    peak, fine = peak_of([program, "train", str(recipe)])
    return told["memory_bytes"], peak if fine else 0


def memory(folder):
    subprocess.run([program, "convert", "mini", folder / "base"], check=True, capture_output=True)
    (folder / "t.jsonl").write_text("".join(line(f"第{i}句是什么？", f"这是第{i}句。" * 9) for i in range(60)))
    (folder / "data.toml").write_text(f'output = "{folder / "shards"}"\ndedup = "none"\n[tokenizer]\nfolder = "{folder / "base"}"\n'
                                      f'[[source]]\nname = "t"\npath = "{folder / "t.jsonl"}"\nformat = "chat"\nlicence = "own"\norigin = "own"\n')
    subprocess.run([program, "data", "build", folder / "data.toml", "--corpus", folder], check=True, capture_output=True)
    for kind, more, top in (("adapters", "[lora]\nrank = 8\n", ""), ("all", "", ""), ("all again", "", 'recompute = "full"\n'),
                            ("small", 'kind = "adamw_8bit"\n', ""), ("muon", 'kind = "muon"\n', "")):
        told, peak = foretold(folder, kind, more, top)
        error = told / peak - 1 if peak else 9
        check(f"memory of a run ({kind}) is foretold: {told >> 20} MiB, its peak was {peak >> 20} MiB ({100 * error:+.1f} %)", abs(error) <= MEMORY_BOUND)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        words = ("-m", "mini", "--store", str(folder / "state.db"), "--fine-tune-folder", str(folder / "jobs"))
        server, port = start_service(program, folder / "log0", *words)
        key = next(l.strip() for l in (folder / "log0").read_text().splitlines() if l.strip().startswith("sk-qw-"))
        client = Client(port, key)
        good = client.upload("".join(line(f"第{i}句是什么？", f"这是第{i}句。" * (1 + i % 7)) for i in range(100)))
        body = {"model": "mini", "training_file": good, "method": {"type": "supervised", "supervised": {
            "hyperparameters": {"n_epochs": 4, "batch_size": 1, "lora_rank": 4}}}}
        status, told = client.ask("POST", "/v1/fine_tuning/estimate", body)
        estimate = told.get("estimate") or {}
        check("what a job would take is told, and none is begun", status == 200 and estimate.get("fits") and estimate["seconds"] > 0 and
              client.ask("GET", "/v1/fine_tuning/jobs")[1]["data"] == [])
        straight = client.create(good)
        bad = client.create(client.upload(line("a", "b") + "{oops\n" + '{"messages": []}\n'))
        failed = client.until(bad["id"], lambda j: False, 20)
        check("a file that is wrong fails its job while another is trained", failed["status"] == "failed" and
              "line 2" in failed["error"]["message"] and client.job(straight["id"])["status"] not in ENDED)
        report = client.ask("GET", f"/v1/fine_tuning/jobs/{bad['id']}/validation")[1]
        check("its report names every line", [p["line"] for p in report["training_file"]["problems"]] == [2, 3])
        began = time.time()
        job = client.until(straight["id"], lambda j: False, 240)
        took = time.time() - began
        check("a job trains", job["status"] == "succeeded")
        if job["status"] != "succeeded":
            print(job, (folder / "log0").read_text()[-2000:])
        told = job["estimate"]
        print(f"  foretold {told['steps']} steps, {told['seconds']:.1f} s, {told['memory_bytes'] >> 20} MiB (peak so far then "
              f"{(told['measured_peak_bytes'] or 0) >> 20} MiB); it took {took:.1f} s, data and adapter with it")
        events = client.ask("GET", f"/v1/fine_tuning/jobs/{job['id']}/events?limit=100")[1]["data"]
        metrics = [e["data"] for e in events if e["type"] == "metrics"]
        check("steps tell their speed and the time that is left", metrics and all("tokens_per_second" in m and "seconds_left" in m for m in metrics))
        check("steps are as many as were foretold", abs(metrics[0]["total_steps"] - told["steps"]) <= max(2, told["steps"] // 20))

        paused = client.create(good)
        job = client.until(paused["id"], lambda j: (j["trained_tokens"] or 0) > 0)
        client.ask("POST", f"/v1/fine_tuning/jobs/{paused['id']}/pause")
        job = client.until(paused["id"], lambda j: j["status"] == "paused", 60)
        check("a job is paused in the middle", job["status"] == "paused" and 0 < job["trained_tokens"])
        check("nothing of it runs", children_of(paused["id"]) == [])
        server.kill()
        server.wait()
        server, port = start_service(program, folder / "log1", *words)
        client = Client(port, key)
        time.sleep(1)
        check("it is still paused after its service was killed", client.job(paused["id"])["status"] == "paused")
        client.ask("POST", f"/v1/fine_tuning/jobs/{paused['id']}/resume")
        client.until(paused["id"], lambda j: j["status"] == "running" and (j["trained_tokens"] or 0) > job["trained_tokens"])
        server.kill()  # and once more, while it trains
        server.wait()
        server, port = start_service(program, folder / "log2", *words)
        client = Client(port, key)
        job = client.until(paused["id"], lambda j: False, 240)
        check("it ends", job["status"] == "succeeded")
        check("with the bytes of the one that ran through", job["status"] == "succeeded" and digest(folder, job["id"]) == digest(folder, straight["id"]))

        run = folder / "jobs" / paused["id"] / "run"
        page = folder / "run.html"
        plot = subprocess.run([program, "train", "report", str(run)], capture_output=True, text=True)
        subprocess.run([program, "train", "report", str(run), "--html", str(page)], check=True)
        text = page.read_text()
        check("its log is a plot and a page of its own", plot.returncode == 0 and "Loss" in plot.stdout and "<svg" in text and "://" not in text and "<script" not in text)

        waiting = client.create(good)
        client.until(waiting["id"], lambda j: j["status"] == "running" and (j["trained_tokens"] or 0) > 0)
        client.ask("POST", f"/v1/fine_tuning/jobs/{waiting['id']}/pause")
        client.until(waiting["id"], lambda j: j["status"] == "paused", 60)
        client.ask("POST", f"/v1/fine_tuning/jobs/{waiting['id']}/cancel")
        check("a paused job is cancelled, and its files go", client.job(waiting["id"])["status"] == "cancelled" and not (folder / "jobs" / waiting["id"]).exists())
        prefers(client, folder)
        server.terminate()
        server.wait(timeout=60)
        memory(folder)


main()
