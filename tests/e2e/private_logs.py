"""Of every request there is a line in the log, and nothing that was asked or answered stands in one: prompts with marks of their own over every protocol, answered, streamed,
wrong, refused, malformed, too long, left in the middle and in the background, at every level of the log; then all that the
service wrote is searched. Usage: private_logs.py PROGRAM. Standard library only."""
import http.client
import itertools
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

from service import check, start_service

program = sys.argv[1]
MARK = "zqxjvk"  # of every mark; no word of the log has it, nor, so long, any hash by chance
numbers = itertools.count()


def mark():
    return f"{MARK}{next(numbers)}暗柳"


def bodies():
    """Path and body of a request of every route that takes a text, by a function of the text."""
    say = lambda m: [{"role": "system", "content": m}, {"role": "user", "content": [{"type": "text", "text": m}]}]
    tool = lambda m: [{"type": "function", "function": {"name": "f", "description": m, "parameters": {"type": "object", "properties": {m: {"type": "string"}}}}}]
    return [
        ("/v1/chat/completions", lambda m: {"messages": say(m), "max_tokens": 6, "user": m, "metadata": {"a": m}}),
        ("/v1/chat/completions", lambda m: {"messages": say(m), "max_tokens": 6, "tools": tool(m), "stop": [m]}),
        ("/v1/chat/completions", lambda m: {"messages": say(m), "max_tokens": 6, "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"enum": [m]}}}}),
        ("/v1/completions", lambda m: {"prompt": m, "echo": True, "max_tokens": 6}),
        ("/v1/responses", lambda m: {"input": m, "instructions": m, "max_output_tokens": 6}),
        ("/v1/embeddings", lambda m: {"input": [m, m]}),
        ("/v1/rerank", lambda m: {"query": m, "documents": [m, m]}),
        ("/v1/score", lambda m: {"text_1": m, "text_2": m}),
        ("/v1/moderations", lambda m: {"input": m}),
        ("/v1/tokenize", lambda m: {"prompt": m}),
        ("/v1/messages", lambda m: {"max_tokens": 6, "system": m, "messages": [{"role": "user", "content": m}]}),
        ("/v1/messages/count_tokens", lambda m: {"messages": [{"role": "user", "content": m}]}),
        ("/api/chat", lambda m: {"messages": [{"role": "user", "content": m}], "options": {"num_predict": 6}, "stream": False}),
        ("/api/generate", lambda m: {"prompt": m, "system": m, "options": {"num_predict": 6}, "stream": False}),
        ("/api/embed", lambda m: {"input": m}),
        ("/api/v1/services/aigc/text-generation/generation", lambda m: {"input": {"messages": [{"role": "user", "content": m}]}, "parameters": {"max_tokens": 6, "result_format": "message"}}),
        ("/api/v1/services/rerank/text-rerank/text-rerank", lambda m: {"input": {"query": m, "documents": [m]}}),
        ("/auth/login", lambda m: {"email": m + "@x.org", "password": m}),
    ]


class Client:
    def __init__(self, port, key):
        self.port, self.key, self.statuses, self.texts = port, key, set(), []
        self.asked = {}  # path, status and answer, by the id of the request

    def send(self, path, body, kind="application/json", key=None, method="POST", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body, ensure_ascii=False).encode()
        number = f"asked-{len(self.asked)}"
        connection.request(method, path, data, {"Authorization": "Bearer " + (key or self.key), "Content-Type": kind, "X-Request-Id": number, **headers})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        self.statuses.add(answer.status)
        self.asked[number] = (path.split("?")[0], answer.status, text)
        return answer.status, text

    def json(self, *words, **more):
        return json.loads(self.send(*words, **more)[1])

    def leave(self, path, body):
        """Asks for a stream and is gone before its end."""
        data = json.dumps(body, ensure_ascii=False).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.key}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.sendall(head.encode() + data)
            s.recv(400)

    def upload(self, purpose, text):
        form = (f'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
                f'--b\r\nContent-Disposition: form-data; name="file"; filename="{mark()}.jsonl"\r\n\r\n{text}\r\n--b--\r\n')
        return self.json("/v1/files", form.encode(), kind="multipart/form-data; boundary=b")["id"]


def wait(look, seconds=300):
    end = time.monotonic() + seconds
    while (got := look()) is None and time.monotonic() < end:
        time.sleep(0.1)
    return got


def ask_everything(c):
    for path, body in bodies():
        whole = body(mark())
        status, text = c.send(path, whole)
        if status == 200 and path in ("/v1/chat/completions", "/v1/completions"):
            choice = json.loads(text)["choices"][0]
            c.texts.append(choice.get("text") or choice.get("message", {}).get("content") or "")
        c.send(path, body(mark()) | {"stream": True})
        c.send(path, body(mark()) | {"model": mark()})                                 # no such model
        c.send(path, body(mark()) | {"max_tokens": mark(), "options": mark(), "input": 7})  # wrong types
        c.send(path, json.dumps(body(mark()), ensure_ascii=False).encode()[:-2] + b",") # malformed
        c.send(path, body(mark()), key="sk-qw-" + mark().encode().hex())                # refused
        c.send(path, body(mark() * 3000))                                               # longer than the context
        c.send(path + "/" + MARK, body(mark()))                                         # no such route
        c.leave(path, body(mark()) | {"stream": True, "max_tokens": 300, "options": {"num_predict": 300}})
    c.send("/v1/chat/completions", b"\xff\xfe" + mark().encode())
    c.send("/v1/models?q=" + MARK, None, method="GET")
    c.send("/v1/chat/completions", {"messages": [{"role": MARK, "content": mark()}]})
    c.send("/v1/chat/completions", {"messages": [{"role": "user", "content": mark()}], "extra_body": {"regex": "(" + mark()}, "response_format": {"type": "regex", "regex": "(" + mark()}})
    with socket.create_connection(("127.0.0.1", c.port)) as s:  # no HTTP
        s.sendall(f"GET /{MARK} HTTP/9.9\r\n{MARK}\r\n\r\n".encode())
        s.recv(400)


def in_the_background(c, train):
    ended = ("completed", "failed", "cancelled", "succeeded", "incomplete", "SUCCEEDED", "FAILED")
    of = lambda path, *where: wait(lambda: (lambda v: v if v in ended else None)(at(c.json(path, None, method="GET"), *where)))

    def at(value, *where):
        for name in where:
            value = value[name]
        return value

    response = c.json("/v1/responses", {"input": mark(), "background": True, "max_output_tokens": 6})
    task = c.json("/api/v1/services/aigc/text-generation/generation", {"model": "mini", "input": {"prompt": mark()}, "parameters": {"max_tokens": 6}},
                  **{"X-DashScope-Async": "enable"})
    line = lambda i, body: json.dumps({"custom_id": f"{mark()}-{i}", "method": "POST", "url": "/v1/chat/completions", "body": body}, ensure_ascii=False)
    good = lambda: {"model": "mini", "messages": [{"role": "user", "content": mark()}], "max_tokens": 4}
    file = c.upload("batch", "\n".join([line(0, good()), line(1, good() | {"model": mark()}), line(2, {"messages": mark()})]))
    broken = c.upload("batch", "{" + mark())
    batches = [c.json("/v1/batches", {"input_file_id": f, "endpoint": "/v1/chat/completions", "completion_window": "24h"})["id"] for f in (file, broken)]
    states = [of("/v1/responses/" + response["id"], "status"), of("/api/v1/tasks/" + task["output"]["task_id"], "output", "task_status")]
    states += [of("/v1/batches/" + b, "status") for b in batches]
    if train:
        example = lambda role: json.dumps({"messages": [{"role": "user", "content": mark()}, {"role": role, "content": mark()}]}, ensure_ascii=False) + "\n"
        for text in (example("assistant") * 20, example(MARK), "[" + mark()):
            job = c.json("/v1/fine_tuning/jobs", {"model": "base", "training_file": c.upload("fine-tune", text), "hyperparameters": {"n_epochs": 1}})
            states.append(of("/v1/fine_tuning/jobs/" + job["id"], "status"))
    return states


def searched(folder):
    """Everything that was written as a log: of the service, of what it trained, and what it keeps for auditors."""
    files = [folder / "log", *sorted((folder / "audit").rglob("*")), *sorted((folder / "jobs").glob("*/log"))]
    return {f: f.read_bytes() for f in files if f.is_file()}


def told_of(line, path, status, text):
    """Whether a line of the log says what there is to say of a request."""
    fine = line["status"] == status and line["ms"] >= 0 and line["level"] == "info" and MARK not in line["route"]
    if status == 401 or path == "/auth/login":
        return fine and "key" not in line
    if status == 200 and path == "/v1/chat/completions" and not text.startswith("data:"):
        usage, finish = json.loads(text)["usage"], json.loads(text)["choices"][0]["finish_reason"]
        fine = fine and (line["prompt_tokens"], line["output_tokens"], line["finish"]) == (usage["prompt_tokens"], usage["completion_tokens"], finish)
    return fine and all(line.get(name) for name in ("key", "project", "organisation")) and (status != 200 or line["route"] == path or "{" in line["route"])


def holds(data, words):
    return [w for w in words if any(form in data for form in (w.encode(), json.dumps(w)[1:-1].encode(), w.encode().hex().encode()))]


with tempfile.TemporaryDirectory() as name:
    work = pathlib.Path(name)
    subprocess.run([program, "convert", "mini", work / "base"], check=True, capture_output=True)
    (work / "words").write_text(f"[violence]\n{MARK}1\nkill\n")
    for level, form, train in (("debug", [], True), ("debug", ["--log-json"], False), ("info", [], False), ("warning", ["--log-json"], False), ("error", [], False)):
        folder = work / (level + str(len(form)))
        folder.mkdir()
        subprocess.run([program, "govern", "audit", "key", folder / "key"], check=True, capture_output=True)
        words = ["-m", "mini", "--store", folder / "state.db", "--moderation-words", work / "words", "--audit-log", folder / "audit",
                 "--audit-key", folder / "key", *(["-m", work / "base", "--fine-tune-folder", folder / "jobs"] if train else [])]
        # "listening" is told at levels that tell it; the port is asked for from outside.
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        log = (folder / "log").open("w")
        server = subprocess.Popen([program, "serve", "--port", str(port), "--log-level", level, *form, *map(str, words)], stdout=log, stderr=subprocess.STDOUT)
        try:
            wait(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0 or None)
            key = wait(lambda: next((l.strip() for l in (folder / "log").read_text().splitlines() if l.strip().startswith("sk-qw-")), None))
            c = Client(port, key)
            ask_everything(c)
            states = in_the_background(c, train)
        finally:
            server.terminate()
            server.wait(timeout=60)
        called = f"logs at {level}{' as JSON' if form else ''}"
        found = searched(folder)
        told = {str(f.relative_to(folder)): w for f, data in found.items() for w in [holds(data, [MARK, "暗柳", *[t for t in c.texts if len(t) > 5]])] if w}
        check(f"{called}: requests were answered and refused in every way", {200, 400, 401, 404} <= c.statuses and None not in states and any(MARK in t for t in c.texts))
        check(f"{called}: hold nothing that was asked or answered", not told)
        for file, what in told.items():
            print(f"   {file}: {what}")
        lines = [l for l in found[folder / "log"].decode(errors="replace").splitlines()]
        if form and level == "debug":
            of = {v["request"]: v for v in map(json.loads, (l for l in lines if l.startswith("{"))) if v["message"] == "request"}
            missing = [f"{n} {path} {status}: {of.get(n)}" for n, (path, status, text) in c.asked.items() if n not in of or not told_of(of[n], path, status, text)]
            for line in missing[:5]:
                print("  ", line)
            check(f"{called}: tell of each of {len(c.asked)} requests route, status, time, tenant, tokens and end, and of those made inside",
                  not missing and len(c.asked) > 100 and any(v.get("inner") and v.get("finish") for v in of.values()))
            check(f"{called}: who left is told of as that", any(v.get("finish") == "cancelled" for v in of.values()))
        else:
            told = [n for n in c.asked if any(f" request={n} " in l + " " for l in lines)]
            check(f"{called}: tell of {'each' if level in ('debug', 'info') else 'no'} request", len(told) == (len(c.asked) if level in ("debug", "info") else 0))
        if level in ("debug", "info"):
            check(f"{called}: were written", b"mini" in found[folder / "log"] and len(found) > (3 if train else 1))
    check("logs: a mark in one would be found", holds(b'{"message":"' + mark().encode() + b'"}', [MARK]) == [MARK])
