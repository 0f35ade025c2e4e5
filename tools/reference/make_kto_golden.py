#!/usr/bin/env python3
"""Prints the table of src/train/kto_test.cc: losses of TRL's formulas (trl 0.2x: KTOTrainer.kto_loss, loss_type kto and
apo_zero_unpaired) and their gradients by PyTorch, in float64.
Run: python3 tools/reference/make_kto_golden.py    (needs torch)
"""
import torch

# log-probability of an answer and the one before training; the mean of their differences over mismatched answers
ANSWERS = [(-12.5, -11.75, 0.5), (-9.25, -9.5, -0.75), (-41.0, -30.0, 6.0), (-0.03, -25.0, 2.0)]
METHODS = [(0.1, 1.0, 1.0, True), (0.5, 1.0, 1.33, True), (0.5, 0.75, 2.0, False)]


def loss_of(beta, desirable, undesirable, drift, liked, logp, reference, mismatched):
    ratio = logp - reference
    if drift:
        kl = torch.tensor(mismatched, dtype=torch.float64).clamp(min=0)
        if liked:
            return desirable * (1 - torch.sigmoid(beta * (ratio - kl)))
        return undesirable * (1 - torch.sigmoid(beta * (kl - ratio)))
    return desirable * (1 - torch.sigmoid(beta * ratio)) if liked else undesirable * torch.sigmoid(beta * ratio)


for beta, desirable, undesirable, drift in METHODS:
    for logp, reference, mismatched in ANSWERS:
        for liked in (True, False):
            x = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
            loss = loss_of(beta, desirable, undesirable, drift, liked, x, reference, mismatched)
            loss.backward()
            words = ["false", "true"]
            print(f"    {{{{{beta}, {desirable}, {undesirable}, {words[drift]}}}, {logp - reference}, {mismatched}, "
                  f"{words[liked]}, {loss.item():.12g}, {x.grad.item():.12g}}},")
