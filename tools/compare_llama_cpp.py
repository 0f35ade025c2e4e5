#!/usr/bin/env python3
"""Scores one text with llama.cpp and with this program on the same GGUF files: the perplexities must agree.

  tools/compare_llama_cpp.py --llama DIR --text FILE MODEL [MODEL ...] [--types q8_0,q4_k_m,...] [--program P] [--chunks 10]
                             [--by-llama] [--tolerance 0.001]

DIR holds llama-perplexity and llama-quantize. The text is cut into chunks of 512 tokens; the last 255 of each count, as
llama-perplexity does it. Columns:
  float        each program on the file's values in float, widened by itself (llama-quantize, convert): how far the two agree on
               what the file says and on how it is computed. The exit status is 1 if any differs by more than --tolerance.
  as it is     each program on the file itself, beside its own float: what its rounding of activations does. llama.cpp rounds
               them to 8 bits with one scale for 256 numbers (types of K), this program with one for 32.
--by-llama: llama-quantize makes the files of --types (of F32, F16 or BF16 models), not this program.
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
    wide = ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]  # else keys and values are kept in 16 bits
    out = subprocess.run([f"{options.llama}/llama-perplexity", "-m", model, "-f", options.text, "-c", str(CHUNK), "-b", str(CHUNK),
                          "-t", str(options.threads), "--chunks", str(options.chunks), *wide],
                         capture_output=True, text=True, errors="replace", check=True)
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
    if options.by_llama:
        command = [f"{options.llama}/llama-quantize", model, file, type_name.upper()]
    else:
        command = [options.program, "quantize", model, file, "--type", type_name, "--json"]
    subprocess.run(command, capture_output=True, check=True)
    return file


def in_float(options, file, folder):
    """The file's values as floats, widened by llama.cpp and by this program."""
    a, b = f"{folder}/theirs.gguf", f"{folder}/ours.gguf"
    subprocess.run([f"{options.llama}/llama-quantize", "--allow-requantize", file, a, "F32"], capture_output=True, check=True)
    subprocess.run([options.program, "convert", file, b, "--type", "f32", "--json"], capture_output=True, check=True)
    return theirs(options, a), ours(options, b)


def difference(a, b):
    return f"{100 * (b / a - 1):+.4f} %"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--llama", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--program", default="build/release/qianwen")
    parser.add_argument("--types", default="", help="a,b,...: quantise each model to these first, and compare those")
    parser.add_argument("--by-llama", action="store_true")
    parser.add_argument("--chunks", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tolerance", type=float, default=0.001)
    options = parser.parse_args()
    worst = 0.0
    print("| model | llama.cpp, float | this program, float | difference | llama.cpp as it is | to its float | this program as it is | to its float |")
    print("|---|---|---|---|---|---|---|---|")
    for model in options.models:
        for type_name in options.types.split(","):
            with tempfile.TemporaryDirectory() as folder:
                file = quantised(options, model, type_name, folder) if type_name else model
                a, b = in_float(options, file, folder)
                c, d = theirs(options, file), ours(options, file)
            worst = max(worst, abs(b / a - 1))
            print(f"| {model} {type_name} | {a:.4f} | {b:.4f} | {difference(a, b)} | {c:.4f} | {difference(a, c)} | {d:.4f} | {difference(b, d)} |", flush=True)
    return 0 if worst <= options.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
