#!/usr/bin/env python3
"""Prints the table of src/train/distill_test.cc: TRL's generalised divergences (trl 0.2x: GKDTrainer.generalized_jsd_loss, whose
beta weighs the teacher in the mixture; 0 is the forward and 1 the reverse divergence) with a share of the likelihood, and
PyTorch's gradients, in float64.
Run: python3 tools/reference/make_distill_golden.py    (needs torch)
"""
import torch
import torch.nn.functional as F

STUDENT = [0.5, -1.25, 3.0, 0.0, -4.5, 2.25]
TEACHER = [1.5, -0.5, 0.25, 2.0, -6.0, 2.5]
LABEL = 3
CASES = [("Forward", 1.0, 0.5, 0.0), ("Forward", 2.0, 0.5, 0.25), ("Reverse", 1.0, 0.5, 0.0), ("Reverse", 0.5, 0.5, 0.1),
         ("Jsd", 1.0, 0.5, 0.0), ("Jsd", 3.0, 0.9, 0.5)]


def divergence(kind, beta, s, t):
    if kind == "Forward":
        return F.kl_div(s, t, reduction="sum", log_target=True)
    if kind == "Reverse":
        return F.kl_div(t, s, reduction="sum", log_target=True)
    b = torch.tensor(beta, dtype=s.dtype)
    m = torch.logsumexp(torch.stack([s + torch.log1p(-b), t + torch.log(b)]), 0)
    return beta * F.kl_div(m, t, reduction="sum", log_target=True) + (1 - beta) * F.kl_div(m, s, reduction="sum", log_target=True)


for kind, temperature, beta, hard in CASES:
    x = torch.tensor(STUDENT, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(TEACHER, dtype=torch.float64)
    soft = divergence(kind, beta, (x / temperature).log_softmax(0), (t / temperature).log_softmax(0))
    loss = (1 - hard) * soft + hard * F.cross_entropy(x[None], torch.tensor([LABEL]))
    loss.backward()
    grads = ", ".join(f"{g:.9g}" for g in x.grad.tolist())
    print(f"    {{Divergence::k{kind}, {temperature}, {beta}, {hard}, {loss.item():.10g}, {{{grads}}}}},")
