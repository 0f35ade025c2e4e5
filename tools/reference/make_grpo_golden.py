#!/usr/bin/env python3
"""Prints the table of src/train/grpo_test.cc: TRL's formulas (trl 0.2x: GRPOTrainer._compute_loss and the advantages of
_generate_and_score_completions) over a padded batch of one group, and their gradients by PyTorch, in float64.
Run: python3 tools/reference/make_grpo_golden.py    (needs torch)
"""
import torch

LENGTHS = [3, 5, 1, 4]
MAX_TOKENS = 6
REWARDS = torch.tensor([1.0, 0.0, 0.25, 1.0], dtype=torch.float64)


def walk(factor, of):
    """Log-probabilities that a float32 holds exactly, 64ths."""
    return torch.tensor([[-((7 * i + factor * t * t + of) % 97) / 64 for t in range(max(LENGTHS))]
                         for i in range(len(LENGTHS))], dtype=torch.float64)


OLD, BEFORE = walk(5, 3), walk(3, 31)
# average, clip_low, clip_high, beta
CONFIGS = [("grpo", 0.2, 0.2, 0.0), ("grpo", 0.2, 0.2, 0.04), ("dapo", 0.2, 0.28, 0.0), ("dr_grpo", 0.2, 0.2, 0.01),
           ("gspo", 0.05, 0.05, 0.0), ("gspo", 3e-4, 4e-4, 0.02)]
MASK = torch.tensor([[float(t < n) for t in range(max(LENGTHS))] for n in LENGTHS], dtype=torch.float64)


def step(average, low, high, beta):
    logp = walk(11, 5).requires_grad_()
    advantages = REWARDS - REWARDS.mean()
    if average != "dr_grpo":
        advantages = advantages / (REWARDS.std() + 1e-4)
    advantages = advantages.unsqueeze(1)
    log_ratio = logp - OLD
    if average == "gspo":
        log_ratio = ((log_ratio * MASK).sum(-1) / MASK.sum(-1).clamp(min=1.0)).unsqueeze(-1)
    ratio = torch.exp(log_ratio)
    loss = -torch.min(ratio * advantages, torch.clamp(ratio, 1 - low, 1 + high) * advantages)
    kl = torch.exp(BEFORE - logp) - (BEFORE - logp) - 1
    if beta:
        loss = loss + beta * kl
    if average in ("grpo", "gspo"):
        total = ((loss * MASK).sum(-1) / MASK.sum(-1)).mean()
    elif average == "dapo":
        total = (loss * MASK).sum() / MASK.sum()
    else:
        total = (loss * MASK).sum() / (loss.size(0) * MAX_TOKENS)
    total.backward()
    clipped = ((ratio < 1 - low) & (advantages < 0)) | ((ratio > 1 + high) & (advantages > 0))
    return (total.item(), ((clipped * MASK).sum() / MASK.sum()).item(), ((kl * MASK).sum() / MASK.sum()).item(),
            logp.grad[MASK.bool()].tolist())


def listed(values):
    return "{" + ", ".join(f"{v:.10g}" for v in values) + "}"


for name, values in (("kNow", walk(11, 5)), ("kOld", OLD), ("kBefore", BEFORE)):
    print(f"const std::vector<float> {name} = {listed(values[MASK.bool()].tolist())};")
for config in CONFIGS:
    total, clipped, kl, grad = step(*config)
    average, low, high, beta = config
    enum = {"grpo": "kGrpo", "dapo": "kDapo", "dr_grpo": "kDrGrpo", "gspo": "kGspo"}[average]
    print(f"    {{GrpoAverage::{enum}, {low}, {high}, {beta}, {total:.12g}, {clipped:.12g}, {kl:.12g}, {listed(grad)}}},")
