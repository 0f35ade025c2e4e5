#!/usr/bin/env python3
"""Prints the tables of src/train/adamw_8bit_test.cc: bitsandbytes' dynamic maps (every 17th value), and its 8-bit AdamW
(0.50: the PyTorch form that its kernels are tested against, blocks of 256, nearest code) after five steps over gradients that a
formula gives: weights, codes and scales at some places.
Run: python3 tools/reference/make_adam8bit_golden.py    (needs torch, bitsandbytes)
"""
import math

import torch
from bitsandbytes.functional import create_dynamic_map

N, BLOCK, STEPS = 5000, 256, 5
LR, B1, B2, EPS, DECAY = 0.01, 0.9, 0.95, 1e-8, 0.1


def literal(x):
    text = f"{x:.9g}"
    return (text if any(c in text for c in ".e") else text + ".0") + "f"


def noise(i, salt):  # in [-0.5, 0.5), the same in C++
    return ((i * 2654435761 + salt * 40503) % 2**32) / 2**32 - 0.5


def tensor(salt, small):
    return torch.tensor([noise(i, salt) * (10.0 ** -(i % 5) if small else 1.0) for i in range(N)], dtype=torch.float64).float()


def close(x, code):
    blocks = torch.nn.functional.pad(x, (0, -N % BLOCK)).reshape(-1, BLOCK)
    scale = blocks.abs().amax(1, keepdim=True)
    by = torch.where(scale == 0, torch.ones_like(scale), scale)
    return torch.cat([(b / s)[:, None].sub(code).abs().argmin(1) for b, s in zip(blocks, by)])[:N], scale.flatten()


def opened(codes, scale, code):
    return code[codes] * scale.repeat_interleave(BLOCK)[:N]


signed, unsigned = create_dynamic_map(True), create_dynamic_map(False)
for name, code in (("kSigned", signed), ("kUnsigned", unsigned)):
    print(f"const float {name}[] = {{" + ", ".join(map(literal, code[::17].tolist())) + "};")
w = tensor(1, False)
mc, ms = torch.zeros(N, dtype=torch.long), torch.zeros(-(-N // BLOCK))
vc, vs = mc.clone(), ms.clone()
for t in range(1, STEPS + 1):
    g = tensor(100 + t, True)
    m, v = opened(mc, ms, signed) * B1 + g * (1 - B1), opened(vc, vs, unsigned) * B2 + g * g * (1 - B2)
    w = w * (1 - LR * DECAY) - LR / (1 - B1**t) * m / (v.sqrt() / math.sqrt(1 - B2**t) + EPS)
    (mc, ms), (vc, vs) = close(m, signed), close(v, unsigned)
print("const Place kPlaces[] = {")
for i in range(0, N, 157):
    print(f"    {{{i}, {literal(w[i].item())}, {mc[i].item()}, {vc[i].item()}, {literal(ms[i // BLOCK].item())}, {literal(vs[i // BLOCK].item())}}},")
print("};")
