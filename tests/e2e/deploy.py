"""The examples of deploy/: what has a checker is checked by it, and nginx really stands before two services."""
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from service import check, send, start_service

PROGRAM = sys.argv[1]
ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
AT_WORK = 4  # answers that a service of these tests is given, of which it makes one at a time


def run(*words, **more):
    return subprocess.run(words, capture_output=True, text=True, timeout=60, **more)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def dockerfile():
    """There may be no daemon to build with: what it copies is there, and it installs what ./dev installs to build."""
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [w for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M) for w in line.split()[:-1]]
    missing = [w for w in copied if not (ROOT / w).exists()]
    check(f"Dockerfile: all {len(copied)} things it copies are there {missing}", copied and not missing)
    dev = (ROOT / "dev").read_text()
    needed = set(re.search(r"build_packages=\((.*?)\)", dev, re.S).group(1).split()) | {"libboost1.81-dev"}
    first, second = text.split("\nFROM ")[1:]
    installed = set(re.search(r"--no-install-recommends \\\n(.*?)\n\s*&&", first, re.S).group(1).replace("\\", "").split())
    check(f"Dockerfile: builds with the packages of ./dev {needed ^ installed}", needed == installed)
    check("Dockerfile: does not run as root", re.search(r"^USER 10001:10001$", second, re.M) is not None)
    # The libraries that the program is linked with, by the packages that have them.
    if shutil.which("dpkg-query") and shutil.which("objdump") and "bookworm" in pathlib.Path("/etc/os-release").read_text():
        packages = set()
        needed = set(re.findall(r"NEEDED +(\S+)", run("objdump", "-p", PROGRAM).stdout))  # theirs come with their packages
        for path in [path for name, path in re.findall(r"(\S+) => (/\S+)", run("ldd", PROGRAM).stdout) if name in needed]:
            for name in (path, os.path.realpath(path), path.removeprefix("/usr"), os.path.realpath(path).removeprefix("/usr")):
                owner = run("dpkg-query", "-S", name).stdout
                if owner:
                    packages.add(owner.split(":")[0])
                    break
        base = {"libc6", "libgcc-s1", "libstdc++6", "zlib1g"}  # of every image, or of those named
        named = set(re.search(r"--no-install-recommends \\\n(.*?)\n\s*&&", second, re.S).group(1).replace("\\", "").split())
        left = packages - base - named
        sanitized = any(name.startswith(("libasan", "libubsan", "libtsan")) for name in left)
        if sanitized:
            print("skipped the container's libraries: a program with sanitizers is not what it holds")
        else:
            check(f"Dockerfile: has the libraries of the program {sorted(left)}", packages and not left)


def systemd(folder):
    if not shutil.which("systemd-analyze"):
        return print("skipped systemd: systemd-analyze is not installed")
    unit = (DEPLOY / "qianwen.service").read_text().replace("/usr/bin/qianwen", PROGRAM)
    (folder / "qianwen.service").write_text(unit)
    verified = run("systemd-analyze", "verify", "--man=no", str(folder / "qianwen.service"))
    said = [line for line in (verified.stdout + verified.stderr).splitlines() if "qianwen.service" in line]
    check(f"systemd: the unit is fine {said}", verified.returncode == 0 and not said)
    score = run("systemd-analyze", "security", "--offline=true", "--no-pager", str(folder / "qianwen.service"))
    level = re.search(r"Overall exposure level.*?: ([0-9.]+)", score.stdout)
    if level is None:
        return print("skipped systemd's opinion of the unit: " + (score.stderr or score.stdout).strip()[:200])
    check(f"systemd: exposure {level.group(1)}, at most 2.0", float(level.group(1)) <= 2.0)


def configuration(folder):
    text = (DEPLOY / "serve.toml").read_text().replace("/var/lib/qianwen", str(folder))
    (folder / "serve.toml").write_text(text)
    checked = run(PROGRAM, "serve", "--config", str(folder / "serve.toml"), "--check", cwd=ROOT)
    check(f"serve.toml: the service can start with it {checked.stderr.strip()[-200:]}", checked.returncode == 0)


def kubernetes():
    if not shutil.which("kubectl"):
        return print("skipped Kubernetes: kubectl is not installed")
    made = run("kubectl", "kustomize", str(DEPLOY / "kubernetes"))
    kinds = re.findall(r"^kind: (\w+)$", made.stdout, re.M)
    check(f"Kubernetes: the manifests are put together {made.stderr.strip()[:200]}", made.returncode == 0)
    check(f"Kubernetes: {sorted(kinds)}", sorted(kinds) == ["Deployment", "Ingress", "Namespace", "NetworkPolicy", "PodDisruptionBudget", "Service"])
    text = made.stdout
    check("Kubernetes: probes ask the pages that there are",
          set(re.findall(r"path: (/health/\w+)", text)) == {"/health/live", "/health/ready"} and "startupProbe" in text)
    args = re.search(r"- args:\n((?:\s+- .*\n)+)", text).group(1)
    grace = int(re.search(r"--grace\n\s+- \"?(\d+)", args).group(1))
    period = int(re.search(r"terminationGracePeriodSeconds: (\d+)", text).group(1))
    pause = int(re.search(r"- sleep\n\s+- \"(\d+)\"", text).group(1))
    check(f"Kubernetes: a pod has {period} s to end, its pause and grace need {pause + grace}", period > pause + grace)
    words = [w.strip().strip('"') for w in re.findall(r"- (.*)", args)]
    help_text = run(PROGRAM, "serve", "--help").stdout
    check("Kubernetes: the program has the options", all(w in help_text for w in words if w.startswith("--")))


def ask(port, key, body=None, path="/v1/models"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None,
                       {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
    return connection, connection.getresponse()


def nginx(folder):
    if not shutil.which("nginx") and not pathlib.Path("/usr/sbin/nginx").exists():
        return print("skipped nginx: it is not installed")
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    services = [start_service(PROGRAM, folder / f"serve{i}.log", "-m", "mini", "-t", "1", "--max-sequences", "1") for i in (1, 2)]
    port = free_port()
    text = (DEPLOY / "nginx.conf").read_text()
    for i in (0, 1):
        text = text.replace(f"10.0.0.1{i + 1}:8080", f"127.0.0.1:{services[i][1]}")
    # Without certificates: the server of port 443 as a plain one; the other one goes.
    text = re.sub(r"  server \{\n    listen 80;.*?\n  \}\n", "", text, flags=re.S)
    text = text.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{port};")
    text = re.sub(r"    ssl_.*\n", "", text)
    text = text.replace("/run/nginx.pid", f"{folder}/nginx.pid").replace("/var/log/nginx/", f"{folder}/")
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        text = text.replace("http {\n", f"http {{\n  {kind}_temp_path {folder}/{kind};\n", 1)
    (folder / "nginx.conf").write_text(text)
    tested = run(program, "-t", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"))
    check(f"nginx: reads its file {tested.stderr.strip()[-200:]}", tested.returncode == 0)
    proxy = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"), "-g", "daemon off;"])
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        # Every event by itself, and none is kept for company: the first of an answer that waits behind others comes while it waits.
        def stream(at, tokens):
            body = {"model": "mini", "stream": True, "max_tokens": tokens, "ignore_eos": True, "messages": [{"role": "user", "content": "写"}]}
            return ask(at, "a", body, "/v1/chat/completions")
        for _ in range(3):  # on a machine so busy that the others have ended meanwhile, again
            before = [stream(at, 1900) for _, at in services for _ in range(AT_WORK)]
            connection, answer = stream(port, 20)
            first = next((line for line in answer if line.startswith(b"data: {")), b"")
            metrics = [send(at, "GET", "/metrics")[1] for _, at in services]
            waiting = max(int(float(re.search(r"^qianwen_requests_waiting\S* (\S+)", text, re.M).group(1))) for text in metrics)
            for other, _ in before:
                other.close()
            rest = answer.read()
            if waiting == AT_WORK:
                break
        check(f"nginx: a stream's first event comes while {waiting} answers are still to begin",
              answer.status == 200 and first and waiting == AT_WORK and rest.rstrip().endswith(b"data: [DONE]"))
        check("nginx: figures and administration stay inside",
              [ask(port, "a", path=p)[1].status for p in ("/metrics", "/admin/adapters")] == [404, 404])

        # One client's requests go to one service.
        def homes(keys):
            lines = lambda: [line for line in (folder / "access.log").read_text().splitlines() if "/v1/models" in line]
            before, end = len(lines()), time.monotonic() + 20
            for key in keys:
                ask(port, key, path="/v1/models/" + key)[1].read()
            while len(lines()) < before + len(keys) and time.monotonic() < end:  # nginx writes after it has answered
                time.sleep(0.05)
            # Two of its workers may write in another order than they answered in.
            found = {re.search(r"/v1/models/(\S+)", line).group(1).rstrip('"'): line.split()[-2] for line in lines()[before:]}
            return [found.get(key) for key in keys]
        keys = [f"key-{i}" for i in range(16)]
        first, second = homes(keys), homes(keys)
        check(f"nginx: each client has its service {sorted(set(first))}", first == second and len(set(first)) == 2)

        # One service dies: nobody is told.
        services[0][0].kill()
        services[0][0].wait()
        statuses = [ask(port, key)[1].status for key in keys]
        check(f"nginx: with one service dead all {len(keys)} clients are answered {set(statuses)}", set(statuses) == {200})
    finally:
        proxy.terminate()
        proxy.wait(20)
        for server, _ in services:
            server.kill()
            server.wait()


with tempfile.TemporaryDirectory(prefix="qw-deploy-") as name:
    folder = pathlib.Path(name)
    folder.chmod(0o755)  # nginx's workers are another user's
    dockerfile()
    systemd(folder)
    configuration(folder)
    kubernetes()
    nginx(folder)
