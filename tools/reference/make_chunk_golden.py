#!/usr/bin/env python3
"""Makes tests/golden/qwen2_chunked_f32: a tiny random Qwen2 with dual chunk attention, and what the published maths says of it.

transformers computes plain attention for these checkpoints, so the forward pass stands here, written pair by pair from the
paper (An et al., 2024, arXiv:2402.17463) and the configuration of Qwen2.5-1M (arXiv:2501.15383), in PyTorch and double
precision; angles are rounded to float as everywhere. Where a text lies in one chunk it is held to transformers' Qwen2.
expected.safetensors holds rows [R] int64, logits [R, V] of these, prompt [1], and greedy [G] after all PROMPT tokens, whose
ids are (7 i i + 3 i) mod V.
Run: python3 tools/reference/make_chunk_golden.py tests/golden
"""
import json
import math
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

# Chunks of 1024 tokens; lengths grow the attention beyond 2500 of them.
CHUNK_SIZE, LOCAL_SIZE, ORIGINAL, PROMPT = 1100, 76, 2500, 3300
CONFIG = dict(vocab_size=61, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=8192, rms_norm_eps=1e-6, rope_theta=100.0,
              tie_word_embeddings=True)
ROWS = [0, 1, 500, 1023, 1024, 1030, 1099, 1100, 1500, 2047, 2048, 2120, 2499, 2500, 3071, 3072, 3299]


def rms(x, w):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + CONFIG["rms_norm_eps"]) * w


def turn(x, places):  # [T, H, D]: pairs (i, i + D/2), the angle at place p is p theta^(-2i/D)
    d = x.shape[-1]
    frequency = 1.0 / CONFIG["rope_theta"] ** (torch.arange(0, d, 2, dtype=torch.float32) / d)
    angle = (places.to(torch.float32)[:, None] * frequency).to(torch.float64)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    a, b = x[..., : d // 2], x[..., d // 2:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def scores_of(q, k, prompt):
    """Scores [H, T, T] of every query and key: the distance at which a pair is seen depends on how many chunks lie between."""
    t, h = q.shape[:2]
    c = CHUNK_SIZE - LOCAL_SIZE
    at = torch.arange(t)
    length = torch.maximum(at + 1, torch.tensor(prompt)).to(torch.float64)
    grown = torch.clamp(0.1 * torch.log(length / ORIGINAL) + 1, min=1)[:, None, None]
    keys = (turn(k, at % c) * grown).repeat_interleave(h // k.shape[1], 1)
    own = turn(q, at % c) * grown
    before = turn(q, torch.clamp(at % c + c, max=CHUNK_SIZE)) * grown
    far = turn(q, torch.full_like(at, min(2 * c - 1, CHUNK_SIZE))) * grown
    back = (at[:, None] // c) - (at[None, :] // c)
    out = torch.einsum("qhd,khd->hqk", far, keys)
    out = torch.where(back == 1, torch.einsum("qhd,khd->hqk", before, keys), out)
    return torch.where(back == 0, torch.einsum("qhd,khd->hqk", own, keys), out) / math.sqrt(q.shape[-1])


def forward(p, ids, prompt, rows):
    t, h, kv = len(ids), CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
    d = CONFIG["hidden_size"] // h
    mask = torch.ones(t, t, dtype=torch.bool).triu(1)
    x = p["model.embed_tokens.weight"][ids]
    for i in range(CONFIG["num_hidden_layers"]):
        n = f"model.layers.{i}."
        y = rms(x, p[n + "input_layernorm.weight"])
        q, k, v = ((y @ p[f"{n}self_attn.{w}_proj.weight"].T + p[f"{n}self_attn.{w}_proj.bias"]).view(t, -1, d) for w in "qkv")
        scores = scores_of(q, k, prompt).masked_fill(mask, -math.inf)
        o = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v.repeat_interleave(h // kv, 1)).reshape(t, h * d)
        x = x + o @ p[n + "self_attn.o_proj.weight"].T
        y = rms(x, p[n + "post_attention_layernorm.weight"])
        x = x + (F.silu(y @ p[n + "mlp.gate_proj.weight"].T) * (y @ p[n + "mlp.up_proj.weight"].T)) @ p[n + "mlp.down_proj.weight"].T
    return rms(x[rows], p["model.norm.weight"]) @ p["model.embed_tokens.weight"].T


def main(folder):
    config = Qwen2Config(**CONFIG)
    model = Qwen2ForCausalLM(config).to(torch.float32).eval()
    g = torch.Generator().manual_seed(500)
    for name, w in sorted(model.named_parameters()):
        noise = torch.randn(w.shape, generator=g)
        # Queries and keys large enough that where attention looks moves the logits.
        large = 0.6 if ".q_proj" in name or ".k_proj" in name else 0.3
        w.data = (1 + 0.2 * noise if "norm" in name else large * noise)
    model.tie_weights()
    state = {k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    text = dict(CONFIG, architectures=["Qwen2ForCausalLM"], model_type="qwen2", use_sliding_window=False,
                dual_chunk_attention_config=dict(chunk_size=CHUNK_SIZE, local_size=LOCAL_SIZE, original_max_position_embeddings=ORIGINAL))
    (folder / "config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    p = {k: v.to(torch.float64) for k, v in state.items()}
    ids = torch.tensor([(7 * i * i + 3 * i) % CONFIG["vocab_size"] for i in range(PROMPT)])
    with torch.no_grad():
        plain = model(ids[None, :1000]).logits[0]
        mine = forward(p, ids[:1000], 1000, torch.arange(1000))
        assert (plain - mine).abs().max() < 2e-5 * mine.abs().max(), (plain - mine).abs().max()
        rows = torch.tensor(ROWS)
        logits = forward(p, ids, PROMPT, rows)
        longer = ids
        for _ in range(8):
            last = forward(p, longer, PROMPT, torch.tensor([len(longer) - 1]))[0]
            top = last.topk(2).values
            print("margin", float(top[0] - top[1]), "of", float(last.abs().max()))
            longer = torch.cat([longer, last.argmax(-1, keepdim=True)])
        whole = model(longer[None, :PROMPT]).logits[0][rows].double()
        print("plain attention differs by", float((whole - logits).abs().max() / logits.abs().max()))
    save_file({"rows": rows, "logits": logits.float().contiguous(), "greedy": longer[PROMPT:].contiguous(),
               "prompt": torch.tensor([PROMPT])}, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(pathlib.Path(sys.argv[1]) / "qwen2_chunked_f32")
