"""Load on one service: a thousand streams that are open at once; then requests of which 5 in 100 leave, 5 are malformed and
1 is too large. No answer but the expected, no leak, and budgets, ledger and engine agree to the token.
Usage: load.py PROGRAM. Without QW_SLOW=1 both are short. Standard library only."""
import asyncio
import collections
import json
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

from service import check, start_service, wait_for

program = sys.argv[1]
SLOW = os.environ.get("QW_SLOW") == "1"
STREAMS = 1000 if SLOW else 150
STREAM_TOKENS = 32
REQUESTS = 100_000 if SLOW else 1500
CLIENTS = 32
TOO_LARGE = 33 << 20   # the service takes 32 MiB
LONGEST_S = 600        # of one answer, on a machine that does other things, too


def admin(store, *words):
    run = subprocess.run([program, "admin", *words, "--store", store, "--json"], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def resident(pid):
    return next(int(line.split()[1]) * 1024 for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))


class Connection:
    """One connection of HTTP/1.1 that is kept."""

    def __init__(self, port, key):
        self.port, self.key, self.reader, self.writer = port, key, None, None

    async def send(self, body, stated_length=None):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        head = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.key}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body) if stated_length is None else stated_length}\r\n\r\n")
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    async def head(self):
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        return int(lines[0].split()[1]), fields

    async def chunk(self):
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size + 2)
        return data[:-2]

    async def body(self, fields):
        if fields.get("transfer-encoding") == "chunked":
            out = b""
            while piece := await self.chunk():
                out += piece
            return out
        return await self.reader.readexactly(int(fields.get("content-length", 0)))

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


def question(tokens, stream, text="春江"):
    body = {"model": "mini", "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "ignore_eos": True, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    return json.dumps(body).encode()


def events(text):
    return [line[6:] for line in text.decode().split("\n") if line.startswith("data: ")]


async def many_streams(port, keys, pid):
    """All are begun before any is read to its end."""
    connections = [Connection(port, keys[i % len(keys)]) for i in range(STREAMS)]  # one project may not have all places
    began = time.monotonic()

    async def begin(connection, number):
        await connection.send(question(STREAM_TOKENS, True, f"第{number}首"))
        return (await connection.head())[0]

    statuses = collections.Counter(await asyncio.gather(*(begin(c, i) for i, c in enumerate(connections))))
    opened, size = time.monotonic() - began, resident(pid)

    async def rest(connection):
        text = await connection.body({"transfer-encoding": "chunked"})
        found = events(text)
        used = json.loads(found[-2])["usage"] if found[-1:] == ["[DONE]"] else {}
        connection.close()
        return used.get("completion_tokens"), text.count(b"\n: ") + text.startswith(b": ")

    ends = await asyncio.gather(*(rest(c) for c in connections))
    took = time.monotonic() - began
    print(f"   {STREAMS} streams open after {opened:.2f} s with {size / 1e6:.0f} MB, all read after {took:.1f} s "
          f"({STREAMS * STREAM_TOKENS / took:.0f} tokens/s, {sum(beats for _, beats in ends)} heartbeats)", flush=True)
    check(f"load: {STREAMS} streams are open at once", statuses == {200: STREAMS})
    check("load: every stream is read to its end, with its tokens", [n for n, _ in ends] == [STREAM_TOKENS] * STREAMS)


class Outcome:
    def __init__(self):
        self.statuses = collections.Counter()
        self.unexpected, self.tokens, self.output, self.left = [], collections.Counter(), 0, 0


async def one(connection, project, order, outcome):
    draw = order.random()
    if draw < 0.01:      # too large: said to be, or sent as far as it is taken
        await connection.send(b'{"model": "mini", "messages": "' + b"x" * 4096, TOO_LARGE)
        status, fields = await connection.head()
        await connection.body(fields)
        connection.close()
        return ("too large", status, (413,))
    if draw < 0.06:
        body = order.choice([b'{"model": "mini"', b"[]", b"\xff\xfe", b'{"model": "mini", "messages": 3}', b'{"messages": [{"role": "user", "content": "a"}], "n": 99}',
                             b'{"model": "none", "messages": [{"role": "user", "content": "a"}]}', b"[" * 5000])
        await connection.send(body)
        status, fields = await connection.head()
        await connection.body(fields)
        return ("malformed", status, (400, 404))
    stream = order.random() < 0.5
    await connection.send(question(order.randint(1, 8), stream, order.choice(["春江", "秋月", "a", "hello there"])))
    if draw < 0.11:      # gone, at any time
        if order.random() < 0.5:
            await connection.head()
        await asyncio.sleep(order.random() * 0.01)
        connection.close()
        outcome.left += 1
        return None
    status, fields = await connection.head()
    text = await connection.body(fields)
    if status == 200:
        used = json.loads(events(text)[-2] if stream else text)["usage"]
        outcome.tokens[project] += used["total_tokens"]
        outcome.output += used["completion_tokens"]
    return ("poor" if project == "poor" else "whole", status, (200, 429) if project == "poor" else (200,))


async def client(port, keys, seed, count, outcome):
    order = random.Random(seed)
    project = list(keys)[seed % len(keys)]
    connection = Connection(port, keys[project])
    for _ in range(count):
        try:
            answer = await asyncio.wait_for(one(connection, project, order, outcome), LONGEST_S)
        except (OSError, EOFError, ValueError, IndexError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            outcome.unexpected.append(repr(error))
            connection.close()
            continue
        if answer:
            kind, status, expected = answer
            outcome.statuses[f"{kind} {status}"] += 1
            if status not in expected:
                outcome.unexpected.append(f"{status} to a request that is {kind}")
    connection.close()


async def many_requests(port, keys, pid):
    outcome, sizes, done = Outcome(), [], asyncio.Event()

    async def watch():
        while not done.is_set():
            sizes.append(resident(pid))
            await asyncio.sleep(0.5 if SLOW else 0.1)

    watching = asyncio.create_task(watch())
    began = time.monotonic()
    await asyncio.gather(*(client(port, keys, i, REQUESTS // CLIENTS, outcome) for i in range(CLIENTS)))
    took = time.monotonic() - began
    done.set()
    await watching
    settled, last = max(sizes[: max(1, len(sizes) // 3)]), max(sizes[-max(1, len(sizes) // 5):])
    print(f"   {REQUESTS // CLIENTS * CLIENTS} requests in {took:.1f} s ({REQUESTS / took:.0f}/s), {outcome.left} left; "
          f"{dict(sorted(outcome.statuses.items()))}; {settled / 1e6:.1f} MB after a third, {last / 1e6:.1f} MB at the end", flush=True)
    check(f"load: nothing but the expected ({outcome.unexpected[:3]})", not outcome.unexpected)
    check("load: all kinds came", len(outcome.statuses) >= 4 and outcome.left > 0)
    if SLOW:   # a short run is all warming up
        check("load: memory stays", last < settled * 1.03 + 4e6)
    return outcome


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * STREAMS)), hard))
    with tempfile.TemporaryDirectory() as folder:
        store, log = str(pathlib.Path(folder, "state.db")), pathlib.Path(folder, "log")
        server, port = start_service(program, log, "-m", "mini", "--store", store, "--grace", "30")
        admin(store, "org", "add", "load")
        keys, ids = {}, {}
        for project in ("one", "two", "three", "poor"):
            ids[project] = admin(store, "project", "add", "load", project)["id"]
            admin(store, "limit", "set", f"project:{project}", "--concurrency", "100000")
            keys[project] = admin(store, "key", "add", project)["key"]
        poor = 20_000 if SLOW else 1000   # tokens; used up on the way
        for project, amount in {"one": 10**9, "two": 10**9, "three": 10**9, "poor": poor}.items():
            admin(store, "budget", "set", f"project:{project}", str(amount))
        try:
            asyncio.run(many_streams(port, [keys[p] for p in ("one", "two", "three")], server.pid))
            outcome = asyncio.run(many_requests(port, keys, server.pid))
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)
        text = wait_for(log, "tokens answered")
        answered = int(re.search(r"(\d+) tokens answered", text).group(1))
        out = subprocess.run([program, "admin", "usage", "--rows", "--store", store], capture_output=True, text=True, check=True).stdout
        rows = [json.loads(line) for line in out.splitlines()]
        budgets = {b["subject"].partition(":")[2]: b for b in admin(store, "budget", "list")}
    print(f"   {len(rows)} rows of the ledger, {sum(r['output_tokens'] for r in rows)} output tokens; the engine answered {answered}")
    check("load: the ledger's sum is the engine's count", sum(r["output_tokens"] for r in rows) == answered)
    kept = STREAMS * STREAM_TOKENS + outcome.output
    check(f"load: those who stayed got theirs ({kept} of {answered})", 0 < kept <= answered)
    spent = collections.Counter()
    for row in rows:
        spent[row["project"]] += row["prompt_tokens"] + row["output_tokens"]
    exact = all(b["spent"] == spent[project] > 0 and b["reserved"] == 0 for project, b in budgets.items())
    check("load: budgets are the ledger's sums, to the token, and nothing stays reserved", exact and len(budgets) == 4)
    used_up = budgets[ids["poor"]]["spent"]
    check(f"load: a budget of {poor} tokens was used ({used_up}) and not overrun", poor * 0.9 < used_up <= poor)


main()
