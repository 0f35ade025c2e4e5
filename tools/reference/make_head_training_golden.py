#!/usr/bin/env python3
"""Makes tests/golden/head_{classes,reward}/training.safetensors: losses and all gradients by PyTorch, in float64, of the
models that make_head_golden.py made. Classes: the mean cross-entropy of two documents (ids.0 is 2, ids.1 is 0). Rewards:
TRL's RewardTrainer (0.2x), ids.0 preferred to ids.1 by a margin, with center_rewards_coefficient.
Run: python3 tools/reference/make_head_training_golden.py tests/golden    (needs torch, transformers)
"""
import json
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen3Config

from make_head_golden import Classes, Reward

MARGIN, CENTER = 0.3, 0.05


def opened(folder, make):
    config = json.loads((folder / "config.json").read_text())
    model = make(config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    expected = load_file(folder / "expected.safetensors")
    return model.double(), expected["ids.0"], expected["ids.1"]


def classes(config):
    c = Qwen3Config(**{k: v for k, v in config.items() if k not in ("architectures", "id2label")}, num_labels=3)
    c._attn_implementation = "eager"
    return Classes(c)


def reward(config):
    c = Qwen2Config(**{k: v for k, v in config.items() if k != "architectures"})
    c._attn_implementation = "eager"
    return Reward(c, 1)


def write(folder, model, loss):
    loss.backward()
    out = {"grad." + name: p.grad.float().contiguous() for name, p in model.named_parameters()}
    save_file(out | {"loss": loss.detach().float()[None]}, folder / "training.safetensors")


def main():
    root = pathlib.Path(sys.argv[1])
    model, a, b = opened(root / "head_classes", classes)
    logits = torch.stack([model.rows(ids[None])[0, -1] for ids in (a, b)])
    write(root / "head_classes", model, F.cross_entropy(logits, torch.tensor([2, 0])))
    model, a, b = opened(root / "head_reward", reward)
    w, l = (model.rows(ids[None])[0, -1, 0] for ids in (a, b))
    write(root / "head_reward", model, -F.logsigmoid(w - l - MARGIN) + CENTER * (w + l) ** 2)


if __name__ == "__main__":
    main()
