#!/usr/bin/env python3
"""Makes tests/golden/head_*: tiny random checkpoints with heads other than the language model's, and what they give.

The bodies are transformers' (Qwen2Model, Qwen3Model), as is the head of classes; the others stand here as their
published modelling code has them. A folder: config.json (and what makes a folder of embeddings), model.safetensors,
expected.safetensors with, for each sequence i, ids.i, rows.i [T, outputs] and score.i, what a caller is told.
Run: python3 tools/reference/make_head_golden.py tests/golden
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (Qwen2Config, Qwen2Model, Qwen3Config, Qwen3ForSequenceClassification, Qwen3Model)

SIZES = dict(vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-6, rope_theta=10000.0)
LABELS = ["Safe", "Unsafe", "Controversial"]
CATEGORIES = ["None", "Violent", "Illegal", "Sexual", "PII", "Self-Harm", "Unethical", "Political"]


class Reward(nn.Module):  # Qwen2ForRewardModel; with two labels Qwen2ForProcessRewardModel
    def __init__(self, config, labels):
        super().__init__()
        self.model = Qwen2Model(config)
        d = config.hidden_size
        self.score = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, labels))

    def rows(self, ids):
        return self.score(self.model(ids).last_hidden_state)


class Norm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Guard(nn.Module):  # Qwen3ForGuardModel
    def __init__(self, config, inner):
        super().__init__()
        self.model = Qwen3Model(config)
        for p, categories in (("", 8), ("query_", 9)):
            setattr(self, p + "risk_level_category_pre", nn.Linear(config.hidden_size, inner, bias=False))
            setattr(self, p + "risk_level_category_layernorm", Norm(inner, config.rms_norm_eps))
            setattr(self, p + "risk_level_head", nn.Linear(inner, 3, bias=False))
            setattr(self, p + "category_head", nn.Linear(inner, categories, bias=False))

    def rows(self, ids):
        h = self.model(ids).last_hidden_state
        out = []
        for p in ("", "query_"):
            u = getattr(self, p + "risk_level_category_layernorm")(getattr(self, p + "risk_level_category_pre")(h))
            out += [getattr(self, p + "risk_level_head")(u), getattr(self, p + "category_head")(u)]
        return torch.cat(out, -1)


class Classes(Qwen3ForSequenceClassification):
    def rows(self, ids):
        return self.score(self.model(ids).last_hidden_state)


class Embedding(Qwen3Model):
    def rows(self, ids):
        return self(ids).last_hidden_state


def by_index(labels):
    return {str(i): label for i, label in enumerate(labels)}


def make(folder, model, config, score, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.2 * noise if "norm" in name else 0.25 * noise)
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.clone().contiguous() for k, v in model.state_dict().items() if "rotary" not in k}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    expected = {}
    for i, length in enumerate((17, 5, 1)):
        ids = torch.randint(0, 61, (length,), generator=generator)
        with torch.no_grad():
            rows = model.double().rows(ids[None])[0]
        expected |= {f"ids.{i}": ids, f"rows.{i}": rows.float(), f"score.{i}": score(rows, ids).float().contiguous()}
    save_file(expected, folder / "expected.safetensors")


def main():
    out = pathlib.Path(sys.argv[1])
    torch.manual_seed(0)
    qwen3 = Qwen3Config(**SIZES, head_dim=8, tie_word_embeddings=True)
    qwen2 = Qwen2Config(**SIZES)
    common3 = dict(model_type="qwen3", head_dim=8, **SIZES)
    common2 = dict(model_type="qwen2", **SIZES)
    for c in (qwen2, qwen3):
        c._attn_implementation = "eager"

    folder = out / "head_embedding"
    make(folder, Embedding(qwen3), dict(architectures=["Qwen3ForCausalLM"], tie_word_embeddings=True, **common3),
         lambda rows, ids: nn.functional.normalize(rows[-1], dim=0), 31)
    stages = ["Transformer", "Pooling", "Normalize"]
    (folder / "modules.json").write_text(json.dumps(
        [{"idx": i, "name": str(i), "path": f"{i}_{s}" if i else "", "type": "sentence_transformers.models." + s}
         for i, s in enumerate(stages)], indent=2) + "\n")
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(
        {"word_embedding_dimension": 24, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False,
         "pooling_mode_lasttoken": True, "include_prompt": True}, indent=2) + "\n")
    (folder / "config_sentence_transformers.json").write_text(json.dumps(
        {"prompts": {"query": "Instruct: Find it\nQuery:", "document": ""}, "similarity_fn_name": "cosine"}, indent=2) + "\n")

    qwen3.num_labels = 3
    make(out / "head_classes", Classes(qwen3),
         dict(architectures=["Qwen3ForSequenceClassification"], id2label=by_index(["bad", "fair", "good"]), **common3),
         lambda rows, ids: rows[-1].softmax(-1), 32)
    make(out / "head_reward", Reward(qwen2, 1), dict(architectures=["Qwen2ForRewardModel"], **common2),
         lambda rows, ids: rows[-1], 33)
    make(out / "head_steps", Reward(qwen2, 2), dict(architectures=["Qwen2ForProcessRewardModel"], **common2),
         lambda rows, ids: rows.softmax(-1)[:, 1], 34)
    make(out / "head_guard", Guard(qwen3, 12),
         dict(architectures=["Qwen3ForGuardModel"], guard_inner_size=12, num_risk_level=3, num_category=8,
              num_query_risk_level=3, num_query_category=9, response_risk_level_map=by_index(LABELS),
              response_category_map=by_index(CATEGORIES), query_risk_level_map=by_index(LABELS),
              query_category_map=by_index(CATEGORIES + ["Jailbreak"]), **common3),
         lambda rows, ids: torch.cat([p.softmax(-1) for p in rows[-1].split((3, 8, 3, 9))]), 35)


if __name__ == "__main__":
    main()
