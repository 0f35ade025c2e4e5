#!/usr/bin/env python3
"""The HTTP path beside others, in one run and by turns: requests a second, and the median and the 99th of a hundred latencies.

usage: bench/http_compare.py PROGRAM INSTANT [--llama LLAMA_SERVER] [--rounds 3] [--seconds 2] [--connections 16]

  nginx         nginx sends a file as long as our short answer (what a request through the kernel and a good server costs)
  instant       INSTANT (bench/instant_service.cc): our service with a model that takes no time; a chat completion of one token
  text          the same as a completion of a text: without a template, and with a tokenizer of bytes the shortest way there is
  stream        the same, streamed, 16 tokens
  live          our GET /health/live
  mini          our service with the shipped model, a completion of one token
  mini chat     the same as a chat completion
  least         our service with the least model that is one: a layer 32 numbers wide, the shipped model's vocabulary. A step
                of it takes some ten microseconds, so that nearly all is the service. A completion of one token
  least chat    the same as a chat completion
  llama ...     llama-server with the same files and the same requests, and its GET /health

Both services have two threads for a model, room for --connections requests at once, and keep prompts they have read (which
after the first is every prompt here); each has the threads for HTTP that it takes by itself (ours two, llama-server's one for a
connection). wrk makes the load with one thread; all share this machine's processors with it. What is not installed is left out,
and said so. The least model needs the target make_random_checkpoint beside INSTANT.
"""
import argparse
import json
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

CHAT = {"messages": [{"role": "user", "content": "Which river is the longest?"}], "max_tokens": 1, "temperature": 0}
TEXT = {"prompt": "Which river is the longest?", "max_tokens": 1, "temperature": 0}
SCALE = {"us": 0.001, "ms": 1, "s": 1000}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until_ready(url, process):
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended: {url}")
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"no answer from {url}")


def send(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def load(work, url, body, o):
    """(requests a second, median ms, 99th of a hundred in ms)"""
    words = ["wrk", "-t1", f"-c{o.connections}", f"-d{o.seconds}s", "--latency"]
    if body is not None:
        text = json.dumps(body).replace("\\", "\\\\").replace("'", "\\'")
        script = work / "post.lua"
        script.write_text(f"wrk.method = 'POST'\nwrk.body = '{text}'\nwrk.headers['Content-Type'] = 'application/json'\n")
        words += ["-s", str(script)]
    out = subprocess.run(words + [url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"{url}: {out}")
    latency = lambda name: next(float(v) * SCALE[unit] for v, unit in re.findall(rf"^\s+{name}%\s+([0-9.]+)(us|ms|s)", out, re.M))
    return float(re.search(r"Requests/sec:\s+([0-9.]+)", out).group(1)), latency("50"), latency("99")


def least_model(program, maker, mini, work):
    """A GGUF file of one narrow layer with random weights, and the vocabulary and template of `mini`."""
    source, made, file = work / "mini", work / "made", work / "least.gguf"
    subprocess.run([program, "convert", mini, source], check=True, capture_output=True)
    config = json.loads((source / "config.json").read_text())
    config |= {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "max_window_layers": 1, "head_dim": 32,
               "num_attention_heads": 1, "num_key_value_heads": 1}
    (work / "least.json").write_text(json.dumps(config))
    subprocess.run([maker, work / "least.json", made], check=True, capture_output=True)
    for path in source.iterdir():
        if path.suffix != ".safetensors" and path.name != "config.json":
            shutil.copy(path, made)
    subprocess.run([program, "quantize", made, file, "--type", "bf16"], check=True, capture_output=True)
    return file


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("instant")
    parser.add_argument("--llama", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--only", default="", help="names, separated by commas")
    o = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed")
    mini = pathlib.Path(__file__).resolve().parents[1] / "models" / "mini" / "mini.gguf"
    running, targets = [], []
    wanted = lambda *names: not o.only or any(n in o.only.split(",") for n in names)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        work.chmod(0o755)  # nginx's workers are another user

        def start(words, health):
            process = subprocess.Popen([str(w) for w in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            running.append(process)
            wait_until_ready(health, process)

        try:
            port = free_port()
            instant = f"http://127.0.0.1:{port}"
            start([o.instant, port, 2], f"{instant}/health/live")
            answer = send(f"{instant}/v1/chat/completions", CHAT)
            if shutil.which("nginx") is None:
                print("nginx is left out: it is not installed")
            elif wanted("nginx"):
                (work / "answer.json").write_bytes(answer)
                port = free_port()
                (work / "nginx.conf").write_text(
                    f"daemon off; worker_processes auto; pid {work}/pid; error_log /dev/null; events {{ worker_connections 1024; }}\n"
                    f"http {{ access_log off; keepalive_requests 1000000; sendfile on; tcp_nopush on; open_file_cache max=10;\n"
                    f"server {{ listen 127.0.0.1:{port} reuseport; root {work}; }} }}\n")
                start(["nginx", "-c", work / "nginx.conf"], f"http://127.0.0.1:{port}/answer.json")
                targets.append(("nginx", f"http://127.0.0.1:{port}/answer.json", None))
            targets.append(("instant", f"{instant}/v1/chat/completions", CHAT))
            targets.append(("text", f"{instant}/v1/completions", TEXT))
            targets.append(("stream", f"{instant}/v1/chat/completions", {**CHAT, "max_tokens": 16, "stream": True}))
            targets.append(("live", f"{instant}/health/live", None))
            maker = pathlib.Path(o.instant).resolve().parent / "make_random_checkpoint"
            files = {"mini": mini}
            if maker.exists():
                files["least"] = least_model(o.program, maker, mini, work)
            else:
                print(f"the least model is left out: {maker} is not built")
            if not o.llama:
                print("llama-server is left out: --llama names it")
            for name, file in files.items():
                if wanted(name, name + " chat"):
                    port = free_port()
                    start([o.program, "serve", "-m", file, "--port", port, "--log-level", "error", "-t", 2, "--max-sequences", o.connections],
                          f"http://127.0.0.1:{port}/health/ready")
                    targets.append((name, f"http://127.0.0.1:{port}/v1/completions", TEXT))
                    targets.append((name + " chat", f"http://127.0.0.1:{port}/v1/chat/completions", CHAT))
                if o.llama and wanted("llama health", f"llama {name}", f"llama {name} chat"):
                    port = free_port()
                    start([o.llama, "-m", file, "--port", port, "-np", o.connections, "-c", 512 * o.connections, "-t", 2, "--no-webui"],
                          f"http://127.0.0.1:{port}/health")
                    if name == "least" or "least" not in files:
                        targets.append(("llama health", f"http://127.0.0.1:{port}/health", None))
                    targets.append((f"llama {name}", f"http://127.0.0.1:{port}/v1/completions", TEXT))
                    targets.append((f"llama {name} chat", f"http://127.0.0.1:{port}/v1/chat/completions", CHAT))
            targets = [t for t in targets if wanted(t[0])]
            results = {name: [] for name, _, _ in targets}
            for _ in range(o.rounds):
                for name, url, body in targets:
                    results[name].append(load(work, url, body, o))
            print(f"{o.connections} connections, {o.rounds} rounds of {o.seconds} s each, by turns; an answer of {len(answer)} bytes")
            base = statistics.median(r[0] for r in results["nginx"]) if "nginx" in results else None
            for name, rows in results.items():
                rate, median, late = (statistics.median(r[i] for r in rows) for i in range(3))
                beside = f", {base / rate:.2f} times fewer than nginx" if base and name != "nginx" else ""
                print(f"{name:16} {rate:9.0f} requests/s ({min(r[0] for r in rows):.0f} to {max(r[0] for r in rows):.0f}), "
                      f"latency {median:.2f} ms, 99th {late:.2f} ms{beside}", flush=True)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


main()
