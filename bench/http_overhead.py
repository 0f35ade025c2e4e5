#!/usr/bin/env python3
"""What lies between a client and the engine: time to the first token as a client sees it, less what the engine took itself.

usage: bench/http_overhead.py PROGRAM [--model mini] [--requests 200] [--limit MS]

Sends streamed requests to an empty service one after the other, over one connection and over one each, and takes from each
client's time the engine's own (what it added to qianwen_first_token_seconds of /metrics: from submit to the first token). What is left is the
network, HTTP, JSON, template, tokenizer and the way of the token back, the client's own Python included. Exits 1 if the median is
above --limit.
"""
import argparse
import json
import pathlib
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

WORDS = "river moon spring mountain wine autumn night wind snow boat lamp rain bell frost cloud pine".split()


class Client:
    """HTTP/1.1 over a plain socket: as little of its own as there can be."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        self.socket.close()

    def ask(self, path, body):
        """Seconds to the first event with text."""
        data = json.dumps(body).encode()
        message = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
        started, first, seen = time.perf_counter(), None, b""
        self.socket.sendall(message)
        while b"data: [DONE]" not in seen or not seen.endswith(b"0\r\n\r\n"):
            part = self.socket.recv(65536)
            if not part:
                raise RuntimeError(seen.decode(errors="replace")[-300:])
            seen += part
            if first is None and re.search(rb'"(text|content)":"[^"]', seen):
                first = time.perf_counter() - started
        return first if first is not None else time.perf_counter() - started


def metrics(port):
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
    value = lambda name: float(re.search(rf"^qianwen_first_token_seconds_{name}\S* (\S+)", text, re.M).group(1)) if name in text else 0.0
    return value("sum"), value("count")


def series(port, path, bodies, keep):
    """Milliseconds that each request took beside the engine's, and the engine's."""
    client, over, own = Client(port), [], []
    client.ask(path, bodies[0])
    for body in bodies:
        before = metrics(port)
        opening = 0
        if not keep:
            client.close()
            started = time.perf_counter()
            client = Client(port)
            opening = time.perf_counter() - started
        seconds = opening + client.ask(path, body)
        after = metrics(port)
        assert after[1] == before[1] + 1
        own.append(1000 * (after[0] - before[0]))
        over.append(1000 * seconds - own[-1])
    client.close()
    return over, statistics.median(own)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--limit", type=float, default=2)
    o = parser.parse_args()
    dice = random.Random(1)
    text = lambda: " ".join(dice.choice(WORDS) for _ in range(24))
    completions = [{"prompt": text(), "max_tokens": 2, "stream": True} for _ in range(o.requests)]
    chats = [{"messages": [{"role": "user", "content": text()}], "max_tokens": 2, "stream": True} for _ in range(o.requests)]
    worst = 0.0
    with tempfile.NamedTemporaryFile("r") as log:
        server = subprocess.Popen([o.program, "serve", "-m", o.model, "--port", "0"], stdout=log.fileno(), stderr=subprocess.STDOUT)
        try:
            while not (found := re.search(r"listening on \S+:(\d+)", pathlib.Path(log.name).read_text())):
                if server.poll() is not None:
                    raise SystemExit(pathlib.Path(log.name).read_text())
                time.sleep(0.05)
            port = int(found.group(1))
            for name, path, bodies in (("completions", "/v1/completions", completions), ("chat", "/v1/chat/completions", chats)):
                for keep in (True, False):
                    over, own = series(port, path, bodies, keep)
                    over.sort()
                    worst = max(worst, statistics.median(over))
                    print(f"{name:12} {'one connection ' if keep else 'a connection each'}: beside the model {statistics.median(over):.2f} ms (median), "
                          f"{over[len(over) // 10]:.2f} to {over[len(over) * 9 // 10]:.2f} (tenths); the engine itself {own:.2f} ms", flush=True)
        finally:
            server.terminate()
            server.wait()
    sys.exit(worst > o.limit)


main()
