"""The service through TLS as clients see it: curl, Python's ssl, streams, and certificates that change under load.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import http.client
import json
import pathlib
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from service import check, start_service, wait_for

program = sys.argv[1]


def make_pair(work, name, days=2):
    """NAME.pem and NAME.key: a certificate of its own signing for 127.0.0.1."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(days),
                    "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
                    "-keyout", work / f"{name}.key", "-out", work / f"{name}.pem"], check=True, capture_output=True)


def install(work, name):
    """As tools that renew do it: each file replaced at once, one after the other."""
    for end in ("pem", "key"):
        shutil.copy(work / f"{name}.{end}", work / "new")
        (work / "new").rename(work / f"live.{end}")


def trusting(*files):
    context = ssl.create_default_context()
    for file in files:
        context.load_verify_locations(file)
    return context


def ask(port, context, stream=False):
    """The text of an answer over a connection of its own."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps({"prompt": "床前明月光，", "max_tokens": 24, "temperature": 0, "stream": stream}),
                       {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {body}")
    if not stream:
        return json.loads(body)["choices"][0]["text"]
    events = [line[6:] for line in body.splitlines() if line.startswith("data: ")]
    if events[-1] != "[DONE]":
        raise RuntimeError("the stream was cut")
    return "".join(json.loads(e)["choices"][0]["text"] for e in events[:-1] if json.loads(e)["choices"])


def shown(port):
    """The CN that the service shows now."""
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-alpn", "http/1.1"], input="", capture_output=True, text=True,
                          timeout=20)
    return done.stdout


def check_of(*words):
    done = subprocess.run([program, "serve", "--check", *words], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    for name in ("first", "second"):
        make_pair(work, name)
    install(work, "first")
    pair = ["--tls-cert", str(work / "live.pem"), "--tls-key", str(work / "live.key")]

    code, said = check_of(*pair)
    check("tls: --check reads the pair", code == 0 and "certificate CN=first, until " in said)
    code, said = check_of("--tls-cert", str(work / "first.pem"), "--tls-key", str(work / "second.key"))
    check("tls: --check finds a key of another certificate", code == 3 and "second.key: the key is not that of the certificate" in said)
    code, said = check_of("--tls-cert", str(work / "first.pem"))
    check("tls: one file without the other is refused", code == 2 and "need each other" in said)

    server, port = start_service(program, work / "log", "-m", "mini", *pair)
    try:
        url = f"https://127.0.0.1:{port}"
        if shutil.which("curl"):
            curl = lambda *words: subprocess.run(["curl", "-sS", "--max-time", "30", *words], capture_output=True, text=True)
            models = curl("--cacert", str(work / "first.pem"), f"{url}/v1/models")
            check("tls: curl with the certificate", models.returncode == 0 and json.loads(models.stdout)["data"][0]["id"] == "mini")
            check("tls: curl without it refuses", curl(f"{url}/v1/models").returncode == 60)
            check("tls: TLS 1.2 is spoken", curl("--tls-max", "1.2", "--cacert", str(work / "first.pem"), f"{url}/health/live").returncode == 0)
            told = curl(f"http://127.0.0.1:{port}/v1/models")
            check("tls: plain HTTP is told", told.returncode == 0 and "https://" in json.loads(told.stdout)["error"]["message"])
        else:
            print("skipped curl: it is not installed")
        first, both = trusting(work / "first.pem"), trusting(work / "first.pem", work / "second.pem")
        text = ask(port, first)
        check("tls: an answer, whole and streamed", len(text) > 10 and ask(port, first, stream=True) == text)
        check("tls: HTTP/1.1 is agreed on", "ALPN protocol: http/1.1" in shown(port))

        # A long stream that begins before the certificate changes.
        long = http.client.HTTPSConnection("127.0.0.1", port, context=first, timeout=60)
        long.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 400, "stream": True, "ignore_eos": True}),
                     {"Content-Type": "application/json"})
        answer = long.getresponse()
        begun = answer.readline()

        wrong, served, stop = [], [0], threading.Event()

        def client(stream):
            while not stop.is_set():
                try:
                    if ask(port, both, stream) != text:
                        wrong.append("another answer")
                except Exception as error:
                    wrong.append(repr(error))
                served[0] += 1
        clients = [threading.Thread(target=client, args=(i % 2 == 0,)) for i in range(4)]
        for thread in clients:
            thread.start()
        install(work, "second")
        wait_for(work / "log", "certificate for new connections: CN=second", 10)
        check("tls: a new pair is taken up by itself", "CN = second" in shown(port))
        for name in ("first", "second") * 5:
            install(work, name)
            server.send_signal(signal.SIGHUP)
            end = time.monotonic() + 10
            while f"CN = {name}" not in shown(port) and time.monotonic() < end:  # it is read before the next one comes
                time.sleep(0.05)
        check("tls: the stream from before goes on to its end", begun.startswith(b"data: ") and answer.read().decode().rstrip().endswith("data: [DONE]"))
        long.close()
        (work / "live.pem").write_text("no certificate\n")
        server.send_signal(signal.SIGHUP)
        line = wait_for(work / "log", "the certificate in use stays: ", 10)
        check("tls: a broken pair changes nothing, and is told in a line", "live.pem: no certificate in PEM form" in line and "CN = second" in shown(port))
        stop.set()
        for thread in clients:
            thread.join()
        check(f"tls: {served[0]} requests meanwhile, each answered", not wrong and served[0] > 10)
        for error in wrong[:3]:
            print(error)
        check("tls: the log has no errors but that one", (work / "log").read_text().count("error") <= 2)
    finally:
        server.terminate()
        check("tls: it stops cleanly", server.wait(40) == 0)
