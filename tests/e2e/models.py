#!/usr/bin/env python3
"""The program's model store against a server of this script that speaks the services' addresses. models.py PROGRAM;
prints "ok ..." or "FAILED ..." a check. What networks do wrong is tested in src/hub."""
import hashlib
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from service import check

program = sys.argv[1]
root = pathlib.Path(__file__).resolve().parents[2]
mini = (root / "models/mini/mini.gguf").read_bytes()
TOKEN = "hf_only_for_this_test"


def folder(name):
    return {p.name: p.read_bytes() for p in (root / "tests/golden" / name).iterdir() if p.name != "expected.safetensors"}


REPOSITORIES = {
    "Qwen/Tiny": folder("qwen3_tied_bf16"),
    "Qwen/Tiny-GPTQ": folder("quant_gptq_int4_order"),
    "Qwen/Mini-GGUF": {"mini-q8_0.gguf": mini, "mini-broken-q4_k_m.gguf": b"no model", "README.md": b"x"},
    "Qwen/Pickle": {"config.json": b"{}", "pytorch_model.bin": b"x"},
    "Qwen/Out": {"../../out.gguf": b"x"},
    "me/Private": folder("qwen3_tied_bf16"),
}
served = {"bytes": 0, "slow": 0.0}
MIDDLE = 50_000_000
goes_on = threading.Event()  # not set: when so many bytes were served, nothing more is until it is
goes_on.set()


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def reply(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for at in range(0, len(body), 65536):
            if served["bytes"] >= MIDDLE:
                goes_on.wait()
            self.wfile.write(body[at:at + 65536])
            served["bytes"] += len(body[at:at + 65536])
            time.sleep(served["slow"])

    def do_GET(self):
        try:
            self.answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self):
        url = urllib.parse.urlparse(self.path)
        path, query = urllib.parse.unquote(url.path), urllib.parse.parse_qs(url.query)
        found = (re.fullmatch(r"/api/models/([^/]+/[^/]+)/(tree)/main()", path) or
                 re.fullmatch(r"/([^/]+/[^/]+)/(resolve)/main/(.*)", path) or
                 re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/(repo/files|repo)()", path))
        files = REPOSITORIES.get(found.group(1)) if found else None
        if files is None:
            return self.reply(404, b"{}")
        if found.group(1).startswith("me/") and self.headers.get("Authorization") != "Bearer " + TOKEN:
            return self.reply(401, b"{}")
        if found.group(2) == "tree":
            return self.reply(200, json.dumps([{"type": "file", "path": name, "size": len(data), "oid": "0", "lfs": {
                "oid": hashlib.sha256(data).hexdigest(), "size": len(data)}} for name, data in files.items()]).encode())
        if found.group(2) == "repo/files":
            return self.reply(200, json.dumps({"Code": 200, "Data": {"Files": [
                {"Path": name, "Type": "blob", "Size": len(data), "Sha256": hashlib.sha256(data).hexdigest()}
                for name, data in files.items()]}}).encode())
        data = files.get(found.group(3) or query.get("FilePath", [""])[0])
        if data is None:
            return self.reply(404, b"{}")
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not asked:
            return self.reply(200, data)
        begin, end = int(asked.group(1)), int(asked.group(2))
        return self.reply(206, data[begin:end + 1], [("Content-Range", f"bytes {begin}-{end}/{len(data)}")])


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
work = tempfile.TemporaryDirectory()
store = pathlib.Path(work.name) / "store"
environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k != "HF_TOKEN"}
environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "MODELSCOPE_DOMAIN": f"http://127.0.0.1:{server.server_port}",
                "QW_MODELS": str(store)}


def run(*words, **more):
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=120, env=environment | more)


def told(*words, **more):
    done = run(*words, "--json", **more)
    if done.returncode != 0:
        raise RuntimeError(f"{words}: {done.stderr}")
    return json.loads(done.stdout)


def refused(name, code, words, *command, **more):
    done = run(*command, **more)
    check("models: " + name, done.returncode == code and words in done.stderr and len(done.stderr.splitlines()) == 1)


estimate = told("models", "estimate", "Qwen/Tiny", "--context", "64,128")
check("models: an estimate without a download", not store.exists() and served["bytes"] < 100_000 and estimate["architecture"] == "qwen3")
gguf_estimate = told("models", "estimate", "Qwen/Mini-GGUF:q8_0")
check("models: an estimate of a GGUF file is that of the file", gguf_estimate["memory"] == told("models", "estimate", "mini")["memory"]
      and gguf_estimate["download_bytes"] == len(mini))
gptq = told("models", "estimate", "Qwen/Tiny-GPTQ")
check("models: an estimate of a quantised model", "gptq" in gptq["quantisation"].lower())
pulled = told("models", "pull", "Qwen/Tiny")
check("models: pull", pulled["path"] == str(store / "Qwen/Tiny") and pulled["fetched_bytes"] > 0)
check("models: a second pull fetches nothing", told("models", "pull", "Qwen/Tiny")["fetched_bytes"] == 0)
shown = told("models", "show", "tiny", "--context", "64,128")
check("models: the estimate was right", shown["memory"] == [{k: v for k, v in row.items() if k != "fits"} for row in estimate["memory"]]
      and shown["bytes"] == estimate["bytes"] and shown["source"].startswith("huggingface Qwen/Tiny"))
told("models", "pull", "ms:Qwen/Tiny-GPTQ")
check("models: estimate of the quantised model was right", told("models", "estimate", "tiny-gptq")["memory"] == gptq["memory"])
refused("several GGUF files are listed", 2, "mini-q8_0.gguf", "models", "pull", "Qwen/Mini-GGUF")
told("models", "pull", "Qwen/Mini-GGUF:q8_0")
for name in ("mini-gguf", "Qwen/Mini-GGUF:q8_0", "MINI-Q8_0"):
    check(f"models: chat finds {name}", run("chat", name, "-p", "写", "--max-tokens", "2", "--seed", "1").returncode == 0)
listed = {m["name"]: m for m in told("models", "list")["models"]}
check("models: list", set(listed) == {"Qwen/Tiny", "Qwen/Tiny-GPTQ", "Qwen/Mini-GGUF:mini-q8_0"}
      and listed["Qwen/Tiny"]["type"] == "bf16" and listed["Qwen/Mini-GGUF:mini-q8_0"]["type"] == "q8_0")
check("models: verify", told("models", "verify", "Qwen/Tiny")["whole"])
weights = store / "Qwen/Tiny/model.safetensors"
weights.write_bytes(weights.read_bytes()[:-1] + b"!")
refused("verify names the damaged file", 3, "model.safetensors has SHA-256", "models", "verify", "Qwen/Tiny")
told("models", "pull", "Qwen/Tiny")
check("models: a pull mends it", run("models", "verify", "Qwen/Tiny").returncode == 0)
refused("no pickle", 3, "pytorch_model.bin", "models", "pull", "Qwen/Pickle")
refused("no paths out of the folder", 3, "refused", "models", "pull", "Qwen/Out")
refused("an absent model", 3, "404", "models", "pull", "Qwen/None")
refused("no name", 2, "not a short name", "models", "pull", "nothing")
refused("a token is needed", 4, "HF_TOKEN", "models", "pull", "me/Private")
with_token = run("models", "pull", "me/Private", HF_TOKEN=TOKEN)
check("models: a token opens it and is not shown", with_token.returncode == 0 and TOKEN not in with_token.stdout + with_token.stderr)
refused("a wrong token is not shown", 4, "HF_TOKEN", "models", "pull", "me/Private", HF_TOKEN="wrong")
told("models", "rm", "me/Private")
told("models", "rm", "mini-gguf")
check("models: rm", not (store / "me").exists() and not (store / "Qwen/Mini-GGUF").exists())
for words in (["pull"], ["list"], ["show"], ["rm"], ["verify"], ["estimate"]):
    check(f"models: {words[0]} --help", "Usage" in run("models", *words, "--help").stdout)

# kill -9 and ^C in the middle: the second run goes on where the first was.
REPOSITORIES["Qwen/Big-GGUF"] = {"big-q8_0.gguf": mini * 16}
served["slow"] = 0.005  # so that little is on its way when it ends
for ending, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
    served["bytes"] = 0
    goes_on.clear()
    process = subprocess.Popen([program, "models", "pull", "Qwen/Big-GGUF"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while served["bytes"] < MIDDLE and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(ending)
    errors = process.communicate()[1]
    part = store / "Qwen/Big-GGUF/big-q8_0.gguf.part"
    check(f"models: {ending.name} leaves a part file", process.returncode == code and part.exists())
    goes_on.set()
    while threading.active_count() > 2:  # answers under way to the dead process
        time.sleep(0.01)
served["slow"], served["bytes"] = 0.0, 0
done = told("models", "pull", "Qwen/Big-GGUF")
check("models: the rest is fetched, no more", done["fetched_bytes"] < len(mini) * 16 * 0.75 and served["bytes"] < len(mini) * 16 * 0.75)
check("models: and it is whole", (store / "Qwen/Big-GGUF/big-q8_0.gguf").read_bytes() == mini * 16 and not part.exists())
