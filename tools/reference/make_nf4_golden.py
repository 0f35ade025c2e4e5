#!/usr/bin/env python3
"""Prints the table of src/train/lora_test.cc: what bitsandbytes (0.50, on a processor) makes of a matrix in NF4, with the
scales of blocks in 8 bits: codes and numbers at some places, and what a product with each row comes to.
Run: python3 tools/reference/make_nf4_golden.py    (needs torch, bitsandbytes)
"""
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

ROWS, COLUMNS = 33, 600  # the blocks of 64 lie across rows, and the last one is cut off; two blocks of scales


def literal(x):
    text = f"{x:.9g}"
    return (text if any(c in text for c in ".e") else text + ".0") + "f"


def noise(i):  # in [-0.5, 0.5), the same in C++
    return ((i * 2654435761 + 40503) % 2**32) / 2**32 - 0.5


w = torch.tensor([noise(i) * (1 + i % 7) / 8 for i in range(ROWS * COLUMNS)], dtype=torch.float64).float().reshape(ROWS, COLUMNS)
for twice in (False, True):
    packed, state = quantize_4bit(w, blocksize=64, compress_statistics=twice, quant_type="nf4")
    opened = dequantize_4bit(packed, state).reshape(-1)
    bytes_ = packed.reshape(-1).tolist()
    print(f"const Nf4Place {'kNf4Twice' if twice else 'kNf4Once'}[] = {{")
    for i in range(0, ROWS * COLUMNS, 991):
        print(f"    {{{i}, {bytes_[i // 2]}, {literal(opened[i].item())}}},")
    print("};")
    print(f"//  sum of codes {sum(bytes_)}, of numbers {opened.double().sum().item():.9g}, of squares {opened.double().square().sum().item():.9g}")
