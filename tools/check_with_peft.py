#!/usr/bin/env python3
"""Adapters that PEFT makes, with options drawn at random, in the hands of this program: beside the model and merged into it.

  tools/check_with_peft.py [PROGRAM] [--rounds 20] [--seed 1]        needs torch, transformers, peft and numpy

A round draws a tiny checkpoint (tests/e2e/checkpoint_folders.py), converts it to a folder in float32, makes an adapter of it with PEFT
(rank, alpha, rsLoRA, DoRA, targets by name, by expression or all-linear, ranks and alphas by pattern, some layers only, biases, modules
that are saved whole, the token table), gives its weights random values and saves it. Logits of `score --adapter` and of the merged
folder must be PEFT's within 1e-4 of the largest. What this program refuses by name counts as refused, and is printed.
"""
import argparse
import pathlib
import random
import subprocess
import sys
import tempfile
import warnings

import numpy
import torch
import transformers
from peft import LoraConfig, get_peft_model

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/e2e"))
import checkpoint_folders  # noqa: E402

MODELS = ["qwen2_tied", "qwen2", "qwen3_tied", "qwen3", "qwen2_moe", "qwen3_moe", "qwen3_5", "qwen3_next"]
ATTENTION, FFN = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
IDS = [(37 * i + 5) % 290 for i in range(40)]


def drawn(rng, name):
    """Options of one adapter; those that PEFT itself refuses together are not drawn."""
    sparse, hybrid = "moe" in name or "next" in name, "next" in name or "3_5" in name
    names = ATTENTION if sparse else ATTENTION + FFN
    o = dict(r=rng.randint(1, 9), lora_alpha=rng.choice([1, 3, 8, 16, 20.5]), use_rslora=rng.random() < 0.4)
    kind = rng.choice(["names", "names", "names", "regex", "all-linear", "embedding"])
    if kind == "regex":
        o["target_modules"] = r".*\.(q|v)_proj" if rng.random() < 0.5 else r".*layers\.\d+\.self_attn\.o_proj"
    elif kind == "all-linear" and not sparse and not hybrid:
        o["target_modules"] = "all-linear"
    else:
        o["target_modules"] = sorted(rng.sample(names, rng.randint(1, len(names))))
        if kind == "embedding":
            o["target_modules"].append("embed_tokens")
    plain = kind in ("names", "regex")
    o["use_dora"] = plain and rng.random() < 0.3
    if plain and rng.random() < 0.4:
        o["rank_pattern"] = {rng.choice(ATTENTION): rng.randint(1, 12)}
    if plain and rng.random() < 0.4:
        o["alpha_pattern"] = {rng.choice(ATTENTION): rng.choice([2, 24]), "layers.1.self_attn.q_proj": 5}
    if kind == "names" and rng.random() < 0.3:
        o["layers_to_transform"] = [rng.randint(0, 1)] if not hybrid else [3]
    if "qwen2" in name and not o["use_dora"] and kind == "names" and rng.random() < 0.3:
        o["bias"] = rng.choice(["lora_only", "all"])
    if kind != "embedding" and rng.random() < 0.25:
        o["modules_to_save"] = ["lm_head", "embed_tokens"] if "tied" not in name and name != "qwen3_5" else ["norm"]
    return o


def made(model, options, seed, folder):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options)).eval()
        generator = torch.Generator().manual_seed(seed)
        for key, p in sorted(adapted.named_parameters()):
            if p.requires_grad:
                noise = 0.1 * torch.randn(p.shape, generator=generator)
                p.data = p.data * (1 + noise) if "magnitude" in key else p.data + noise
        adapted.save_pretrained(folder, save_embedding_layers=False)
        with torch.no_grad():
            return adapted(torch.tensor([IDS])).logits.numpy()[0]


def run(program, *words):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def logits(program, model, *more):
    file = pathlib.Path(str(model) + ".npy")
    run(program, "score", "-m", model, "--ids", ",".join(map(str, IDS)), "--logits", file, *more)
    return numpy.load(file)


def distance(a, b):
    return float(numpy.abs(a - b).max() / numpy.abs(b).max())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", nargs="?", default="build/release/qianwen")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    failed = refused = 0
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        tokens, pool = checkpoint_folders.tokenizer(options.program, place), checkpoint_folders.drawn_pool()
        folders = {}
        for round_ in range(options.rounds):
            rng = random.Random(options.seed * 1000 + round_)
            name = rng.choice(MODELS)
            if name not in folders:
                source = checkpoint_folders.make(name, place / name, tokens, pool)
                folders[name] = place / (name + "_f32")
                run(options.program, "convert", source, folders[name], "--type", "f32")
            base, chosen = folders[name], drawn(rng, name)
            with tempfile.TemporaryDirectory() as work:
                work = pathlib.Path(work)
                model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
                wanted = made(model, chosen, round_, work / "adapter")
                line = f"{options.seed}.{round_} {name} {chosen}"
                try:
                    off = distance(logits(options.program, base, "--adapter", work / "adapter"), wanted)
                    what = f"beside {off:.1e}"
                    run(options.program, "convert", base, work / "merged", "--type", "f32", "--adapter", work / "adapter")
                    merged = distance(logits(options.program, work / "merged"), wanted)
                    ok = off <= 1e-4 and merged <= 1e-4
                    what += f", merged {merged:.1e}"
                except RuntimeError as error:
                    ok, what = True, f"refused: {error}"
                    refused += 1
                failed += not ok
                print(("ok " if ok else "FAILED ") + f"{line}: {what}", flush=True)
    print(f"{options.rounds} rounds, {failed} failed, {refused} refused")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
