#!/usr/bin/env python3
"""What governing costs: requests a second with everything on, with parts of it on, and with nothing on, by turns.

usage: bench/governance.py PROGRAM [--beside OTHER] [--model mini] [--clients 8] [--tokens 64] [--rounds 6] [--seconds 2] [--only "off;all"]

One service a setting, of which one at a time is asked; rounds go through all of them, every second one backwards, so
that what the machine does meanwhile falls on all alike. Prints of each the median requests a second, the median of its
share of "off" in the same round (with the quartiles: "off" again shows what the machine itself does), and the
processor time of the service for an answer. --beside: another build of the program, for a before and an after.
"""
import argparse
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

WORDS = "river moon spring mountain wine autumn night wind snow boat lamp rain bell frost cloud pine".split()


class Client:
    def __init__(self, port, key):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.key = f"Authorization: Bearer {key}\r\n" if key else ""

    def ask(self, body):
        data = json.dumps(body).encode()
        self.socket.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\n{self.key}Content-Type: application/json\r\n"
                            f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += self.socket.recv(65536)
        head, _, rest = seen.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError((head + rest).decode(errors="replace")[-500:])
        length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
        while len(rest) < length:
            rest += self.socket.recv(65536)
        return json.loads(rest)["usage"]["completion_tokens"]


def start(program, folder, name, words, store):
    log = folder / f"{name}.log"
    process = subprocess.Popen([program, "serve", "--port", "0", *words], stdout=open(log, "w"), stderr=subprocess.STDOUT)
    for _ in range(600):
        text = log.read_text()
        if "listening on" in text:
            key = re.search(r"sk-qw-[0-9a-f]+", text)
            return process, int(re.search(r"listening on \S+:(\d+)", text).group(1)), key.group(0) if store else None
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"{name}: {log.read_text()}")


def processor_time(process):
    """Seconds that a process has computed for."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(process, port, key, o, turn):
    """Requests a second of so many clients that ask one after the other, and milliseconds of processor time for each."""
    done, stop, before = [], time.perf_counter() + o.seconds, processor_time(process)

    def client(i):
        c, n = Client(port, key), 0
        while time.perf_counter() < stop:
            prompt = " ".join(WORDS[(i * 7 + turn * 3 + n + j) % len(WORDS)] for j in range(24)) + f" {turn} {i} {n}"
            done.append(c.ask({"prompt": prompt, "max_tokens": o.tokens, "temperature": 0.8, "top_k": 20, "ignore_eos": True}))
            n += 1
    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(i,)) for i in range(o.clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    took = time.perf_counter() - began
    return len(done) / took, 1000 * (processor_time(process) - before) / len(done)


def words_of(program, folder, name, setting, model):
    """The command line of a service with this setting, whose files are named by `name`."""
    name = re.sub(r"\W", "_", name)
    words = ["-m", model]
    if setting.startswith("store"):
        words += ["--store", str(folder / f"state-{name}.db")]
    if setting == "audit" or setting.endswith("all"):
        words += ["--audit-log", str(folder / f"audit-{name}"), "--audit-key", str(folder / "key")]
    if setting == "marks" or setting.endswith("all"):
        words += ["--watermark-keys", str(folder / "marks")]
    if not setting.endswith("all"):
        return words
    shown = subprocess.run([program, "govern", "profile", "show", "eu-public"], check=True, capture_output=True, text=True).stdout
    ours = json.loads(shown)
    ours.pop("assessment", None)
    ours.update(required_approvals=[], crisis={"keywords": ["end my life"], "reply": "Here:", "helplines": [{"name": "n", "contact": "c"}]})
    ours["keyword_packs"] = [{"file": "words.txt", "action": "block"}]
    if setting.startswith("store"):
        ours["retention"] = {**ours.get("retention", {}), "content": "encrypted"}
        ours["strikes"] = {"in_a_row": 3, "a_day": 5}
        words += ["--content-keys", str(folder / "content")]
    policy = folder / f"policy-{name}.json"
    policy.write_text(json.dumps(ours))
    return words + ["--policy", str(policy), "--label-producer", "Example"]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program")
    arguments.add_argument("--model", default="mini")
    arguments.add_argument("--clients", type=int, default=8)
    arguments.add_argument("--tokens", type=int, default=64)
    arguments.add_argument("--beside", default="")
    arguments.add_argument("--rounds", type=int, default=6)
    arguments.add_argument("--seconds", type=float, default=2)
    arguments.add_argument("--only", default="")
    o = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run = lambda *words: subprocess.run([o.program, *map(str, words)], check=True, capture_output=True, text=True).stdout
        run("govern", "audit", "key", folder / "key")
        run("govern", "watermark", "add", folder / "marks")
        run("govern", "content", "key", folder / "content")
        (folder / "words.txt").write_text("[arms]\n" + "\n".join(f"forbidden thing {i}" for i in range(10_000)) + "\n")
        names = ["off", "off again", "audit", "marks", "all", "store", "store, all"]
        wanted = o.only.split(";") if o.only else names
        running = {}
        try:
            for prefix, program in (("", o.program), ("beside ", o.beside)):
                for n in wanted if program else ():
                    name = prefix + n
                    running[name] = start(program, folder, re.sub(r"\W", "_", name), words_of(program, folder, name, n, o.model), n.startswith("store"))
            figures = {n: [] for n in running}
            for turn in range(-1, o.rounds):
                for n, (process, port, key) in list(running.items())[::-1 if turn % 2 else 1]:
                    figure = measure(process, port, key, o, turn)
                    if turn >= 0:
                        figures[n].append(figure)
        finally:
            for process, _, _ in running.values():
                process.terminate()
                process.wait(30)
        for n in figures:
            prefix = "beside " if n.startswith("beside ") else ""
            against = prefix + ("store" if n.removeprefix(prefix).startswith("store") and prefix + "store" in figures else wanted[0])
            rate, computed = (statistics.median(f[i] for f in figures[n]) for i in (0, 1))
            shares = sorted(100 * f[0] / g[0] for f, g in zip(figures[n], figures[against]))
            low, share, high = (shares[len(shares) // 4], statistics.median(shares), shares[-1 - len(shares) // 4])
            print(f"{n:18} {rate:8.1f} answers/s  {computed:7.2f} ms of processor time each  {share:6.1f} % ({low:.1f}-{high:.1f}) of {against}")


if __name__ == "__main__":
    main()
