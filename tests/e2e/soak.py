"""The service at full load with clients that leave at random: nothing leaks, and the engine's counts are the clients'.

usage: soak.py PROGRAM SECONDS. Standard library only.
"""
import http.client
import json
import pathlib
import random
import re
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from service import check, send, start_service, wait_for

SYSTEM = ["You are a poet of the Tang dynasty. " * 6, "Answer in one short line. " * 8, ""]


class Counts:
    def __init__(self):
        self.lock = threading.Lock()
        self.whole = self.left = self.output = self.cached = 0
        self.errors = []


def question(rng):
    messages = [{"role": "user", "content": " ".join(str(rng.randrange(10)) for _ in range(rng.randrange(1, 60)))}]
    system = rng.choice(SYSTEM)
    return ([{"role": "system", "content": system}] if system else []) + messages


def chat(rng, most):
    return "/v1/chat/completions", {"messages": question(rng), "max_tokens": most, "temperature": rng.choice([0, 1]), "n": rng.choice([1, 1, 1, 2]),
                                    "seed": rng.randrange(5), "stream_options": {"include_usage": True}}


def completion(rng, most):
    return "/v1/completions", {"prompt": question(rng)[-1]["content"], "max_tokens": most, "temperature": 1, "seed": rng.randrange(5),
                               "stream_options": {"include_usage": True}}


def message(rng, most):
    return "/v1/messages", {"messages": question(rng)[-1:], "system": rng.choice(SYSTEM) or "Be brief.", "max_tokens": most, "temperature": 1}


def ollama(rng, most):
    return "/api/chat", {"messages": question(rng), "options": {"num_predict": most, "seed": rng.randrange(5)}}


def used(data):
    """Output and cached tokens that an answer, or one event of it, tells; None: it tells none."""
    if data.get("done") is True:
        return data["eval_count"], 0
    usage = data.get("usage") or {}
    if "completion_tokens" in usage:
        return usage["completion_tokens"], usage["prompt_tokens_details"]["cached_tokens"]
    return (usage["output_tokens"], 0) if "output_tokens" in usage and data.get("type") != "message_start" else None


def last_line(line):
    return line.startswith((b"data: [DONE]", b"event: message_stop")) or (line.startswith(b"{") and b'"done":true' in line)


def one_request(port, rng, counts):
    path, body = rng.choice([chat, chat, completion, message, ollama])(rng, rng.randrange(1, 60))
    stream = rng.random() < 0.7
    body |= {"model": "mini", "stream": stream}
    if not stream:
        body.pop("stream_options", None)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)  # of a busy machine
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        if rng.random() < 0.15:  # gone before anything came
            with counts.lock:
                counts.left += 1
            return
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status}: {response.read()[:200]}")
        tokens = None
        if not stream:
            tokens = used(json.loads(response.read()))
        else:
            leaves_after = rng.randrange(1, 20) if rng.random() < 0.3 else None
            lines = 0
            while True:
                line = response.readline()
                if not line:
                    raise RuntimeError(f"{path}: the stream ended early")
                if line.startswith((b"data: {", b"{")):
                    lines += 1
                    tokens = used(json.loads(line.removeprefix(b"data: "))) or tokens
                if last_line(line):
                    break
                if leaves_after is not None and lines >= leaves_after:
                    with counts.lock:
                        counts.left += 1
                    return
        with counts.lock:
            counts.whole += 1
            counts.output += tokens[0]
            counts.cached += tokens[1]
    finally:
        connection.close()


def client(port, seed, until, counts):
    rng = random.Random(seed)
    while time.monotonic() < until:
        try:
            one_request(port, rng, counts)
        except Exception as error:  # noqa: BLE001: reported below
            with counts.lock:
                counts.errors.append(repr(error))
            return


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


def open_files(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


def files_at_rest(port, pid):
    """Open files once every thread has had a connection (its first brings what the thread waits with) and all are closed."""
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(24)]
    for connection in connections:
        connection.request("GET", "/health/live")
        connection.getresponse().read()
    for connection in connections:
        connection.close()
    files, last = open_files(pid), None
    while files != last:
        time.sleep(1)
        files, last = open_files(pid), files
    return files


def sum_of(port, pattern):
    """Of the series of /metrics that begin like this."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in send(port, "GET", "/metrics")[1].splitlines() if re.match(pattern, line))


def gauge(port, what):
    return sum_of(port, f"qianwen_requests_{what}")


def main():
    program, seconds = sys.argv[1], float(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "serve.log")
        server, port = start_service(program, log, "-m", "mini", "--cache-tokens", "2048", "--max-sequences", "8", "--grace", "20")
        try:
            counts = Counts()
            files = files_at_rest(port, server.pid)
            until = time.monotonic() + seconds
            clients = [threading.Thread(target=client, args=(port, i, until, counts)) for i in range(24)]
            for thread in clients:
                thread.start()
            sizes = []
            while time.monotonic() < until:
                time.sleep(max(0.5, seconds / 40))
                sizes.append(resident(server.pid))
            for thread in clients:
                thread.join()
            idle = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            idle.request("GET", "/v1/models")
            check("soak: still answers", idle.getresponse().status == 200)
            idle.close()
            end = time.monotonic() + 20
            while (at_work := gauge(port, "running") + gauge(port, "waiting")) > 0 and time.monotonic() < end:
                time.sleep(0.2)
            ended, told = sum_of(port, "qianwen_finished_total"), sum_of(port, 'qianwen_tokens_total{.*kind="output"')
            while (left_open := open_files(server.pid) - files) > 0 and time.monotonic() < end:  # the last one was asked for these figures
                time.sleep(0.1)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)
        totals = wait_for(log, "blocks free")
    check(f"soak: no request failed ({counts.errors[:3]})", not counts.errors)
    check(f"soak: {counts.whole} answers, {counts.left} clients left", counts.whole > 10 and counts.left > 3)
    # The first third is warming up: arrays grow to what the load needs, and then no more.
    settled, last = max(sizes[: max(1, len(sizes) // 3)]), max(sizes[-max(1, len(sizes) // 4):])
    check(f"soak: memory stays ({settled / 1e6:.1f} MB after a third, {last / 1e6:.1f} MB at the end)", last < settled * 1.03 + 4e6)
    check(f"soak: connections are closed ({left_open} more than before)", left_open <= 0)
    check("soak: nothing is computed for nobody", at_work == 0)
    free, total = map(int, re.search(r"(\d+) of (\d+) blocks free", totals).groups())
    check(f"soak: all {total} blocks are free", free == total)
    answered, cached = (int(re.search(rf"(\d+) {what}", totals).group(1)) for what in ("tokens answered", "taken from"))
    # What was answered to those who left was counted as well.
    check(f"soak: counts agree ({counts.output} of {answered} tokens went to those who stayed)", 0 < counts.output <= answered)
    check(f"soak: so do the metrics ({told:.0f} tokens of {ended:.0f} that ended)", told == answered and ended >= counts.whole)
    check(f"soak: prefixes were found ({counts.cached} of {cached} cached tokens)", 0 < counts.cached <= cached)


main()
