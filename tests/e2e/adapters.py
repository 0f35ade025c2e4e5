"""Adapters that are loaded and unloaded while the service runs: the shipped model with a random adapter.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import threading

from service import call, check, start_service

program = sys.argv[1]
WIDTH, HEADS, RANK, LAYERS = 256, 4 * 64, 4, 8  # of the shipped model


def make_adapter(folder, seed):
    """A PEFT folder that changes the queries of every layer."""
    folder.mkdir()
    rng = random.Random(seed)
    header, data = {}, b""
    for layer in range(LAYERS):
        for part, shape in (("A", (RANK, WIDTH)), ("B", (HEADS, RANK))):
            values = [rng.gauss(0, 0.3) for _ in range(shape[0] * shape[1])]
            end = len(data) + 4 * len(values)
            header[f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{part}.weight"] = {
                "dtype": "F32", "shape": shape, "data_offsets": [len(data), end]}
            data += struct.pack(f"<{len(values)}f", *values)
    head = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    (folder / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}))


def ask(port, model, tokens=24):
    status, answer = call(port, "POST", "/v1/completions", {
        "model": model, "prompt": "床前明月光，", "max_tokens": tokens, "temperature": 0, "logprobs": 1})
    return status, answer.get("choices")


def offline(adapter):
    done = subprocess.run([program, "complete", "-m", "mini", "-p", "床前明月光，", "--max-tokens", "24", "--temperature", "0", "--json",
                           "--adapter", str(adapter)], capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)["text"]


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    store = work / "adapters"
    store.mkdir()
    make_adapter(store / "one", 1)
    make_adapter(store / "two", 2)
    make_adapter(work / "outside", 3)
    server, port = start_service(program, work / "log", "-m", "mini", "--adapter-folder", str(store), "--memory", "1G")
    try:
        plain = ask(port, "mini")
        check("adapters: none at first", call(port, "GET", "/admin/adapters") == (200, {"adapters": []}) and ask(port, "poet")[0] == 404)
        status, said = call(port, "POST", "/admin/adapters", {"name": "poet", "path": "one"})
        check("adapters: one is loaded", status == 200 and said["model"] == "mini")
        poet = ask(port, "poet")
        check("adapters: it answers as it does alone", poet[0] == 200 and poet[1][0]["text"] == offline(store / "one") != plain[1][0]["text"])
        check("adapters: the model itself is what it was", ask(port, "mini") == plain)
        check("adapters: it is listed", call(port, "GET", "/v1/models/poet")[1]["parent"] == "mini")

        # Both come and go while others run; nobody's answer changes.
        wrong, stop = [], threading.Event()

        def client(model, expected):
            while not stop.is_set():
                if ask(port, model) != expected:
                    wrong.append(model)
        clients = [threading.Thread(target=client, args=a) for a in (("mini", plain), ("poet", poet))]
        for thread in clients:
            thread.start()
        second = offline(store / "two")
        fine = 0
        for _ in range(20):
            fine += call(port, "POST", "/admin/adapters", {"name": "other", "path": "two", "model": "mini"})[0] == 200
            answer = ask(port, "other")
            fine += answer[0] == 200 and answer[1][0]["text"] == second
            fine += call(port, "DELETE", "/admin/adapters/other")[0] == 200
        stop.set()
        for thread in clients:
            thread.join()
        check("adapters: another came and went twenty times", fine == 60)
        check("adapters: answers beside it stayed the same", not wrong)

        # A request that runs keeps its adapter.
        slow = []
        runner = threading.Thread(target=lambda: slow.append(ask(port, "poet", 400)))
        runner.start()
        check("adapters: unloaded", call(port, "DELETE", "/admin/adapters/poet")[0] == 200 and ask(port, "poet")[0] == 404)
        runner.join()
        check("adapters: a request that ran kept it, or came too late", slow[0][0] in (200, 404) and (
            slow[0][0] == 404 or slow[0][1][0]["text"].startswith(poet[1][0]["text"])))

        post = lambda **body: call(port, "POST", "/admin/adapters", body)
        check("adapters: nothing from outside of the folder", post(name="x", path="../outside")[0] == post(name="x", path=str(work / "outside"))[0] == 403)
        check("adapters: no such file", post(name="x", path="none")[0] == 400)
        check("adapters: a name that is taken", post(name="mini", path="one")[0] == 400)
        check("adapters: a model nobody has", post(name="x", path="one", model="nobody")[0] == 400)
        check("adapters: the model goes on", ask(port, "mini") == plain)
    finally:
        server.terminate()
        check("adapters: it stops cleanly", server.wait(30) == 0)

    server, port = start_service(program, work / "log", "-m", "mini")
    check("adapters: no routes unless there is a folder", call(port, "GET", "/admin/adapters")[0] == 404)
    server.terminate()
    server.wait(30)
