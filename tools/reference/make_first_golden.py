#!/usr/bin/env python3
"""Makes tests/golden/qwen_*: tiny random checkpoints of the first generation and what the published maths says of them.

No library holds this architecture any more, so the forward pass stands here, written from the technical report
(arXiv:2309.16609) in PyTorch and double precision. Folders and expected.safetensors as make_mixture_golden.py.
Run: python3 tools/reference/make_first_golden.py tests/golden
"""
import json
import math
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

CONFIG = dict(architectures=["QWenLMHeadModel"], model_type="qwen", vocab_size=61, hidden_size=32, num_hidden_layers=2,
              num_attention_heads=4, kv_channels=8, intermediate_size=128, layer_norm_epsilon=1e-6, rotary_emb_base=10000,
              rotary_pct=1.0, max_position_embeddings=64, seq_length=40, use_dynamic_ntk=True, use_logn_attn=True,
              no_bias=True, scale_attn_weights=True, tie_word_embeddings=False, initializer_range=0.02)


def rms(x, w):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + CONFIG["layer_norm_epsilon"]) * w


def ntk_alpha(length):  # of a prompt; the reference keeps it while the sequence grows
    return max(2 ** math.ceil(math.log(length / CONFIG["seq_length"], 2) + 1) - 1, 1)


def rotate(x, alpha):  # [T, H, D]: pairs (i, i + D/2), the angle of position p is p theta^(-2i/D)
    t, _, d = x.shape
    base = CONFIG["rotary_emb_base"] * alpha ** (d / (d - 2))
    angle = torch.arange(t, dtype=x.dtype)[:, None] * base ** (-torch.arange(0, d, 2, dtype=x.dtype) / d)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    a, b = x[..., : d // 2], x[..., d // 2:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def forward(p, ids, prompt=None):
    """Logits [T, V]; with `prompt` (its length) as served: dynamic NTK and log-n scaling; without as trained."""
    alpha = ntk_alpha(prompt) if prompt else 1
    t, h, d = len(ids), CONFIG["num_attention_heads"], CONFIG["kv_channels"]
    x = p["transformer.wte.weight"][ids]
    for i in range(CONFIG["num_hidden_layers"]):
        n = f"transformer.h.{i}."
        y = rms(x, p[n + "ln_1.weight"]) @ p[n + "attn.c_attn.weight"].T + p[n + "attn.c_attn.bias"]
        q, k, v = (part.view(t, h, d) for part in y.split(h * d, -1))
        q, k = rotate(q, alpha), rotate(k, alpha)
        if prompt:
            q = q * torch.tensor([max(1.0, math.log(i, CONFIG["seq_length"])) for i in range(1, t + 1)], dtype=q.dtype)[:, None, None]
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(d)
        scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -math.inf)
        o = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(t, h * d)
        x = x + o @ p[n + "attn.c_proj.weight"].T
        y = rms(x, p[n + "ln_2.weight"])
        x = x + ((y @ p[n + "mlp.w1.weight"].T) * F.silu(y @ p[n + "mlp.w2.weight"].T)) @ p[n + "mlp.c_proj.weight"].T
    return rms(x, p["transformer.ln_f.weight"]) @ p["lm_head.weight"].T


def shapes():
    d, v, f = CONFIG["hidden_size"], CONFIG["vocab_size"], CONFIG["intermediate_size"] // 2
    w = CONFIG["num_attention_heads"] * CONFIG["kv_channels"]
    out = {"transformer.wte.weight": (v, d), "transformer.ln_f.weight": (d,), "lm_head.weight": (v, d)}
    for i in range(CONFIG["num_hidden_layers"]):
        n = f"transformer.h.{i}."
        out.update({n + "ln_1.weight": (d,), n + "ln_2.weight": (d,), n + "attn.c_attn.weight": (3 * w, d),
                    n + "attn.c_attn.bias": (3 * w,), n + "attn.c_proj.weight": (d, w), n + "mlp.w1.weight": (f, d),
                    n + "mlp.w2.weight": (f, d), n + "mlp.c_proj.weight": (d, f)})
    return out


def make(folder, seed, dtype, gradients, seq_length=40):
    CONFIG["seq_length"] = seq_length
    g = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in sorted(shapes().items()):
        noise = torch.randn(shape, generator=g)
        state[name] = (1 + 0.2 * noise if ".ln_" in name else 0.25 * noise).to(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2, sort_keys=True) + "\n")
    p = {k: v.to(torch.float64).requires_grad_() for k, v in state.items()}
    ids = torch.randint(0, CONFIG["vocab_size"], (24,), generator=g)
    logits = forward(p, ids, len(ids))
    loss = F.cross_entropy(forward(p, ids)[:-1], ids[1:])
    expected = {"input_ids": ids[None], "logits": logits.detach().float()[None].contiguous(), "loss": loss.detach().float().reshape(1)}
    if gradients:
        loss.backward()
        expected.update({"grad." + k: v.grad.float() for k, v in p.items()})
    longer = ids
    with torch.no_grad():
        for _ in range(12):
            longer = torch.cat([longer, forward(p, longer, len(ids))[-1].argmax(-1, keepdim=True)])
    expected["greedy"] = longer[len(ids):].contiguous()
    save_file(expected, folder / "expected.safetensors")


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    make(root / "qwen_f32", 400, torch.float32, True)
    make(root / "qwen_bf16", 401, torch.bfloat16, False)
    make(root / "qwen_long_f32", 402, torch.float32, False, seq_length=10)  # a prompt of 24 is beyond it
