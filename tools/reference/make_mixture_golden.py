#!/usr/bin/env python3
"""Makes goldens of mixtures of experts under tests/golden: tiny random checkpoints and what transformers (PyTorch, CPU) says.

Each folder is a Hugging Face model folder without tokenizer and expected.safetensors with
  input_ids [1, T] int64, logits [1, T, V] float32 (computed in float32 on the stored weights)
  greedy [G] int64        the greedy continuation of input_ids
  loss, balance [1]       mean cross-entropy of the next token over T - 1 rows; load-balancing loss with its coefficient
  grad.<parameter>        gradients of loss + balance (folders in float32 with gradients only)
Half of the folders hold one tensor for each expert, the others the fused layout of newer libraries.
Run: python3 tools/reference/make_mixture_golden.py tests/golden
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

COMMON = dict(vocab_size=61, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-6, rope_theta=10000.0, num_experts=6,
              num_experts_per_tok=2, moe_intermediate_size=32, router_aux_loss_coef=0.05, attn_implementation="eager",
              decoder_sparse_step=1)
TWO, THREE = (Qwen2MoeConfig, Qwen2MoeForCausalLM), (Qwen3MoeConfig, Qwen3MoeForCausalLM)
CASES = {
    # name: (classes, overrides, dtype, fused layout, gradients)
    "qwen2_moe_untied_f32": (TWO, dict(tie_word_embeddings=False, norm_topk_prob=False, shared_expert_intermediate_size=32, num_experts=3), torch.float32, False, True),
    "qwen2_moe_tied_bf16": (TWO, dict(tie_word_embeddings=True, norm_topk_prob=True, shared_expert_intermediate_size=32,
                                      decoder_sparse_step=2, num_hidden_layers=3, num_key_value_heads=4), torch.bfloat16, True, False),
    "qwen3_moe_untied_f32": (THREE, dict(tie_word_embeddings=False, norm_topk_prob=True, head_dim=16, num_experts=4, num_experts_per_tok=3), torch.float32, True, True),
    "qwen3_moe_tied_bf16": (THREE, dict(tie_word_embeddings=True, norm_topk_prob=False, head_dim=16, num_key_value_heads=1,
                                        mlp_only_layers=[0]), torch.bfloat16, False, False),
    # Windows of 7 of the 24 tokens: in every other layer before the second, and in all.
    "qwen2_moe_sliding_f32": (TWO, dict(tie_word_embeddings=True, norm_topk_prob=False, shared_expert_intermediate_size=32, num_experts=3,
                                        moe_intermediate_size=16, use_sliding_window=True, sliding_window=7, max_window_layers=2), torch.float32, False, True),
    "qwen3_moe_sliding_f32": (THREE, dict(tie_word_embeddings=True, norm_topk_prob=True, head_dim=8, num_experts=3, moe_intermediate_size=16,
                                          use_sliding_window=True, sliding_window=7), torch.float32, True, True),
}


def unfused(state):
    out = {}
    for name, t in state.items():
        if name.endswith("experts.gate_up_proj"):
            base, half = name[: -len("gate_up_proj")], t.shape[1] // 2
            for e in range(t.shape[0]):
                out[f"{base}{e}.gate_proj.weight"] = t[e, :half].contiguous()
                out[f"{base}{e}.up_proj.weight"] = t[e, half:].contiguous()
        elif name.endswith("experts.down_proj"):
            for e in range(t.shape[0]):
                out[f"{name[:-len('down_proj')]}{e}.down_proj.weight"] = t[e].contiguous()
        else:
            out[name] = t.contiguous()
    return out


def make(folder, seed, classes, overrides, dtype, fused, gradients):
    config = classes[0](**{**COMMON, **overrides})
    model = classes[1](config).to(torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        # Large enough that every part moves the logits; stored precision is what is computed with.
        p.data = (1 + 0.2 * noise if "norm" in name else 0.25 * noise).to(dtype).to(torch.float32)
    model.tie_weights()
    state = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state if fused else unfused(state), folder / "model.safetensors", metadata={"format": "pt"})
    config.architectures = [classes[1].__name__]
    text = {k: v for k, v in config.to_dict().items() if k not in ("transformers_version", "_name_or_path")}
    (folder / "config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    ids = torch.randint(0, config.vocab_size, (1, 24), generator=torch.Generator().manual_seed(seed + 1))
    out = model(ids, labels=ids, output_router_logits=True)
    mean = torch.nn.functional.cross_entropy(out.logits[0, :-1], ids[0, 1:])
    balance = config.router_aux_loss_coef * out.aux_loss
    assert abs(out.loss.item() - (mean + balance).item()) < 1e-5
    expected = {"input_ids": ids, "logits": out.logits.detach().contiguous(), "loss": mean.detach().reshape(1),
                "balance": balance.detach().reshape(1)}
    if gradients:
        (mean + balance).backward()
        grads = unfused({k: p.grad for k, p in model.named_parameters()})
        expected.update({"grad." + k: g for k, g in grads.items()})
    longer = ids
    with torch.no_grad():
        for _ in range(12):
            longer = torch.cat([longer, model(longer).logits[:, -1].argmax(-1, keepdim=True)], 1)
    expected["greedy"] = longer[0, ids.shape[1]:].contiguous()
    save_file(expected, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for i, (name, case) in enumerate(CASES.items()):
        make(pathlib.Path(sys.argv[1]) / name, 300 + 2 * i, *case)
        print(name)
