#!/usr/bin/env python3
"""Starts a server, sends it requests all at once, and prints what its clients saw as one JSON object.

Usage: serving.py --port N --requests N --prompt-tokens N --output-tokens N [--vocabulary N] [--rounds N] -- SERVER COMMAND
Prompts are random token ids, none like another. Each request streams; a token's time is when its event arrived. A stall is a
gap in a stream of over twice the median gap; stalls_ended says when. Answers are one
word over and over (by logit_bias), since of the pieces of characters that random weights make, servers send none before the
next; guessing ahead must be off then. The server is asked for one answer first, which counts nowhere. --one-by-one instead
sends the requests one after the other.
"""
import argparse
import http.client
import json
import random
import statistics
import subprocess
import sys
import threading
import time


WORD = "279"  # " the" in Qwen's vocabulary; any whole word does


def ask(port, prompt, tokens):
    """Streams one completion: (when sent, [when each token came])."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    body = json.dumps({"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True, "ignore_eos": True,
                       "logit_bias": {WORD: 100}})
    sent, times = time.monotonic(), []
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {response.read(300)}")
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        choices = json.loads(line[6:]).get("choices")
        if choices and choices[0].get("finish_reason") is None:
            times.append(time.monotonic())
    connection.close()
    return sent, times


def ready(port, process):
    for _ in range(1200):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            for path in ("/health/ready", "/health"):  # this program's, the peers'
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError("the server is not ready after a minute")


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def together(port, prompts, tokens):
    results, failures = [None] * len(prompts), []

    def one(i):
        try:
            results[i] = ask(port, prompts[i], tokens)
        except Exception as error:  # told below: a thread's exception is seen by nobody
            failures.append(error)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(prompts))]
    started = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        raise failures[0]
    gaps = [b - a for _, times in results for a, b in zip(times, times[1:])]
    median = statistics.median(gaps)
    stalls = sorted({round(b - started, 2) for _, times in results for a, b in zip(times, times[1:]) if b - a > 2 * median})
    last = max(times[-1] for _, times in results)
    events = sum(len(times) for _, times in results)
    return {"output_per_second": len(prompts) * tokens / (last - started), "seconds": last - started, "events": events,
            "ttft_median": statistics.median(times[0] - sent for sent, times in results),
            "ttft_p95": percentile([times[0] - sent for sent, times in results], 0.95),
            "gap_median": median, "gap_p95": percentile(gaps, 0.95), "gap_max": max(gaps),
            "stalls": sum(gap > 2 * median for gap in gaps), "stalls_ended": stalls}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=100000)
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    dice = random.Random(1)
    prompt = lambda: [dice.randrange(100, options.vocabulary) for _ in range(options.prompt_tokens)]
    process = subprocess.Popen(options.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ready(options.port, process)
        ask(options.port, prompt(), 2)
        if options.one_by_one:
            waits = [times[0] - sent for sent, times in (ask(options.port, prompt(), options.output_tokens) for _ in range(options.requests))]
            result = {"ttft_median": statistics.median(waits), "ttft_min": min(waits), "ttft_p95": percentile(waits, 0.95)}
        else:
            result = together(options.port, [prompt() for _ in range(options.requests)], options.output_tokens)
    finally:
        process.terminate()
        process.wait(30)
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
