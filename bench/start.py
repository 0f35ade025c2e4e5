#!/usr/bin/env python3
"""How long a start takes: from starting the program to the first byte of the first token, of a command (`complete`) and of a
service's first request (`serve`), in turns of everything that is named.

Usage: start.py MODEL [--threads N] [--context N] [--rounds N] [NAME=PROGRAM ...]
NAME=PROGRAM, build/release/qianwen without any, may be preceded by variables: 'kept=QW_PACK_CACHE=/tmp/kept build/release/qianwen'.
Of each: the seconds of every round, and medians of these, of processor time (user, system) and of page faults. The file is read once
before, so that it is in the page cache. A service is asked as soon as it takes connections.
"""
import argparse
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import time


def command(words, model, options, arguments):
    words = shlex.split(words)
    variables = dict(w.split("=", 1) for w in words[:-1])
    return [words[-1], *arguments, "-m", model, "-t", str(options.threads), "--context", str(options.context)], {**os.environ, **variables}


def used(process):
    """Waits for the end of `process`; user and system seconds, and page faults."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime, usage.ru_stime, usage.ru_minflt


def complete(words, model, options):
    line, environment = command(words, model, options, ["complete", "-p", "Hello", "--max-tokens", "1"])
    started = time.monotonic()
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    if not os.read(process.stdout.fileno(), 1):
        sys.exit(f"{shlex.join(line)}: {process.stderr.read().decode()}")
    first = time.monotonic() - started
    process.stdout.read()
    return first, *used(process)


def serve(words, model, options):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line, environment = command(words, model, options, ["serve", "--port", str(port), "--log-level", "error"])
    # Of random weights, some tokens are parts of characters, which are sent with the next: a word that is one is asked for.
    body = json.dumps({"model": "", "prompt": "Hello", "max_tokens": 1, "stream": True, "logit_bias": {"9707": 100}}).encode()
    request = (f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
               "Connection: close\r\n\r\n").encode() + body
    started = time.monotonic()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            if process.poll() is not None:
                sys.exit(f"{shlex.join(line)}: ended with {process.returncode}")
            time.sleep(0.001)
    with connection:
        connection.sendall(request)
        answer = b""
        while b'"text"' not in answer:
            piece = connection.recv(65536)
            if not piece:
                sys.exit(f"no token: {answer.decode(errors='replace')}")
            answer += piece
        first = time.monotonic() - started
    process.terminate()
    return first, *used(process)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("programs", nargs="*", default=["qianwen=build/release/qianwen"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_intermixed_args()
    with open(options.model, "rb") as file:
        while file.read(1 << 24):
            pass
    cases = {(kind.__name__, name): (kind, words) for name, words in (p.split("=", 1) for p in options.programs) for kind in (complete, serve)}
    found = {case: [] for case in cases}
    for turn in range(options.rounds):
        for case in list(cases)[::1 if turn % 2 == 0 else -1]:
            kind, words = cases[case]
            found[case].append(kind(words, options.model, options))
    for (kind, name), rounds in found.items():
        first, user, system, faults = (statistics.median(values) for values in zip(*rounds))
        print(f"{kind:8} {name:12} first token {first:.3f} s ({' '.join(f'{r[0]:.3f}' for r in rounds)})  user {user:.2f}  system {system:.2f}  {faults:.0f} page faults")


main()
