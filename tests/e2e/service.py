"""What the end-to-end scripts in Python share: checks, and the service as a process. Standard library only."""
import json
import pathlib
import subprocess
import time
import urllib.error
import urllib.request


def check(name, holds):
    print(("ok " if holds else "FAILED ") + name, flush=True)


def wait_for(file, text, seconds=20):
    """The first line of a growing file that holds `text`, when it is whole."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = [line for line in pathlib.Path(file).read_text(errors="replace").splitlines(True) if text in line and line.endswith("\n")]
        if found:
            return found[0].rstrip("\n")
        time.sleep(0.05)
    raise RuntimeError(f"{text!r} did not appear:\n" + pathlib.Path(file).read_text(errors="replace"))


def start_service(program, log, *words, port=0):
    """The running process and its port; `log` gets what it writes. `words` are more of the command line; port 0: any free one."""
    server = subprocess.Popen([program, "serve", "--port", str(port), *words], stdout=open(log, "w"), stderr=subprocess.STDOUT)
    return server, int(wait_for(log, "listening on").rsplit(":", 1)[1].split()[0])


def send(port, method, path, body=None, key=None):
    """Status, text and headers of an answer, an error's too."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": "Bearer " + key} if key else {})
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", None if body is None else json.dumps(body).encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def ask(port, method, path, body=None, key=None):
    """The same with the JSON that the text is."""
    status, text, headers = send(port, method, path, body, key)
    return status, json.loads(text), headers


def call(port, method, path, body=None):
    """Status and JSON."""
    return ask(port, method, path, body)[:2]
