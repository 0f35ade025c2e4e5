#!/usr/bin/env python3
"""Prints the table of src/train/preference_test.cc: losses of TRL's formulas (trl 0.2x: DPOTrainer.dpo_loss, CPOTrainer.cpo_loss with
loss_type simpo, ORPOTrainer.odds_ratio_loss plus the mean likelihood) and their gradients by PyTorch, in float64.
Run: python3 tools/reference/make_preference_golden.py    (needs torch)
"""
import torch
import torch.nn.functional as F

PAIRS = [  # log-probability and tokens of the preferred answer and of the other, then both before training
    (-12.5, 7, -9.25, 5, -11.75, -9.5),
    (-0.03, 3, -41.0, 12, -2.0, -30.0),
    (-80.0, 4, -0.5, 9, -75.0, -1.0),
]
METHODS = [("dpo", 0.1, 0.0, 0.0), ("dpo", 0.5, 0.0, 0.1), ("ipo", 0.1, 0.0, 0.0), ("simpo", 2.0, 1.0, 0.0),
           ("simpo", 2.5, 0.5, 0.2), ("orpo", 0.1, 0.0, 0.0)]


def loss_of(method, beta, gamma, smoothing, w, nw, l, nl, w0, l0):
    if method == "dpo":
        logits = (w - l) - (w0 - l0)
        return -F.logsigmoid(beta * logits) * (1 - smoothing) - F.logsigmoid(-beta * logits) * smoothing
    if method == "ipo":
        logits = (w / nw - l / nl) - (w0 / nw - l0 / nl)
        return (logits - 1 / (2 * beta)) ** 2
    w, l = w / nw, l / nl
    if method == "simpo":
        logits = w - l - gamma / beta
        return -F.logsigmoid(beta * logits) * (1 - smoothing) - F.logsigmoid(-beta * logits) * smoothing
    log_odds = (w - l) - (torch.log1p(-torch.exp(w)) - torch.log1p(-torch.exp(l)))
    return -w - beta * F.logsigmoid(log_odds)


for method, beta, gamma, smoothing in METHODS:
    for w, nw, l, nl, w0, l0 in PAIRS:
        tw, tl = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (w, l))
        loss = loss_of(method, beta, gamma, smoothing, tw, nw, tl, nl, w0, l0)
        loss.backward()
        print(f"    {{PreferenceMethod::k{method.capitalize()}, {beta}, {gamma}, {smoothing}, {{{w}, {w0}, {nw}}}, {{{l}, {l0}, {nl}}}, "
              f"{loss.item():.12g}, {tw.grad.item():.12g}, {tl.grad.item():.12g}}},")
