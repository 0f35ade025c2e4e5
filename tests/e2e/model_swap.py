"""A served model is replaced by another file while requests run: by an administrator, and by SIGHUP.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from service import call, check, start_service, wait_for

program = sys.argv[1]
mini = pathlib.Path(__file__).resolve().parents[2] / "models" / "mini" / "mini.gguf"


def ask(port, tokens=24):
    status, answer = call(port, "POST", "/v1/completions", {
        "model": "poet", "prompt": "床前明月光，", "max_tokens": tokens, "temperature": 0, "ignore_eos": True})
    return answer["choices"][0]["text"] if status == 200 else f"{status} {answer}"


def stream(port, tokens):
    """The text of a streamed answer, put together."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", json.dumps({
        "model": "poet", "prompt": "床前明月光，", "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}).encode(),
        {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        events = [line[6:] for line in answer.read().decode().splitlines() if line.startswith("data: ")]
    return "".join(json.loads(e)["choices"][0]["text"] for e in events[:-1]) if events[-1] == "[DONE]" else "cut"


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    store = work / "models"
    store.mkdir()
    shutil.copy(mini, store / "one.gguf")
    subprocess.run([program, "quantize", str(mini), str(store / "two.gguf"), "--type", "q4_0"], check=True, capture_output=True, timeout=120)
    shutil.copy(mini, work / "poet.gguf")
    small = ["--cache-tokens", "2048", "--max-sequences", "8"]
    config = work / "serve.toml"
    config.write_text(f'model = "{work / "poet.gguf"}"\n')
    server, port = start_service(program, work / "log", "--config", str(config), "--model-folder", str(store), *small)
    put = lambda **body: call(port, "PUT", "/admin/models/poet", body)
    try:
        one = ask(port)
        status, listed = call(port, "GET", "/admin/models")
        check("swap: the model is listed", status == 200 and [m["name"] for m in listed["models"]] == ["poet"] and listed["models"][0]["loaded"])
        status, said = put(path="two.gguf")
        two = ask(port)
        check("swap: another takes its place under its name", status == 200 and said["name"] == "poet" and two != one and len(two) > 10)
        check("swap: and the first comes back", put(path="one.gguf")[0] == 200 and ask(port) == one)
        long_one = stream(port, 300)

        # Requests without pause while the models take turns.
        wrong, seen, stop = [], {one: 0, two: 0}, threading.Event()
        lock = threading.Lock()

        def client(streamed):
            while not stop.is_set():
                text = stream(port, 24) if streamed else ask(port)
                with lock:
                    if text in seen:
                        seen[text] += 1
                    else:
                        wrong.append(text)
        clients = [threading.Thread(target=client, args=(i % 2 == 0,)) for i in range(4)]
        for thread in clients:
            thread.start()
        fine, rounds, memory = 0, 8, []
        for i in range(rounds):
            slow = []
            runner = threading.Thread(target=lambda: slow.append(stream(port, 300)))
            if i == 1:  # begins with the model `one`, or a moment too late
                runner.start()
                time.sleep(0.05)
            fine += put(path="two.gguf" if i % 2 else "one.gguf")[0] == 200
            fine += ask(port) == (two if i % 2 else one)  # whoever comes later gets the new one
            if i == 1:
                runner.join()
                check("swap: a long answer keeps the model it began with", slow[0] == long_one or slow[0].startswith(two))
            memory.append(resident(server.pid))
        stop.set()
        for thread in clients:
            thread.join()
        check("swap: eight times under load, whoever comes later gets the new one", fine == 2 * rounds)
        check(f"swap: {sum(seen.values())} answers meanwhile, each wholly of one of the two", not wrong and min(seen.values()) > 0)
        for text in wrong[:3]:
            print(text)
        end = time.monotonic() + 10
        while call(port, "GET", "/admin/models")[1]["models"][0]["replaced_in_use"] and time.monotonic() < end:
            time.sleep(0.05)
        check("swap: no old one stays behind", call(port, "GET", "/admin/models")[1]["models"][0]["replaced_in_use"] == 0)
        check("swap: memory does not grow with them", max(memory[4:]) < memory[1] + 60)

        # What cannot be.
        (store / "torn.gguf").write_bytes((store / "one.gguf").read_bytes()[:100000])
        shutil.copy(mini, work / "outside.gguf")
        check("swap: a torn file is refused, and the model stays", put(path="torn.gguf")[0] == 400 and ask(port) == two)
        check("swap: nothing from outside of the folder", put(path="../outside.gguf")[0] == put(path=str(work / "outside.gguf"))[0] == 403)
        check("swap: no such file, no such model", put(path="none")[0] == 400 and call(port, "PUT", "/admin/models/x", {"path": "one.gguf"})[0] == 404)

        # The file of the configuration is read again.
        server.send_signal(signal.SIGHUP)  # its path is another than that of the model which is served now
        wait_for(work / "log", f"replaced poet by {work / 'poet.gguf'}")
        check("swap: SIGHUP takes the configured model", ask(port) == one)
        told = lambda: (work / "log").read_text().count("replaced poet")
        count = told()
        shutil.copy(store / "two.gguf", work / "new")
        os.replace(work / "new", work / "poet.gguf")
        server.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while told() == count and time.monotonic() < end:  # the line comes after the model
            time.sleep(0.05)
        check("swap: SIGHUP takes a file that was replaced", ask(port) == two and told() == count + 1)
        server.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        check("swap: SIGHUP leaves what is as it was", told() == count + 1)
        config.write_text("model = [\n")
        server.send_signal(signal.SIGHUP)
        wait_for(work / "log", "nothing of the configuration was taken up")
        check("swap: a broken file of the configuration changes nothing", ask(port) == two)
    finally:
        server.terminate()
        check("swap: it stops cleanly", server.wait(40) == 0)

    # Memory for one only.
    listing = subprocess.run([program, "serve", "--check", "-m", str(work / "outside.gguf"), *small], capture_output=True, text=True, timeout=60)
    need = int(re.search(r": (\d+) MB of memory", listing.stderr).group(1))
    server, port = start_service(program, work / "log", "-m", str(work / "outside.gguf"), "--model-folder", str(store), "--memory", f"{need + need // 2}MB",
                                 *small)
    try:
        put = lambda **body: call(port, "PUT", "/admin/models/outside", body)
        status, said = put(path="one.gguf")
        check("swap: without memory for both it is said", status == 503 and "beside" in said["error"]["message"])
        status, _ = put(path="one.gguf", unload_first=True)
        check("swap: and the old one can go first", status == 200 and call(port, "GET", "/admin/models")[1]["models"][0]["loaded"])
    finally:
        server.terminate()
        server.wait(30)

    server, port = start_service(program, work / "log", "-m", "mini", *small)
    check("swap: no routes unless there is a folder", call(port, "GET", "/admin/models")[0] == 404)
    server.terminate()
    server.wait(30)
