#!/usr/bin/env python3
"""The service's own OpenAPI document: valid, and requests made from it, whole and broken, never end in a 5xx, never hang,
and are refused in the shape of their protocol. openapi.py PROGRAM; QW_SLOW=1: many more requests, and schemathesis' own."""
import copy
import http.client
import http.server
import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading

import service

SLOW = os.environ.get("QW_SLOW") == "1"
sys.setrecursionlimit(5000)  # bodies nest
REQUESTS = 20_000 if SLOW else 600
LONGEST_S = 120  # of a machine that does other things, too
ODD = [None, True, False, 0, -1, 1, 2**31, 2**63 - 1, -2**63, 2**64, 1e308, -0.0, 0.5, "", "a", "\u0000", "\U0001f600", "\ud800", "春江",
       "a" * 3000, [], {}, [[]], [None], [{}], {"type": None}, {"": ""}, [1, "a", None], {"type": "object"}, {"a": {"b": {"c": [1]}}}]
# What takes the key its rights is asked last, by itself: schemathesis finds the objects that there are and disables them.
ASKED_LAST = "^/admin/v1/(organisations|projects|users|keys)/"
TEXTS = ["", "a", "春江花月夜", "mini", "none", "{{ x }}", "<|im_end|>", "<think>", "[0-9]+", "root ::= \"a\"", "\n\n", "%s", "../.."]


def deep(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


class Maker:
    """Values that a schema describes, mostly; `wild`: how often it is not so."""

    def __init__(self, rng, wild):
        self.rng, self.wild = rng, wild

    def value(self, schema, depth=0):
        rng = self.rng
        if rng.random() < self.wild:
            return copy.deepcopy(rng.choice(ODD)) if rng.random() < 0.98 else deep(rng.choice([10, 100, 1000]))
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return rng.choice(schema["enum"])
        if "anyOf" in schema:
            return self.value(rng.choice(schema["anyOf"]), depth)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = rng.choice(kind)
        if kind is None:
            return copy.deepcopy(rng.choice(ODD))
        return getattr(self, kind)(schema, depth)

    def null(self, schema, depth):
        return None

    def string(self, schema, depth):
        return self.rng.choice(TEXTS)

    def boolean(self, schema, depth):
        return self.rng.random() < 0.5

    def bound(self, schema, name, usual):
        return schema.get(name, usual)

    def integer(self, schema, depth):
        low, high = self.bound(schema, "minimum", -5), self.bound(schema, "maximum", 100)
        return self.rng.choice([low, high, min(high, max(low, self.rng.randrange(0, 9))), low - 1 if self.rng.random() < self.wild else low])

    def number(self, schema, depth):
        low, high = self.bound(schema, "minimum", -1.0), self.bound(schema, "maximum", 1.0)
        return self.rng.choice([low, high, self.rng.uniform(low, high), int(low)])

    def array(self, schema, depth):
        longest = min(schema.get("maxItems", 3), 3)
        count = self.rng.randrange(min(schema.get("minItems", 0), longest), longest + 1)
        return [self.value(schema.get("items", {"type": "string"}), depth + 1) for _ in range(count)]

    def object(self, schema, depth):
        required = set(schema.get("required", []))
        out = {}
        for name, inner in schema.get("properties", {}).items():
            if self.rng.random() < (1 - self.wild if name in required else 0.12):
                out[name] = self.value(inner, depth + 1)
        if self.rng.random() < 0.1:
            out[self.rng.choice(["", "extra", "model", "__proto__"])] = copy.deepcopy(self.rng.choice(ODD))
        return out


def keep_short(body):
    """An answer that may be as long as the context takes seconds here; most requests ask for less."""
    for limits in (body, body.get("parameters"), body.get("options")):
        if isinstance(limits, dict):
            for name in ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict"):
                if name in limits or limits is body:
                    if isinstance(limits.get(name, 4), int) and not 0 < limits.get(name, 4) < 5:
                        limits[name] = 4


def error_fits(protocol, body):
    if protocol == "anthropic":
        return body.get("type") == "error" and isinstance(body["error"]["message"], str) and isinstance(body["error"]["type"], str)
    if protocol == "dashscope":
        return isinstance(body["code"], str) and isinstance(body["message"], str) and isinstance(body["request_id"], str)
    if protocol == "ollama":
        return isinstance(body["error"], str)
    return isinstance(body["error"]["message"], str) and {"type", "param", "code"} <= body["error"].keys()


class Fuzzer:
    def __init__(self, port, key, document, seed):
        self.port, self.key, self.rng = port, key, random.Random(seed)
        self.operations = [(method, path, operation) for path, item in document["paths"].items()
                           for method, operation in item.items() if method != "servers"]
        self.statuses, self.broken = {}, []

    def body_of(self, operation):
        rng = self.rng
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            return b"" if not content else bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
        body = Maker(rng, rng.choice([0, 0.02, 0.1])).value(content["application/json"]["schema"])
        if isinstance(body, dict):
            if rng.random() < 0.7:
                body["model"] = "mini"
            keep_short(body)
        text = json.dumps(body).encode()
        if rng.random() < 0.05:
            at = rng.randrange(len(text) + 1)
            text = rng.choice([text[:at], text[:at] + bytes([rng.randrange(256)]) + text[at + 1:], text + text, text[at:]])
        return text

    def one(self):
        rng = self.rng
        method, path, operation = rng.choice(self.operations)
        content = operation.get("requestBody", {}).get("content", {})
        while "{" in path:
            path = path[:path.index("{")] + rng.choice(["none", "a%2Fb", "%00", "x" * 300, "..", "-"]) + path[path.index("}") + 1:]
        query = "&".join(f"{p['name']}={rng.choice(['1', '-1', 'a', '', '99999999999999999999', 'asc', '%', 'true'])}"
                         for p in operation.get("parameters", []) if p["in"] == "query" and rng.random() < 0.5)
        headers = {"Content-Type": "application/json"}
        if "multipart/form-data" in content:
            headers["Content-Type"] = rng.choice(["multipart/form-data; boundary=b", "multipart/form-data", "application/json"])
        if rng.random() < 0.98:
            headers["Authorization"] = "Bearer " + self.key
        if rng.random() < 0.1:
            headers[rng.choice(["X-DashScope-SSE", "X-DashScope-Async"])] = "enable"
        body = self.body_of(operation)
        asked = f"{method.upper()} {path}?{query} {body[:2000]!r}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST_S)
        try:
            connection.request(method.upper(), path + ("?" + query if query else ""), body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.broken.append(f"{error!r} to {asked}")
            return
        finally:
            connection.close()
        self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
        # 501: what this service was started without.
        if response.status >= 500 and response.status != 501:
            self.broken.append(f"{response.status} {answer[:300]!r} to {asked}")
        elif response.status >= 400:
            # What cannot be read as a request at all has no protocol yet, and OpenAI's shape.
            unread = b"malformed request target" in answer
            try:
                fits = error_fits("openai" if unread else operation["tags"][0], json.loads(answer))
            except (ValueError, KeyError, TypeError, AttributeError):
                fits = False
            if not fits:
                self.broken.append(f"{response.status} in another shape {answer[:300]!r} to {asked}")


class Provider(http.server.BaseHTTPRequestHandler):
    """A provider of logins who is there and vouches for nobody: logins begin, and no code is good."""

    def log_message(self, *words):
        pass

    def reply(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        here = f"http://127.0.0.1:{self.server.server_port}"
        self.reply(200, {"keys": []} if self.path == "/keys" else
                   {"issuer": here, "authorization_endpoint": here + "/authorize", "token_endpoint": here + "/token", "jwks_uri": here + "/keys"})

    def do_POST(self):
        self.reply(400, {"error": "invalid_grant"})


def start_provider():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def make_job(port, key):
    """A fine-tuning job that is there to be asked for, and ends soon."""
    def send(path, body, kind):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_S)
        connection.request("POST", path, body, {"Authorization": "Bearer " + key, "Content-Type": kind})
        return json.loads(connection.getresponse().read())["id"]
    line = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}) + "\n"
    form = (f'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            f'--b\r\nContent-Disposition: form-data; name="file"; filename="t.jsonl"\r\n\r\n{line * 10}\r\n--b--\r\n')
    file = send("/v1/files", form.encode(), "multipart/form-data; boundary=b")
    job = send("/v1/fine_tuning/jobs", json.dumps({"model": "base", "training_file": file, "hyperparameters": {"n_epochs": 1}}).encode(), "application/json")
    return file, job


def run_schemathesis(url, port, key):
    if not SLOW:
        return
    if importlib.util.find_spec("schemathesis") is None:
        print("skipped schemathesis: it is not installed for this Python (QW_PYTHON chooses another)")
        return
    file, job = make_job(port, key)
    schemathesis(url, key, "every route but those", "--exclude-path-regex", ASKED_LAST)
    named = f'[[operations]]\ninclude-path-regex = "^/v1/fine_tuning/"\n[operations.parameters]\n"path.job_id" = "{job}"\n"body.training_file" = "{file}"\n'
    schemathesis(url, key, "a job that there is", "--include-path-regex", "^/v1/fine_tuning/", config=named)
    schemathesis(url, key, "that let an administrator disable himself", "--include-path-regex", ASKED_LAST)


def schemathesis(url, key, what, *which, config=""):
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "schemathesis.toml").write_text(config)
        done = subprocess.run([str(pathlib.Path(sys.executable).parent / "schemathesis"), "run", url + "/openapi.json", "-H", "Authorization: Bearer " + key,
                               "--url", url, "--workers", "1", "--max-examples", os.environ.get("QW_EXAMPLES", "40"), "--seed", "1", "--phases", "examples,coverage,fuzzing",
                               "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
                               "--request-timeout", str(LONGEST_S), "--suppress-health-check", "all", "--max-redirects", "0", *which],
                              capture_output=True, text=True, cwd=folder)
    if done.returncode != 0:
        print(done.stdout[-12000:], done.stderr[-2000:])
    for line in done.stdout.splitlines():
        if any(word in line for word in ("Selected:", "Tested:", "test cases", "generated")):
            print("  ", line.strip())
    service.check(f"openapi: schemathesis finds nothing: {what}", done.returncode == 0)


def main():
    program = sys.argv[1]
    printed = json.loads(subprocess.run([program, "serve", "--openapi"], capture_output=True, check=True).stdout)
    if importlib.util.find_spec("openapi_spec_validator") is None:
        print("skipped the validator of OpenAPI documents: openapi-spec-validator is not installed for this Python (QW_PYTHON chooses another)")
    else:
        import openapi_spec_validator
        try:
            openapi_spec_validator.validate(printed)
            valid = True
        except Exception as error:  # noqa: BLE001: reported
            print(error)
            valid = False
        service.check("openapi: the document is valid", valid)
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "log")
        words = pathlib.Path(folder, "words")
        words.write_text("[hate]\nvile\n")
        marks = pathlib.Path(folder, "marks")
        subprocess.run([program, "govern", "watermark", "add", marks], check=True, capture_output=True)
        base = pathlib.Path(folder, "base")
        subprocess.run([program, "convert", "mini", base], check=True, capture_output=True)
        running, port = service.start_service(program, log, "-m", "mini", "-m", str(base), "--store", str(pathlib.Path(folder, "state.db")), "--context", "256",
                                              "--moderation-words", str(words), "--watermark-keys", str(marks), "--fine-tune-folder", str(pathlib.Path(folder, "jobs")),
                                              "--oidc-issuer", start_provider(), "--oidc-client-id", "qianwen", "--oidc-client-secret", "x",
                                              "--oidc-redirect", "http://127.0.0.1/auth/oidc/callback", "--oidc-role", "staff=member")
        try:
            key = next(line.strip() for line in log.read_text().splitlines() if line.strip().startswith("sk-qw-"))
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_S)
            connection.request("GET", "/openapi.json", headers={"Authorization": "Bearer " + key})
            service.check("openapi: what is served is what is printed", json.loads(connection.getresponse().read()) == printed)
            connection.close()
            fuzzer = Fuzzer(port, key, printed, 1)
            for _ in range(REQUESTS):
                fuzzer.one()
            for line in fuzzer.broken[:20]:
                print(line)
            print(f"answers by status: {dict(sorted(fuzzer.statuses.items()))}")
            service.check(f"openapi: {REQUESTS} requests are answered, or refused in the shape of their protocol", not fuzzer.broken)
            service.check("openapi: some were whole and some were not", min(fuzzer.statuses.get(200, 0), fuzzer.statuses.get(400, 0)) > REQUESTS // 10)
            run_schemathesis(f"http://127.0.0.1:{port}", port, key)
            service.check("openapi: the service still runs", running.poll() is None)
        finally:
            running.terminate()
            running.wait(60)


main()
