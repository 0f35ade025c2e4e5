#!/usr/bin/env python3
"""Scores one text with llama.cpp and with this program on the same GGUF files: the perplexities must agree.

  tools/compare_llama_cpp.py --llama DIR --text FILE MODEL [MODEL ...] [--types q8_0,q4_k_m,...] [--program P] [--chunks 10]
                             [--tolerance 0.001]

DIR holds llama-perplexity. The text is cut into chunks of 512 tokens; the last 255 of each count, as llama-perplexity does it.
llama.cpp keeps keys and values in 16 bits and quantises activations differently for each type, so equal means within rounding:
the last column, of the same file with its values in float, is free of that, and shows what the file itself is worth.
"""
import argparse
import json
import math
import re
import subprocess
import sys
import tempfile

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


def quantised(options, model, type_name, folder):
    file = f"{folder}/{type_name}.gguf"
    subprocess.run([options.program, "quantize", model, file, "--type", type_name, "--json"], capture_output=True, check=True)
    return file


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--llama", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--program", default="build/release/qianwen")
    parser.add_argument("--types", default="", help="a,b,...: quantise each model to these first, and compare those")
    parser.add_argument("--chunks", type=int, default=10)
    parser.add_argument("--tolerance", type=float, default=0.001)
    options = parser.parse_args()
    worst = 0.0
    print("| model | llama.cpp | this program | difference | llama.cpp, its values in float |\n|---|---|---|---|---|")
    for model in options.models:
        for type_name in options.types.split(","):
            with tempfile.TemporaryDirectory() as folder:
                file = quantised(options, model, type_name, folder) if type_name else model
                a, b = theirs(options, file), ours(options, file)
                wide = f"{folder}/wide.gguf"
                subprocess.run([options.program, "convert", file, wide, "--type", "f32", "--json"], capture_output=True, check=True)
                exact = theirs(options, wide)
            worst = max(worst, abs(b / a - 1))
            print(f"| {model} {type_name} | {a:.4f} | {b:.4f} | {100 * (b / a - 1):+.3f} % | {exact:.4f} |", flush=True)
    return 0 if worst <= options.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
