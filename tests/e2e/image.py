"""The image of deploy/Dockerfile: its own steps, its size, and containers as deploy/kubernetes/serve.yaml has them.

No daemon and no registry is needed: buildah executes the steps in a chroot, and where the base image cannot be had it is
made here by debootstrap, under the name that the steps know it by. What is in the containers is looked at from inside and
from outside: the user, what can be written, the volume, the end.
"""
import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from service import call, check, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASE = re.search(r"^FROM (\S+)", (ROOT / "deploy" / "Dockerfile").read_text(), re.M).group(1)
STATE = "/var/lib/qianwen"
# Above the base, some more than when this was written (181): a library that brings a desktop with it is noticed.
MOST_MEGABYTES = 220


class Tools:
    """buildah and podman over a store of their own, which goes with the folder."""

    def __init__(self, folder):
        self.store = ["--root", str(folder / "store"), "--runroot", str(folder / "run"), "--storage-driver", "overlay"]
        self.runtime = []

    def buildah(self, *words, **more):
        return subprocess.run(["buildah", *self.store, *words], capture_output=True, text=True, **more)

    def podman(self, *words, **more):
        return subprocess.run(["podman", *self.store, *self.runtime, *words], capture_output=True, text=True, timeout=120, **more)


def skip(why):
    print("skipped image: " + why)
    sys.exit(0)


def make_base(tools, folder):
    """The base image from the distribution's packages, as small as its own."""
    if shutil.which("debootstrap") is None:
        skip(f"no {BASE} to be had, and debootstrap is not installed")
    release = subprocess.run(["debootstrap", "--variant=minbase", "bookworm", str(folder / "base")], capture_output=True, text=True)
    if release.returncode != 0:
        skip("debootstrap: " + release.stdout.strip()[-200:])
    container = tools.buildah("from", "scratch").stdout.strip()
    mounted = tools.buildah("mount", container).stdout.strip()
    subprocess.run(["cp", "-a", f"{folder}/base/.", mounted], check=True)
    tools.buildah("umount", container)
    shutil.rmtree(folder / "base", ignore_errors=True)
    made = tools.buildah("commit", "--rm", container, "docker.io/library/" + BASE)
    if made.returncode != 0:
        skip("buildah: " + made.stderr.strip()[-200:])


def ccache(folder):
    """The machine's ccache, lent to the build as it is set up here, but for where the sources are; nothing where there is none."""
    program = shutil.which("ccache")
    if program is None:
        return []
    real = os.path.realpath(program)
    # What compilers say depends on the language, so ccache keeps results apart by it; the steps know none.
    languages = "".join(f"export {name}={os.environ[name]}\n" for name in ("LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES") if name in os.environ)
    (folder / "ccache").write_text(f'#!/bin/sh\n{languages}exec /opt/lent/ccache "$@"\n')
    (folder / "ccache").chmod(0o755)
    lent = {real: "/opt/lent/ccache:ro", str(folder / "ccache"): "/usr/bin/ccache:ro"}
    for library in re.findall(r"=> (/\S+)", subprocess.run(["ldd", real], capture_output=True, text=True).stdout):
        if re.search(r"/lib(hiredis|zstd)\b", library):
            lent[os.path.realpath(library)] = f"/usr/lib/{library.split('/lib/', 1)[1]}:ro"
    setup = re.findall(r"^\((.*?)\) (\w+) = (.*)$", subprocess.run(["ccache", "-p"], capture_output=True, text=True).stdout, re.M)
    (folder / "ccache.conf").write_text("base_dir = /src\n" + "".join(
        f"{name} = {value}\n" for origin, name, value in setup if origin != "default" and name not in ("base_dir", "cache_dir")))
    lent[str(folder / "ccache.conf")] = "/root/.config/ccache/ccache.conf:ro"
    lent[next(value for _, name, value in setup if name == "cache_dir")] = "/root/.cache/ccache:rw"
    return [word for path, place in lent.items() for word in ("--volume", f"{path}:{place}")]


def build(tools, folder):
    if tools.podman("image", "exists", BASE).returncode != 0:
        make_base(tools, folder)
    begun = time.monotonic()
    log = folder / "build.log"
    with open(log, "w") as out:
        made = subprocess.run(["buildah", *tools.store, "bud", "--layers", "--isolation", "chroot", "--pull-never", *ccache(folder),
                               "-f", str(ROOT / "deploy" / "Dockerfile"), "-t", "qianwen", str(ROOT)], stdout=out, stderr=subprocess.STDOUT)
    check(f"image: its steps are executed, in {time.monotonic() - begun:.0f} s" +
          ("" if made.returncode == 0 else "\n" + log.read_text(errors="replace")[-3000:]), made.returncode == 0)
    return made.returncode == 0


def look(tools):
    """What the image says of itself, and what is in it."""
    told, base = (json.loads(tools.podman("image", "inspect", name).stdout)[0] for name in ("qianwen", BASE))
    config, megabytes = told["Config"], (told["Size"] - base["Size"]) / 1e6
    check(f"image: {megabytes:.0f} MB above its base's {base['Size'] / 1e6:.0f}, at most {MOST_MEGABYTES}", 0 < megabytes <= MOST_MEGABYTES)
    check("image: user, entry, volume, signal and port as documented",
          (config["User"], config["Entrypoint"], list(config["Volumes"]), config["StopSignal"], list(config["ExposedPorts"])) ==
          ("10001:10001", ["/usr/bin/qianwen"], [STATE], "SIGTERM", ["8080/tcp"]))


def limits():
    """Of processes and files: no more than this process may have itself, which a runtime would try."""
    most = lambda what, wanted: min([n for n in (resource.getrlimit(what)[1], wanted) if n != resource.RLIM_INFINITY])
    files, processes = most(resource.RLIMIT_NOFILE, 65536), most(resource.RLIMIT_NPROC, 4096)
    return ["--network", "host", "--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={processes}:{processes}"]


def find_runtime(tools):
    """What runs containers here; a machine within another may not let all do it."""
    said = ""
    for runtime in ("crun", "runc"):
        if shutil.which(runtime) is None:
            continue
        tools.runtime = ["--runtime", runtime, "--cgroup-manager", "cgroupfs"]
        tried = tools.podman("run", "--rm", *limits(), "--entrypoint", "/bin/true", "qianwen")
        if tried.returncode == 0:
            return True
        said = tried.stderr.strip()[-200:]
    print(f"skipped image's containers: no runtime can start one here: {said}")
    return False


class Container:
    """One that serves, as serve.yaml has it: its security context and arguments, with another port and store."""
    SECURITY = ["--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp"]

    def __init__(self, tools, folder, name):
        manifest = (ROOT / "deploy" / "kubernetes" / "serve.yaml").read_text()
        args = [w.strip().strip('"') for w in re.search(r"args: \[(.*)\]", manifest).group(1).split(",")]
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        args[args.index("--port") + 1], args[args.index("--host") + 1] = str(self.port), "127.0.0.1"
        self.tools, self.name, self.log = tools, name, folder / f"{name}.log"
        self.process = subprocess.Popen(
            ["podman", *tools.store, *tools.runtime, "run", "--rm", "--name", name, *limits(), *self.SECURITY, "--volume", f"state:{STATE}",
             "--env", f"QW_SERVE_STORE={STATE}/state.db", "qianwen", *args], stdout=open(self.log, "w"), stderr=subprocess.STDOUT)
        wait_for(self.log, "listening on", 60)

    def inside(self, command):
        return self.tools.podman("exec", self.name, "sh", "-c", command)

    def pid(self):
        return self.tools.podman("inspect", "--format", "{{.State.Pid}}", self.name).stdout.strip()

    def end(self):
        """Seconds until it ended by itself after SIGTERM, and its status."""
        begun = time.monotonic()
        self.tools.podman("kill", "--signal", "TERM", self.name)
        status = self.process.wait(60)
        return time.monotonic() - begun, status


def ask(port, key, method="GET", path="/v1/models", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, None if body is None else json.dumps(body),
                       {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
    return connection.getresponse()


def confined(container):
    """What the process may do, by the kernel's word and by trying."""
    status = pathlib.Path(f"/proc/{container.pid()}/status").read_text()
    of = lambda name: re.search(rf"^{name}:\s+(\S+)", status, re.M).group(1)
    check("image: runs as user 10001 without any capability, and gets none",
          (of("Uid"), of("Gid"), int(of("CapEff"), 16), int(of("CapBnd"), 16), of("NoNewPrivs")) == ("10001", "10001", 0, 0, "1"))
    check("image: nothing can be written but the volume and /tmp",
          [container.inside(f"touch {path}/x").returncode == 0 for path in ("/usr/bin", "/etc", "/usr/share/qianwen", STATE, "/tmp")] ==
          [False, False, False, True, True])
    check("image: what builds is not in it", container.inside("command -v g++ gcc cc ld cmake ninja").stdout == "")
    check("image: has what the manifest's preStop calls", container.inside("sleep 0").returncode == 0)


def containers(tools, folder):
    if not find_runtime(tools):
        return
    first = Container(tools, folder, "first")
    try:
        check("image: the health pages", [call(first.port, "GET", "/health/" + page)[0] for page in ("live", "ready")] == [200, 200])
        confined(first)
        key = re.search(r"(sk-[A-Za-z0-9_-]+)", first.log.read_text()).group(1)
        chat = {"messages": [{"role": "user", "content": "写"}], "max_tokens": 8}
        answer = ask(first.port, key, "POST", "/v1/chat/completions", chat)
        said = json.load(answer)
        check("image: answers a chat", answer.status == 200 and said["usage"]["completion_tokens"] > 0)
        stream = ask(first.port, key, "POST", "/v1/completions",
                     {"prompt": "a", "max_tokens": 1500, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}})
        begun = stream.readline()
        seconds, status = first.end()
        rest = stream.read()
        check(f"image: after SIGTERM the running answer is given to its end, and all ends in {seconds:.1f} s with 0 ({status})",
              begun.startswith(b"data:") and rest.rstrip().endswith(b"data: [DONE]") and b'"completion_tokens":1500' in rest and status == 0)
        second = Container(tools, folder, "second")
        try:
            check("image: the volume keeps the keys", ask(second.port, key).status == 200 and "sk-" not in second.log.read_text())
        finally:
            check("image: an idle service ends at once", second.end()[0] < 10)
    finally:
        tools.podman("rm", "--force", "--all", "--time", "1")


with tempfile.TemporaryDirectory(prefix="qw-image-", ignore_cleanup_errors=True) as name:
    work = pathlib.Path(os.environ.get("QW_IMAGE_STORE", name))  # a store that is kept spares making the base again
    tools = Tools(work)
    try:
        if build(tools, pathlib.Path(name)):
            look(tools)
            containers(tools, pathlib.Path(name))
    finally:
        tools.buildah("rm", "--all")
        tools.podman("volume", "rm", "--all", "--force")
        if work == pathlib.Path(name):
            tools.podman("rmi", "--all", "--force")
