#!/usr/bin/env python3
"""What `qianwen models estimate` says against what the service really holds once its cache is full.

usage: bench/memory.py PROGRAM MODEL... [--context N] [--isa NAME...] [--limit PERCENT]

Each model is served with a cache of N tokens, a prompt as long as that is read, then eight at once of an eighth of it, so that
every page of the cache and of the workspace has been touched and many requests have shared them, and the process's resident memory
(Rss of /proc/PID/smaps_rollup; of it, anonymous pages) is compared with the estimate. Prints one line a case; exits 1 if one is more than PERCENT off. The peak is
VmHWM: while weights are packed the pages of the model file count too, which the system may take back at any time.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request


def estimate(program, model, context, env):
    done = subprocess.run([program, "models", "estimate", model, "--context", str(context), "--json"], capture_output=True, text=True, env=env)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)["memory"][0]


def rollup(pid):
    sizes = {}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value = line.split(":")
        sizes[key] = int(value.split()[0]) * 1024
    return sizes


def peak(pid):
    return int(re.search(r"VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) * 1024


def complete(port, prompt):
    body = {"prompt": prompt, "max_tokens": 4, "temperature": 0}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        answer.read()


def served(program, model, context, env):
    """Of a service: smaps_rollup before any prompt, and the same and the peak after prompts that filled its cache."""
    with tempfile.NamedTemporaryFile("r") as log:
        server = subprocess.Popen([program, "serve", "-m", model, "--port", "0", "--context", str(context), "--cache-tokens", str(context)],
                                  stdout=log.fileno(), stderr=subprocess.STDOUT, env=env)
        try:
            while not (found := re.search(r"listening on \S+:(\d+)", pathlib.Path(log.name).read_text())):
                if server.poll() is not None:
                    raise SystemExit(pathlib.Path(log.name).read_text())
                time.sleep(0.05)
            before = rollup(server.pid)
            complete(found.group(1), [i % 1000 for i in range(context - 8)])
            part = context // 8 - 8
            crowd = [threading.Thread(target=complete, args=(found.group(1), [(7 * n + i) % 1000 for i in range(part)])) for n in range(8)]
            for thread in crowd:
                thread.start()
            for thread in crowd:
                thread.join()
            return before, rollup(server.pid), peak(server.pid)
        finally:
            server.terminate()
            server.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--isa", nargs="*", default=[""])
    parser.add_argument("--limit", type=float, default=5)
    o = parser.parse_args()
    worst = 0.0
    print(f"{'model':28} {'isa':8} {'estimate':>9} {'weights':>8} {'cache':>7} {'work':>7} {'text':>7}   {'loaded':>7} {'full':>7} {'Rss':>7} {'peak':>7} MB   off")
    for model in o.models:
        for isa in o.isa:
            env = {**os.environ, **({"QW_ISA": isa} if isa else {})}
            said = estimate(o.program, model, o.context, env)
            before, full, most = served(o.program, model, o.context, env)
            off = 100 * (said["total_bytes"] / full["Rss"] - 1)
            worst = max(worst, abs(off))
            mb = lambda n: f"{n / 1e6:.0f}"
            print(f"{pathlib.Path(model).name:28} {isa or 'usual':8} {mb(said['total_bytes']):>9} {mb(said['weight_bytes']):>8} {mb(said['cache_bytes']):>7} "
                  f"{mb(said['workspace_bytes']):>7} {mb(said.get('text_bytes', 0)):>7}   {mb(before['Pss_Anon'] if 'Pss_Anon' in before else before['Anonymous']):>7} "
                  f"{mb(full['Anonymous']):>7} {mb(full['Rss']):>7} {mb(most):>7}    {off:+.1f} %", flush=True)
    print(f"at most {worst:.1f} % off")
    sys.exit(worst > o.limit)


main()
