#!/usr/bin/env python3
"""Every architecture and variant the program knows, as a tiny checkpoint in its published form, through the commands.

checkpoints.py PROGRAM: one number format each. With QW_SLOW=1 every type of quantize, and bench. With QW_CASES=a,b only those.
What a model says after conversion is compared with what it said before: the relative distance of the logits must stay within
the type's bound. Random weights are harder than trained ones, and a choice of experts may tip: the bounds are for those.
"""
import array
import json
import math
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import checkpoint_folders
from service import check

program = sys.argv[1]
SLOW = os.environ.get("QW_SLOW") == "1"
IDS = ",".join(str((37 * i + 5) % 290) for i in range(24))
EXACT = 2e-6   # the same numbers in another file
# Activations of bfloat16 weights are rounded to bfloat16, those of float weights (routers in GGUF) are not. Where a rounded
# number chooses an expert or is carried on in a state, more comes of it.
TIPPING = {n for n in checkpoint_folders.NAMES if any(part in n for part in ("moe", "next", "3_5", "qwen4"))}
COMPUTED = {False: 0.02, True: 0.1}   # largest seen: 0.017, 0.055
FOUR_BITS = 0.04                      # activations beside them are rounded to powers of two; largest seen: 0.03


def computed(name):
    """How far logits may be from the reference's."""
    return max(COMPUTED[name in TIPPING], FOUR_BITS if name.endswith(("gptq4", "awq")) else 0)


# Relative distance of logits that a type may cost; a tensor in the wrong place costs about 1.4 (unrelated logits).
BOUNDS = {"f32": 2e-3, "f16": 0.01, "bf16": 0.03, "q8_0": 0.06, "q6_k": 0.12, "q5_0": 0.2, "q5_1": 0.2, "q5_k_s": 0.2, "q5_k_m": 0.2,
          "q4_0": 0.4, "q4_1": 0.4, "q4_k_s": 0.4, "q4_k_m": 0.4, "iq4_nl": 0.4, "iq4_xs": 0.4, "mxfp4": 0.6, "q3_k_s": 0.7, "q3_k_m": 0.7,
          "q2_k": 1.1}
CEILING = 1.25   # no bound is looser


def bound(name, quantised):
    """Mixtures and states make more of the same error."""
    return min(CEILING, BOUNDS[quantised] * (2.5 if "next" in name or "3_5" in name or "qwen4" in name else 1.5 if "moe" in name else 1))


HEADS = {"embedding": "embed", "reranker": "rerank", "classes": "reward", "reward": "reward", "steps": "reward", "guard": "guard"}



def run(*words, text=None):
    done = subprocess.run([program, *map(str, words)], input=text, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: exit {done.returncode}: {done.stderr.strip()}")
    return done


def told(*words, text=None):
    return json.loads(run(*words, "--json", text=text).stdout)


def logits(model, *more):
    file = pathlib.Path(str(model) + ".npy")
    run("score", "-m", model, "--ids", IDS, "--logits", file, *more)
    raw = file.read_bytes()
    file.unlink()
    values = array.array("f")
    values.frombytes(raw[10 + struct.unpack("<H", raw[8:10])[0]:])
    return values


def says(name, model, work):
    """What the head of a model gives: numbers in one list."""
    command = HEADS[name]
    if command == "embed":
        return told("embed", "-m", model, "-p", "the cat sat")["embedding"]
    if command == "rerank":
        results = told("rerank", "-m", model, "--query", "cat", "--file", "-", text='"the cat"\n"the mat"\n')["results"]
        return [r["relevance_score"] for r in sorted(results, key=lambda r: r["index"])]
    talk, numbers = work / "talk.json", []
    for answer in ("the mat", "a cat", "春江", "it sat on 17"):
        answer = f"that<extra_0>{answer}<extra_0>" if name == "steps" else answer
        talk.write_text(json.dumps([{"role": "user", "content": "the cat"}, {"role": "assistant", "content": answer}]))
        found = told(command, "-m", model, "--messages", talk)
        if command == "guard":
            numbers += [t["risk_probability"] for t in found["tokens"]] + [found["query"]["category_probability"]]
        else:
            numbers += found["steps"] if name == "steps" else list(found["scores"].values()) if name == "classes" else [found["score"]]
    return numbers


def distance(a, b):
    if len(a) != len(b) or not all(map(math.isfinite, b)):
        return math.inf
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)) / sum(x * x for x in a))


def typical(a, b):
    """The middle of the distances row by row: one that chose another expert does not count, all of them would."""
    n = len(a) // (IDS.count(",") + 1)
    each = sorted(distance(a[i:i + n], b[i:i + n]) for i in range(0, len(a), n))
    return each[len(each) // 2]


def adapter(name, folder, pool):
    """A LoRA of the output projections of attention: the weights that every architecture holds alike."""
    folder.mkdir()
    target = "attn.c_proj" if name.split("_")[0] == "qwen" else "o_proj"
    names = [k[:-7] for f in sorted(folder.parent.joinpath(name).glob("*.safetensors")) for k in header(f)
             if k.endswith(f".{target}.weight") or k.endswith(f".{target}.qweight")]
    names = [n.removesuffix(".q").removesuffix(".") for n in names if not n.startswith(("mtp.", "model.visual."))]  # as a trainer of this checkpoint names them
    w = checkpoint_folders.Weights(pool)
    for n in names:
        w.add(f"base_model.model.{n}.lora_A.weight", [4, 256], 0.1, dtype="F32")
        w.add(f"base_model.model.{n}.lora_B.weight", [256, 4], 0.1, dtype="F32")
    w.save(folder, 1)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": [target], "bias": "none",
                                                            "task_type": "CAUSAL_LM", "fan_in_fan_out": False}))
    return folder


def header(file):
    raw = file.read_bytes()
    return json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])


def language_model(name, folder, work, pool, types):
    shown = told("show", folder)
    check(f"{name}: show", shown["parameters"] > 100000 and shown["architecture"])
    answer = told("chat", folder, "-p", "the cat", "--max-tokens", 4, "--temperature", 0)
    check(f"{name}: chat", answer["usage"]["completion_tokens"] >= 1)
    if SLOW:
        check(f"{name}: bench", "tps_median" in run("bench", "-m", folder, "-p", 16, "-n", 4, "-r", 1, "--json").stdout)
    before = logits(folder)
    text = "def add(a, b):  return a龍\n"
    written = told("tokenize", "-m", folder, "--text", text)["ids"]
    # In float every weight has its exact value, and activations are not rounded: what is left must be the same to a bit or two.
    single, gguf, again, kept = (work / f"{name}_{end}" for end in ("single", "f32.gguf", "again", "kept.gguf"))
    run("convert", folder, single, "--type", "f32")
    exact = logits(single)
    off = distance(exact, before)
    check(f"{name}: in float, {off:.2g}", off <= computed(name))
    run("convert", folder, gguf, "--type", "f32")
    off = distance(exact, logits(gguf))
    check(f"{name}: to GGUF, {off:.2g}", off <= EXACT)
    run("convert", gguf, again, "--type", "f32")
    off = distance(exact, logits(again))
    check(f"{name}: and back to a folder, {off:.2g}", off <= EXACT)
    check(f"{name}: text is the same tokens in each", all(told("tokenize", "-m", m, "--text", text)["ids"] == written for m in (gguf, again)))
    run("convert", folder, kept)
    off = distance(before, logits(kept))
    check(f"{name}: to GGUF as it is stored, {off:.2g}", off <= computed(name))
    for t in types:
        small = work / "small.gguf"
        run("quantize", folder, small, "--type", t)
        off = typical(exact, logits(small))
        check(f"{name}: {t}, {off:.3g} of {bound(name, t):.2g}", off <= bound(name, t))
        small.unlink()
    lora = adapter(name, work / f"{name}_lora", pool)
    beside = logits(gguf, "--adapter", lora)
    merged = work / f"{name}_merged.gguf"
    run("convert", gguf, merged, "--adapter", lora)
    off = distance(beside, logits(merged))
    check(f"{name}: an adapter changes it, merged as beside it, {off:.2g}", off <= 1e-4 and distance(exact, beside) > 0.01)


def headed_model(name, folder, work, types):
    check(f"{name}: show", told("show", folder)["head"] != "language model")
    before = says(name, folder, work)
    check(f"{name}: {HEADS[name]}", len(before) > 0)
    gguf, again = work / f"{name}.gguf", work / f"{name}_again"
    run("convert", folder, gguf)
    check(f"{name}: to GGUF", distance(before, says(name, gguf, work)) <= EXACT)
    run("convert", gguf, again)
    check(f"{name}: and back to a folder", distance(before, says(name, again, work)) <= EXACT)
    for t in types:
        small = work / "small.gguf"
        run("quantize", folder, small, "--type", t)
        now = says(name, small, work)  # scores may all be near 0: as far as one, the scale they are drawn with, is nothing
        off = math.sqrt(sum((x - y) ** 2 for x, y in zip(before, now)) / max(len(now), sum(x * x for x in before)))
        check(f"{name}: {t}, {off:.3g} of {bound(name, t):.2g}", off <= bound(name, t))
        small.unlink()


def main():
    chosen = os.environ.get("QW_CASES", "").split(",") if os.environ.get("QW_CASES") else checkpoint_folders.NAMES
    types = list(BOUNDS) if SLOW else ["q8_0", "q4_k_m"]
    with tempfile.TemporaryDirectory() as place:
        tokens = checkpoint_folders.tokenizer(program, place)
        pool = checkpoint_folders.drawn_pool()
        for name in chosen:
            with tempfile.TemporaryDirectory() as folder:
                work = pathlib.Path(folder)
                made = checkpoint_folders.make(name, work / name, tokens, pool)
                try:
                    if name in HEADS:
                        headed_model(name, made, work, types)
                    else:
                        language_model(name, made, work, pool, types)
                except RuntimeError as error:
                    check(f"{name}: {error}", False)


if __name__ == "__main__":
    main()
