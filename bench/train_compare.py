#!/usr/bin/env python3
"""Training steps beside PyTorch's: one model, one shape of batch, by turns in one run.

usage: bench/train_compare.py PROGRAM CASE [--checkpoint FOLDER] [--tokenizer FOLDER] [--rounds 3] [--steps 3] [--rows 512] [--threads N] [--compile]
       [--recompute selective] [--activations f32] [--optimizer adamw] [--apart]

CASE: pretrain-10m   all weights of a fresh Qwen3 shape (width 384, 6 layers, 9.6 M parameters, vocabulary 512), 8 sequences of --rows tokens
      pretrain-64m   the same of width 512, 19 layers, 64.0 M parameters, vocabulary 8192, 4 sequences
      lora           adapters of rank 16 on the seven matrices of every layer of FOLDER (bench/make_models.py), 1 sequence
      full           all weights of FOLDER, 1 sequence

With --apart neither is in memory while the other runs: each turn starts its program anew (for models that do not fit twice).
Both hold weights in float32 (frozen ones in bfloat16), multiply in bfloat16 (PyTorch: autocast, with its own attention, its fused
AdamW, and transformers' and PEFT's modules; --compile: torch.compile, whose first step compiles), clip the gradient's length to 1 and
use AdamW; --recompute and --activations are this program's ways with activations, --optimizer adamw_8bit its AdamW whose moments take 8 bits
(PyTorch's stay floats). While one runs the other is stopped; of each turn the first step is left out. Printed are tokens a second (the medians of
turns), their ratio, the share of the machine's bfloat16 peak (that of a large product of this program's, measured at its start) and
the most memory each held (VmHWM; pages of mapped files count). Needs torch, transformers and peft, which run in a process of their own.
"""
import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

COMMON = {"model_type": "qwen3", "head_dim": 64, "max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-6,
          "tie_word_embeddings": True}
SHAPES = {"pretrain-10m": {**COMMON, "vocab_size": 512, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6,
                           "num_attention_heads": 6, "num_key_value_heads": 2},
          "pretrain-64m": {**COMMON, "vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 19,
                           "num_attention_heads": 8, "num_key_value_heads": 4}}
BATCH = {"pretrain-10m": 8, "pretrain-64m": 4, "lora": 1, "full": 1}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def torch_worker(case, checkpoint, rows, threads, compiled):
    """A step for every line of standard input; says when it is done."""
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    if case in SHAPES:
        config = transformers.AutoConfig.for_model(**SHAPES[case])
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=torch.bfloat16 if case == "lora" else torch.float32, attn_implementation="sdpa")
    if case == "lora":
        import peft
        model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=TARGETS))
        for p in model.parameters():
            if p.requires_grad:
                p.data = p.data.float()
    model.config.use_cache = False
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = torch.randint(0, model.config.vocab_size, (BATCH[case], rows))
    run = torch.compile(model) if compiled else model
    for _ in sys.stdin:
        with torch.autocast("cpu", torch.bfloat16):
            loss = run(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        print(json.dumps({"loss": loss.item()}), flush=True)


class Program:
    """Something that trains, in a process of its own; `rows` of a step are known once a turn has run."""

    def end(self):
        self.process.kill()
        self.process.wait()


class Torch(Program):
    name = "PyTorch"

    def __init__(self, options):
        words = [sys.executable, __file__, "worker", options.case, "--threads", str(options.threads), "--rows", str(options.rows)]
        words += ["--checkpoint", str(options.checkpoint)] if options.checkpoint else []
        words += ["--compile"] if options.compile else []
        self.rows = BATCH[options.case] * options.rows
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.step()

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the PyTorch worker ended")
        return json.loads(line)

    def turn(self, steps):
        self.step()
        start = time.monotonic()
        for _ in range(steps):
            self.step()
        return (time.monotonic() - start) / steps


class Ours(Program):
    name = "qianwen"

    def __init__(self, options, place):
        tokenizer = options.tokenizer or options.checkpoint
        rng = random.Random(1)
        words = ["".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 9))) for _ in range(400)]
        (place / "text").write_text("\n".join(" ".join(rng.choice(words) for _ in range(40)) for _ in range(4000)))
        shutil.rmtree(place / "run", ignore_errors=True)  # of an earlier turn
        source = ("[[source]]\nname = 'text'\npath = 'text'\nseparator = 'file'\nlicence = 'none'\norigin = 'drawn'\n")
        token = f"folder = '{tokenizer}'" if tokenizer else f"folder = '{place}/tokenizer'\nvocab = 500\nadded = ['<|endoftext|>']"
        (place / "data.toml").write_text(f"output = '{place}/shards'\n[tokenizer]\n{token}\n{source}")
        model = "\n".join(f"{k} = {json.dumps(v)}" for k, v in SHAPES.get(options.case, {}).items())
        tables = f"[model]\n{model}\n" if options.case in SHAPES else ""
        tables += "[lora]\nrank = 16\n" if options.case == "lora" else ""
        start = "" if options.case in SHAPES else f"init_from = '{options.checkpoint}'\n"
        (place / "train.toml").write_text(
            f"output = '{place}/run'\nshards = '{place}/shards'\nsteps = 1000000\nsequence_length = {options.rows}\n"
            f"batch_sequences = {BATCH[options.case]}\nprecision = 'bf16'\nrecompute = '{options.recompute}'\nactivations = '{options.activations}'\n{start}{tables}[optimizer]\nkind = '{options.optimizer}'\nlr = 0.001\n[schedule]\nkind = 'constant'\n")
        subprocess.run([options.program, "data", "build", str(place / "data.toml"), "--corpus", str(place)], check=True, capture_output=True)
        self.process = subprocess.Popen([options.program, "train", str(place / "train.toml"), "--json", "--threads", str(options.threads)],
                                        stdout=subprocess.PIPE, text=True)
        self.record = self.step()
        self.process.send_signal(signal.SIGSTOP)

    def step(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the training ended")
        return json.loads(line)

    def turn(self, steps):
        self.process.send_signal(signal.SIGCONT)
        first = self.step()
        start = time.monotonic()
        for _ in range(steps):
            self.record = self.step()
        seconds = (time.monotonic() - start) / steps
        self.process.send_signal(signal.SIGSTOP)
        self.rows = (self.record["tokens"] - first["tokens"]) / steps  # a sequence may be a few rows short
        return seconds

    def share_of_peak(self, tokens_a_second):
        return self.record["mfu"] / self.record["tps"] * tokens_a_second  # its operations a row, over the peak


def peak_memory(process):
    return int(re.search(r"VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{process.pid}/status").read_text()).group(1)) / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("case", choices=list(BATCH))
    parser.add_argument("--checkpoint", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--recompute", choices=["none", "selective", "full"], default="selective")
    parser.add_argument("--activations", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--optimizer", choices=["adamw", "adamw_8bit"], default="adamw")
    options = parser.parse_args()
    if options.program == "worker":
        return torch_worker(options.case, options.checkpoint, options.rows, options.threads, options.compile)
    if options.case not in SHAPES and options.checkpoint is None:
        parser.error(f"{options.case} needs --checkpoint")
    makers = [lambda: Ours(options, pathlib.Path(place)), lambda: Torch(options)]
    speeds, memory, peak = {"qianwen": [], "PyTorch": []}, {}, {}

    def turn(one):
        seconds = one.turn(options.steps)  # and the rows of a step
        speeds[one.name].append(one.rows / seconds)
        memory[one.name] = max(memory.get(one.name, 0), peak_memory(one.process))
        if isinstance(one, Ours):
            peak["share"] = one.share_of_peak(1)
        print(f"  {one.name} {speeds[one.name][-1]:.0f} tokens/s", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as place:
        held = []
        try:
            if not options.apart:
                for make in makers:
                    held.append(make())
            for round_ in range(options.rounds):
                for which in (0, 1) if round_ % 2 == 0 else (1, 0):
                    if not options.apart:
                        turn(held[which])
                        continue
                    held = [makers[which]()]
                    turn(held[0])
                    held[0].end()
                    held = []
        finally:
            for one in held:
                one.end()
    print(f"{options.case}, {options.threads} threads, {BATCH[options.case]} x {options.rows} tokens, {options.rounds} turns of {options.steps} steps")
    median = {name: statistics.median(s) for name, s in speeds.items()}
    for name, s in speeds.items():
        print(f"{name:8} {median[name]:8.0f} tokens/s ({min(s):.0f} to {max(s):.0f}), "
              f"{100 * peak['share'] * median[name]:.0f} % of the bf16 peak, {memory[name]:.2f} GiB at most")
    print(f"ratio {median['qianwen'] / median['PyTorch']:.2f}; by the best turns {max(speeds['qianwen']) / max(speeds['PyTorch']):.2f}; "
          f"memory {100 * memory['qianwen'] / memory['PyTorch']:.0f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
