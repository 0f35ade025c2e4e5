#!/usr/bin/env python3
"""Adds tokens to small models by `qianwen tokenizer extend` and loads what comes out with transformers: tied and untied
embeddings, three number formats' worth of rows, vocabularies with spare rows and without, both ways to make a row.

Usage: python tools/check_extend.py --program build/release/qianwen --text FILE    (any text of some 100 KB)
"""
import argparse
import itertools
import json
import pathlib
import shutil
import subprocess
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

ADDED = ["<|tool|>", "Dorothy Gale", "稻草人"]
TOKENS = 600


def check(program, folder, tied, dtype, vocab, init):
    torch.manual_seed(1)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=vocab, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=tied)).to(dtype)
    model.save_pretrained(folder / "model")
    shutil.copytree(folder / "tokenizer", folder / "model", dirs_exist_ok=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    done = json.loads(subprocess.run([program, "tokenizer", "extend", folder / "model", folder / "out", "--add", *ADDED,
                                      "--init", init, "--json"], check=True, stdout=subprocess.PIPE, text=True).stdout)
    old, new = (AutoTokenizer.from_pretrained(folder / name) for name in ("model", "out"))
    bigger = AutoModelForCausalLM.from_pretrained(folder / "out", dtype=dtype)
    rows = max(vocab, TOKENS + len(ADDED))
    assert bigger.config.vocab_size == rows == done["rows"], (bigger.config.vocab_size, done)
    assert new.convert_tokens_to_ids(ADDED) == [done["added"][t] for t in ADDED] == [TOKENS, TOKENS + 1, TOKENS + 2]
    for a, b in ((model.get_input_embeddings(), bigger.get_input_embeddings()), (model.lm_head, bigger.lm_head)):
        assert b.weight.shape[0] == rows
        assert torch.equal(a.weight[:TOKENS], b.weight[:TOKENS])
        assert torch.equal(a.weight[TOKENS + len(ADDED):], b.weight[TOKENS + len(ADDED):vocab])
        for text in ADDED:
            pieces = old(text)["input_ids"] if init == "pieces" else list(range(TOKENS))
            torch.testing.assert_close(b.weight[done["added"][text]], a.weight[pieces].double().mean(0).to(dtype))
    text = "The Tin Woodman and Dorothy Gale<|tool|> the 稻草人"
    ids = new(text, return_tensors="pt").input_ids
    ours = subprocess.run([program, "tokenize", "-m", folder / "out", "--text", text, "--json"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    assert json.loads(ours)["ids"] == ids[0].tolist()
    assert torch.isfinite(bigger(ids).logits).all()
    plain = torch.tensor([[1, 2, 3]])
    # Sums of another width are added up in another order.
    torch.testing.assert_close(model(plain).logits[..., :TOKENS], bigger(plain).logits[..., :TOKENS], atol=1e-2, rtol=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--text", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        subprocess.run([args.program, "tokenizer", "train", "--input", args.text, "--vocab", str(TOKENS),
                        folder / "tokenizer"], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        cases = list(itertools.product((True, False), (torch.float32, torch.bfloat16, torch.float16), (600, 602, 640),
                                       ("pieces", "mean")))
        for case in cases:
            check(args.program, folder, *case)
    print(f"{len(cases)} models, all as they should be")


main()
