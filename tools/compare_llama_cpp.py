#!/usr/bin/env python3
"""Scores one text with llama.cpp and with this program on the same GGUF files: the perplexities must agree.

  tools/compare_llama_cpp.py --llama DIR --text FILE [MODEL ...] [--tiny [NAME,...]] [--types q8_0,q4_k_m,...] [--by ours,llama]
                             [--converter llama.cpp] [--program P] [--chunks 10] [--tolerance 0.001]

DIR holds llama-perplexity and llama-quantize. The text is cut into chunks of 512 tokens; the last 255 of each count, as
llama-perplexity does it. MODEL: a folder or GGUF file. --tiny: the random checkpoints of tests/e2e/checkpoint_folders.py, by name
or all that llama.cpp computes. Each is compared as F32 and in every type of --types, made by this program ("ours") and by
llama-quantize from that F32 ("llama"). --converter: the source of llama.cpp, whose convert_hf_to_gguf.py makes one more F32 of a
folder ("converter", needs torch and transformers; the text is then read as this program's file has it).

Columns:
  float        each program on the file's values in float, widened by itself (llama-quantize, convert): how far the two agree on
               what the file says and on how it is computed. The exit status is 1 if any differs by more than --tolerance.
  as it is     each program on the file itself, beside its own float: what its rounding of activations does. llama.cpp rounds
               them to 8 bits with one scale for 256 numbers (types of K), this program with one for 32.
A mixture of random experts is hard on the second: two nearly equal ones change places for a rounded bit.
"""
import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/e2e"))

CHUNK, COUNTED = 512, 255
TYPES = ("f16,bf16,q8_0,q6_k,q5_0,q5_1,q5_k_s,q5_k_m,q4_0,q4_1,q4_k_s,q4_k_m,iq4_nl,iq4_xs,q3_k_s,q3_k_m,q2_k,mxfp4")
# What llama.cpp has an architecture for; models of several senses by their language model.
TINY = ("qwen,qwen2,qwen2_tied,codeqwen,qwen2_moe,qwen3,qwen3_tied,qwen3_moe,qwen3_next,qwen3_5,qwen3_5_moe,qwen2_vl,qwen3_vl,qwen3_vl_moe,"
        "qwen4_exp,qwen2_gptq4,qwen2_gptq8,qwen2_awq,qwen3_fp8,qwen3_moe_fp8,qwen3_next_fp8")
# llama-quantize has no mixture of every type: names that differ, and what it does not make.
LLAMA_NAMES = {"mxfp4": "MXFP4_MOE"}
CONVERT = """
import runpy, sys
root = sys.argv.pop(1)
sys.path[:0] = [root, root + "/gguf-py"]
from conversion import base
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"  # small vocabularies are none that it knows
runpy.run_path(root + "/convert_hf_to_gguf.py", run_name="__main__")
"""


def done(command):
    out = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")
    if out.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command[:3]))}: {(out.stderr or out.stdout).strip().splitlines()[-1][:300]}")
    return out.stdout + out.stderr


def theirs(options, model):
    wide = ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]  # else keys and values are kept in 16 bits
    for _ in range(8):  # its last lines are lost now and then: they are written by a thread that nobody waits for
        out = done([f"{options.llama}/llama-perplexity", "-m", model, "-f", options.text, "-c", CHUNK, "-b", CHUNK,
                    "-t", options.threads, "--chunks", options.chunks, *wide])
        found = re.search(r"Final estimate: PPL = ([\d.]+)", out) or re.search(rf"\[{options.chunks}\]([\d.]+)", out)
        if found:
            return float(found.group(1))
    raise RuntimeError(f"llama-perplexity says no perplexity: {out[-200:]}")


def ours(options, model, ids):
    total = 0.0
    for c in range(options.chunks):
        chunk = ",".join(map(str, ids[c * CHUNK:(c + 1) * CHUNK]))
        scored = json.loads(subprocess.run([options.program, "score", "-m", model, "--ids", chunk, "--json"], capture_output=True, text=True, check=True).stdout)
        total -= sum([x for x in scored["token_logprobs"] if x is not None][-COUNTED:])
    return math.exp(total / (options.chunks * COUNTED))


def difference(a, b):
    return f"{100 * (b / a - 1):+.4f} %"


class Comparison:
    def __init__(self, options):
        self.options, self.worst, self.broken = options, 0.0, 0
        print("| model | type | made by | llama.cpp, float | this program, float | difference | llama.cpp as it is | to its float | this program as it is "
              "| to its float | both as they are |\n|---|---|---|---|---|---|---|---|---|---|---|", flush=True)

    def line(self, model, type_name, maker, file, folder, ids):
        o = self.options
        try:
            plain = type_name in ("f32", "")
            a_file, b_file = f"{folder}/theirs.gguf", f"{folder}/ours.gguf"
            if plain:
                a_file = b_file = file
            else:
                done([f"{o.llama}/llama-quantize", "--allow-requantize", file, a_file, "F32"])
                done([o.program, "convert", file, b_file, "--type", "f32", "--json"])
            a, b = theirs(o, a_file), ours(o, b_file, ids)
            c, d = (a, b) if plain else (theirs(o, file), ours(o, file, ids))
        except (RuntimeError, subprocess.CalledProcessError) as error:
            self.broken += 1
            print(f"| {model} | {type_name} | {maker} | FAILED: {error} |", flush=True)
            return
        off = abs(b / a - 1)
        self.worst = max(self.worst, off)
        mark = " **!**" if off > o.tolerance else ""
        print(f"| {model} | {type_name} | {maker} | {a:.4f} | {b:.4f} | {difference(a, b)}{mark} | {c:.4f} | {difference(a, c)} | {d:.4f} "
              f"| {difference(b, d)} | {difference(c, d)} |", flush=True)

    def model(self, name, source):
        o = self.options
        with tempfile.TemporaryDirectory() as folder:
            wide = f"{folder}/f32.gguf"
            done([o.program, "convert", source, wide, "--type", "f32", "--json"])
            ids = json.loads(subprocess.run([o.program, "tokenize", "-m", wide, "--file", o.text, "--json"], capture_output=True, text=True, check=True).stdout)["ids"]
            self.line(name, "f32", "ours", wide, folder, ids)
            if o.converter and pathlib.Path(source).is_dir():
                file = f"{folder}/converter.gguf"
                try:
                    done([sys.executable, "-c", CONVERT, o.converter, source, "--outfile", file, "--outtype", "f32"])
                    self.line(name, "f32", "converter", file, folder, ids)
                except RuntimeError as error:
                    print(f"| {name} | f32 | converter | not made: {error} |", flush=True)
            for type_name in filter(None, o.types.split(",")):
                for maker in o.by.split(","):
                    file = f"{folder}/{type_name}.gguf"
                    try:
                        if maker == "llama":
                            done([f"{o.llama}/llama-quantize", wide, file, LLAMA_NAMES.get(type_name, type_name.upper())])
                        else:
                            done([o.program, "quantize", wide, file, "--type", type_name, "--json"])
                    except RuntimeError as error:
                        self.broken += maker == "ours"
                        print(f"| {name} | {type_name} | {maker} | not made: {error} |", flush=True)
                        continue
                    self.line(name, type_name, maker, file, folder, ids)


def tiny(options, place):
    import checkpoint_folders
    tokens, pool = checkpoint_folders.tokenizer(options.program, place), checkpoint_folders.drawn_pool()
    for name in (options.tiny or TINY).split(","):
        folder = checkpoint_folders.make(name, pathlib.Path(place) / name, tokens, pool)
        config = json.loads((folder / "config.json").read_text())
        for part in (config, config.get("text_config", {})):  # the releases' ids are outside this vocabulary
            for key, value in (("bos_token_id", 289), ("eos_token_id", 290)):
                if part.get(key, 0) > 100000:
                    part[key] = value
        (folder / "config.json").write_text(json.dumps(config))
        yield name, str(folder)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--llama", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--program", default="build/release/qianwen")
    parser.add_argument("--tiny", nargs="?", const="")
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--by", default="ours,llama")
    parser.add_argument("--converter", default="")
    parser.add_argument("--chunks", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tolerance", type=float, default=0.001)
    options = parser.parse_args()
    options.program = str(pathlib.Path(options.program).resolve())
    comparison = Comparison(options)
    for model in options.models:
        comparison.model(model, model)
    if options.tiny is not None:
        with tempfile.TemporaryDirectory() as place:
            for name, folder in tiny(options, place):
                comparison.model(name, folder)
    print(f"\nlargest difference in float: {100 * comparison.worst:.4f} %; failed: {comparison.broken}")
    return 0 if comparison.worst <= options.tolerance and comparison.broken == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
