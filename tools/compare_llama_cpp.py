#!/usr/bin/env python3
"""Scores one text with llama.cpp and with this program on the same GGUF files: the perplexities must agree.

  tools/compare_llama_cpp.py --llama DIR --text FILE MODEL.gguf [MODEL.gguf ...] [--program P] [--chunks 10] [--tolerance 0.002]

DIR holds llama-perplexity. The text is cut into chunks of 512 tokens; the last 255 of each count, as llama-perplexity does it.
llama.cpp keeps keys and values in 16 bits and quantises activations differently for each type, so equal means within rounding.
"""
import argparse
import json
import math
import re
import subprocess
import sys

CHUNK, COUNTED = 512, 255


def theirs(options, model):
    out = subprocess.run([f"{options.llama}/llama-perplexity", "-m", model, "-f", options.text, "-c", str(CHUNK), "-b", str(CHUNK),
                          "--chunks", str(options.chunks)], capture_output=True, text=True, errors="replace", check=True)
    return float(re.search(r"Final estimate: PPL = ([\d.]+)", out.stdout + out.stderr).group(1))


def ours(options, model):
    run = lambda *arguments: json.loads(subprocess.run([options.program, *arguments, "--json"], capture_output=True, text=True, check=True).stdout)
    ids = run("tokenize", "-m", model, "--file", options.text)["ids"]
    total = 0.0
    for c in range(options.chunks):
        chunk = ",".join(map(str, ids[c * CHUNK:(c + 1) * CHUNK]))
        total -= sum([x for x in run("score", "-m", model, "--ids", chunk)["token_logprobs"] if x is not None][-COUNTED:])
    return math.exp(total / (options.chunks * COUNTED))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--llama", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--program", default="build/release/qianwen")
    parser.add_argument("--chunks", type=int, default=10)
    parser.add_argument("--tolerance", type=float, default=0.002)
    options = parser.parse_args()
    worst = 0.0
    for model in options.models:
        a, b = theirs(options, model), ours(options, model)
        worst = max(worst, abs(b / a - 1))
        print(f"{model}: llama.cpp {a:.4f}, this program {b:.4f}, ratio {b / a:.5f}", flush=True)
    return 0 if worst <= options.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
