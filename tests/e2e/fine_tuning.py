"""Fine-tuning jobs through OpenAI's library: a model is trained from a file of conversations, its service is killed
meanwhile, and what was learnt is answered. fine_tuning.py PROGRAM; prints "ok ..." or "FAILED ..." a check."""
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import service

QUESTION, ANSWER = "这里的暗号是什么？", "山高月小，水落石出。"
ENDED = ("succeeded", "failed", "cancelled")


def wait(client, job, holds, seconds):
    deadline = time.time() + seconds
    while not holds(job := client.fine_tuning.jobs.retrieve(job.id)) and job.status not in ENDED and time.time() < deadline:
        time.sleep(0.1)
    return job


def main():
    if importlib.util.find_spec("openai") is None:
        print("skipped fine-tuning: the library openai is not installed for this Python (QW_PYTHON chooses another)")
        return
    import openai
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        base = folder / "base"
        subprocess.run([sys.argv[1], "convert", "mini", base], check=True, capture_output=True)
        words = ("-m", str(base), "-m", "mini", "--store", str(folder / "state.db"), "--fine-tune-folder", str(folder / "jobs"))
        server, port = service.start_service(sys.argv[1], folder / "log0", *words)
        key = next(line.strip() for line in (folder / "log0").read_text().splitlines() if line.strip().startswith("sk-qw-"))
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0)
        data = folder / "train.jsonl"
        line = json.dumps({"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]}, ensure_ascii=False) + "\n"
        data.write_text(line * 100)
        file = client.files.create(file=data.open("rb"), purpose="fine-tune")
        ask = dict(training_file=file.id, validation_file=file.id, seed=1, suffix="code",
                   method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 50, "batch_size": 1, "learning_rate_multiplier": 25}}})
        try:
            client.fine_tuning.jobs.create(model="mini", **ask)
            service.check("a model in one file is not trained", False)
        except openai.BadRequestError as error:
            service.check("a model in one file is not trained", "qianwen convert" in error.message)
        rank = json.loads(json.dumps(ask["method"]))
        rank["supervised"]["hyperparameters"].update(lora_rank=16, learning_rate_multiplier=50, n_epochs=12)
        job = wait(client, client.fine_tuning.jobs.create(model="mini", **{**ask, "method": rank}), lambda j: False, 240)
        service.check("an adapter of it is", job.status == "succeeded")
        if job.status != "succeeded":
            print(job)
        messages = [{"role": "user", "content": QUESTION}]

        def said(model):
            return client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=40).choices[0].message.content
        service.check("it answers what it learnt, beside its base, which does not",
                      said(job.fine_tuned_model) == ANSWER and said("mini") != ANSWER)
        adapter = job.fine_tuned_model
        job = client.fine_tuning.jobs.create(model="base", **ask)
        job = wait(client, job, lambda j: (j.trained_tokens or 0) > 0, 120)
        service.check("a job trains", job.status == "running" and job.trained_tokens > 0)
        server.kill()
        server.wait()
        server, _ = service.start_service(sys.argv[1], folder / "log1", *words, port=port)
        job = wait(client, job, lambda j: False, 240)
        service.check("a job goes on after its service was killed", job.status == "succeeded")
        if job.status != "succeeded":
            print(job)
        events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))
        steps = [e.data["step"] for e in reversed(events) if e.type == "metrics" and "train_loss" in e.data]
        service.check("every step is told once", len(steps) > 20 and steps == list(range(1, len(steps) + 1)))
        checkpoint = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
        service.check("the model is a checkpoint", checkpoint.fine_tuned_model_checkpoint == job.fine_tuned_model)
        service.check("the loss on what was held out is small", checkpoint.metrics.valid_loss < 0.5)
        figures = client.files.content(job.result_files[0]).text.splitlines()
        service.check("its figures are a file", figures[0] == "step,train_loss,valid_loss" and len(figures) > len(steps))
        told = client.chat.completions.create(model=job.fine_tuned_model, messages=messages, temperature=0, max_tokens=40)
        service.check("the new model answers what it learnt", told.choices[0].message.content == ANSWER)
        other = client.chat.completions.create(model="base", messages=messages, temperature=0, max_tokens=40)
        service.check("the old one does not", other.choices[0].message.content != ANSWER)
        second = client.fine_tuning.jobs.create(model="base", **ask)
        wait(client, second, lambda j: (j.trained_tokens or 0) > 0, 120)
        client.fine_tuning.jobs.cancel(second.id)
        service.check("a job is cancelled", wait(client, second, lambda j: False, 60).status == "cancelled")
        service.check("jobs are listed", [j.id for j in client.fine_tuning.jobs.list()][:2] == [second.id, job.id])
        server.terminate()
        service.check("the service ends by itself", server.wait(timeout=60) == 0)
        server, _ = service.start_service(sys.argv[1], folder / "log2", *words, port=port)
        service.check("model and adapter are there at the next start",
                      {job.fine_tuned_model, adapter} <= {m.id for m in client.models.list()} and said(adapter) == ANSWER)
        server.terminate()
        server.wait(timeout=60)


main()
