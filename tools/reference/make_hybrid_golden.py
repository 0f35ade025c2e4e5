#!/usr/bin/env python3
"""Makes goldens of gated delta networks under tests/golden: tiny random checkpoints and what transformers (PyTorch, CPU) says.

Each folder is a Hugging Face model folder without tokenizer and expected.safetensors with
  input_ids [1, T] int64, logits [1, T, V] float32 (computed in float32 on the stored weights); T is more than one chunk of 64
  greedy [G] int64        the greedy continuation of input_ids, by the reference's cached steps
  loss, balance [1]       mean cross-entropy of the next token over T - 1 rows; load-balancing loss with its coefficient (or 0)
  grad.<parameter>        gradients of loss + balance (folders in float32 with gradients only)
One folder is laid out as the released checkpoints that hold a vision tower are: text_config, model.language_model., and
tensors of the tower and of the drafting layers, which are left aside.
Run: python3 tools/reference/make_hybrid_golden.py tests/golden
"""
import json
import pathlib
import sys

import torch
from make_mixture_golden import unfused
from safetensors.torch import save_file
from transformers import (Qwen3_5ForCausalLM, Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig, Qwen3_5TextConfig,
                          Qwen3NextConfig, Qwen3NextForCausalLM)

COMMON = dict(vocab_size=41, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
              max_position_embeddings=128, rms_norm_eps=1e-6, attn_implementation="eager", linear_conv_kernel_dim=4,
              linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4,
              num_hidden_layers=4,
              rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))
MIXTURE = dict(num_experts=3, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=24,
               router_aux_loss_coef=0.05)
NEXT = (Qwen3NextConfig, Qwen3NextForCausalLM)
DENSE, MOE = (Qwen3_5TextConfig, Qwen3_5ForCausalLM), (Qwen3_5MoeTextConfig, Qwen3_5MoeForCausalLM)
LAYERS = ["linear_attention", "full_attention"]
CASES = {
    # name: (classes, overrides, dtype, fused experts, gradients, beside a vision tower)
    "qwen3_next_f32": (NEXT, dict(MIXTURE, tie_word_embeddings=False, norm_topk_prob=True, intermediate_size=32, moe_intermediate_size=32,
                                  shared_expert_intermediate_size=32, num_hidden_layers=3, layer_types=["linear_attention"] + LAYERS), torch.float32, True, False, False),
    "qwen3_next_bf16": (NEXT, dict(MIXTURE, tie_word_embeddings=True, norm_topk_prob=True, intermediate_size=32, num_hidden_layers=3,
                                   layer_types=["full_attention", "linear_attention", "linear_attention"], mlp_only_layers=[1]),
                        torch.bfloat16, False, False, False),
    "qwen3_next_gradient": (NEXT, dict(MIXTURE, tie_word_embeddings=True, norm_topk_prob=True, intermediate_size=32, num_hidden_layers=2,
                                       layer_types=LAYERS), torch.float32, True, True, False),
    "qwen3_5_f32": (DENSE, dict(tie_word_embeddings=False, intermediate_size=64, num_hidden_layers=2, layer_types=LAYERS), torch.float32, False, True, False),
    "qwen3_5_bf16": (DENSE, dict(tie_word_embeddings=True, intermediate_size=64, linear_num_value_heads=2), torch.bfloat16, False, False, True),
    "qwen3_5_moe_f32": (MOE, dict(MIXTURE, tie_word_embeddings=False, linear_num_value_heads=6, linear_value_head_dim=6, num_hidden_layers=2, layer_types=LAYERS), torch.float32, True, True, False),
    "qwen3_5_moe_bf16": (MOE, dict(MIXTURE, tie_word_embeddings=False, num_hidden_layers=2, layer_types=LAYERS), torch.bfloat16, True, False, True),
}


def beside_a_tower(state, config, dtype, generator):
    out = {k.replace("model.", "model.language_model.", 1) if k.startswith("model.") else k: t for k, t in state.items()}
    out["model.visual.patch_embed.proj.weight"] = torch.randn(8, 4, generator=generator).to(dtype)
    out["mtp.fc.weight"] = torch.randn(32, 64, generator=generator).to(dtype)
    text = dict(config)
    text.pop("architectures", None)
    top = {"architectures": [config["architectures"][0].replace("CausalLM", "ConditionalGeneration")],
           "model_type": config["model_type"].removesuffix("_text"), "text_config": text,
           "tie_word_embeddings": text.pop("tie_word_embeddings"), "vision_config": {"depth": 1}}
    return out, top


def make(folder, seed, classes, overrides, dtype, fused, gradients, tower):
    config = classes[0](**{**COMMON, **overrides})
    model = classes[1](config).to(torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        # Large enough that every part moves the logits; stored precision is what is computed with. The reference's own
        # bfloat16 strays by a quarter of the largest logit at 0.25, so those folders are calmer.
        if name.endswith("linear_attn.norm.weight") or name.endswith("dt_bias"):
            value = 1 + 0.2 * noise
        elif name.endswith("A_log"):
            value = 0.5 * noise
        else:  # norms stand around 0
            calm = 0.25 if dtype == torch.float32 or "embed" in name else 0.12
            value = (0.2 if "norm" in name else 0.5 if name.endswith("mlp.gate.weight") else calm) * noise
        p.data = value.to(dtype).to(torch.float32)
    model.tie_weights()
    state = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    folder.mkdir(parents=True, exist_ok=True)
    config.architectures = [classes[1].__name__]
    text = {k: v for k, v in config.to_dict().items() if k not in ("transformers_version", "_name_or_path")}
    state = state if fused else unfused(state)
    if tower:
        state, text = beside_a_tower(state, text, dtype, generator)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    ids = torch.randint(0, config.vocab_size, (1, 80), generator=torch.Generator().manual_seed(seed + 1))
    mixture = hasattr(config, "num_experts")
    out = model(ids, output_router_logits=True) if mixture else model(ids)
    mean = torch.nn.functional.cross_entropy(out.logits[0, :-1], ids[0, 1:])
    balance = config.router_aux_loss_coef * out.aux_loss if mixture else torch.zeros(())
    expected = {"input_ids": ids, "logits": out.logits.detach().contiguous(), "loss": mean.detach().reshape(1),
                "balance": balance.detach().reshape(1)}
    if gradients:
        (mean + balance).backward()
        grads = unfused({k: p.grad for k, p in model.named_parameters()})
        expected.update({"grad." + k: g.contiguous() for k, g in grads.items()})
    with torch.no_grad():
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, min_new_tokens=12, do_sample=False, pad_token_id=0)
    expected["greedy"] = made[0, ids.shape[1]:].contiguous()
    assert len(expected["greedy"]) == 12
    save_file(expected, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for i, (name, case) in enumerate(CASES.items()):
        make(pathlib.Path(sys.argv[1]) / name, 500 + 2 * i, *case)
        print(name)
