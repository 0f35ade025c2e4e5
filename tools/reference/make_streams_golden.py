#!/usr/bin/env python3
"""Makes goldens of qwen4_exp under tests/golden: tiny random checkpoints and what transformers (PyTorch, CPU) says of them.

Each folder is a Hugging Face model folder without tokenizer and expected.safetensors with
  input_ids [1, T] int64, logits [1, T, V] float32 (computed in float32 on the stored weights); T is more than one chunk of 64,
                          with end-of-text tokens inside, and but for _sparse_ no more than the indexer chooses all of
  greedy [G] int64        the greedy continuation of input_ids, by the reference's cached steps
  loss, balance [1]       mean cross-entropy of the next token over T - 1 rows; load-balancing loss with its coefficient
  grad.<parameter>        gradients of loss + balance (the folder in float32 only; the indexer has none)
Tables of n-grams stand in parts, as released. One folder is laid out beside a vision tower and drafting layers.
Run: python3 tools/reference/make_streams_golden.py tests/golden
"""
import json
import pathlib
import sys

import torch
from make_mixture_golden import unfused
from safetensors.torch import save_file
from transformers import Qwen4ExpForCausalLM, Qwen4ExpTextConfig

COMMON = dict(vocab_size=41, hidden_size=16, num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=99,
              rms_norm_eps=1e-6, attn_implementation="eager", linear_conv_kernel_dim=4, linear_key_head_dim=8,
              linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, num_experts=3, num_experts_per_tok=2,
              moe_intermediate_size=16, shared_expert_intermediate_size=16, router_aux_loss_coef=0.05, eos_token_id=3,
              hc_lowrank=8, indexer_n_heads=2, indexer_kv_heads=1, indexer_head_dim=8, indexer_budget=96, indexer_compress_ratio=4,
              rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))
CASES = {
    # name: (overrides, dtype, gradients, beside a vision tower)
    "qwen4_exp_f32": (dict(tie_word_embeddings=False, num_hidden_layers=3, hc_count=4, output_gate_type="sigmoid",
                           layer_types=["linear_attention", "linear_attention", "full_attention"], ple_layer_ids=[2], ple_embed_dim=24,
                           ngram_size=3, heads_per_ngram=2, ngram_vocab_size_base=60, make_ngram_vocab_size_divisible_by=8,
                           split_ngram_parts=4), torch.float32, True, False),
    # Two layers with n-grams, named in another order than they stand in.
    "qwen4_exp_bf16": (dict(tie_word_embeddings=False, num_hidden_layers=3, hc_count=2, layer_types=["linear_attention"] * 2 + ["full_attention"],
                            ple_layer_ids=[2, 1], ngram_size=2, heads_per_ngram=4, ngram_vocab_size_base=20, ple_conv_kernel_size=3,
                            make_ngram_vocab_size_divisible_by=16, split_ngram_parts=1), torch.bfloat16, False, True),
    # From the 15th token on the indexer leaves tokens out; its blocks are no part of a power of two.
    "qwen4_exp_sparse_f32": (dict(tie_word_embeddings=False, num_hidden_layers=1, hc_count=2, layer_types=["full_attention"], vocab_size=17,
                                  num_experts=2, moe_intermediate_size=4, shared_expert_intermediate_size=4, hc_lowrank=2, num_attention_heads=2, num_key_value_heads=1,
                                  indexer_n_heads=3, indexer_budget=12, indexer_compress_ratio=3), torch.float32, True, False),
}


def in_parts(state, parts):
    out = {}
    for name, t in state.items():
        if name.endswith("ngram_embedding.weight"):
            for i, part in enumerate(t.chunk(parts, dim=0)):
                out[name.replace("ngram_embedding.weight", f"ngram_embedding.shard_{i}.weight")] = part.contiguous()
        else:
            out[name] = t
    return out


def beside_a_tower(state, config, dtype, generator):
    out = {k.replace("model.", "model.language_model.", 1) if k.startswith("model.") else k: t for k, t in state.items()}
    out["model.visual.patch_embed.proj.weight"] = torch.randn(8, 4, generator=generator).to(dtype)
    out["mtp.fc_hidden.weight"] = torch.randn(16, 16, generator=generator).to(dtype)
    text = {k: v for k, v in config.items() if k not in ("architectures", "tie_word_embeddings")}
    return out, {"architectures": ["Qwen4ExpForConditionalGeneration"], "model_type": "qwen4_exp", "text_config": text,
                 "tie_word_embeddings": config["tie_word_embeddings"], "vision_config": {"depth": 1}}


def make(folder, seed, overrides, dtype, gradients, tower):
    config = Qwen4ExpTextConfig(**{**COMMON, **overrides})
    model = Qwen4ExpForCausalLM(config).to(torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("linear_attn.norm.weight") or name.endswith("dt_bias"):
            value = 1 + 0.2 * noise
        elif name.endswith("A_log"):
            value = 0.5 * noise
        else:  # norms stand around 0; calmer in bfloat16, as the other hybrids
            calm = 0.3 if dtype == torch.float32 or "embed" in name else 0.12
            value = (0.2 if "norm" in name else 0.5 if name.endswith("mlp.gate.weight") else calm) * noise
        p.data = value.to(dtype).to(torch.float32)
    state = {k: v if v.dtype == torch.int64 else v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    config.architectures = ["Qwen4ExpForCausalLM"]
    text = {k: v for k, v in config.to_dict().items() if k not in ("transformers_version", "_name_or_path")}
    text["layer_types"] = ["full_attention" if t == "indexed_attention" else t for t in text["layer_types"]]  # as released
    state = in_parts(unfused(state), config.split_ngram_parts)
    if tower:
        state, text = beside_a_tower(state, text, dtype, generator)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    ids = torch.randint(0, config.vocab_size, (1, 50 if "sparse" in folder.name else 80), generator=torch.Generator().manual_seed(seed + 1))
    ids[0, [7, 30, 31]] = config.eos_token_id
    out = model(ids, output_router_logits=True)
    mean = torch.nn.functional.cross_entropy(out.logits[0, :-1], ids[0, 1:])
    balance = config.router_aux_loss_coef * out.aux_loss
    expected = {"input_ids": ids, "logits": out.logits.detach().contiguous(), "loss": mean.detach().reshape(1),
                "balance": balance.detach().reshape(1)}
    if gradients:
        (mean + balance).backward()
        grads = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        assert all("indexer" in k for k, p in model.named_parameters() if p.grad is None)
        expected.update({"grad." + k: g.contiguous() for k, g in in_parts(unfused(grads), config.split_ngram_parts).items()})
    with torch.no_grad():
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, min_new_tokens=12, do_sample=False, pad_token_id=0)
    expected["greedy"] = made[0, ids.shape[1]:].contiguous()
    with torch.no_grad():  # generation is kept from ending: it must not have wanted to
        best = model(made).logits[0, ids.shape[1] - 1:-1].argmax(-1)
    assert len(expected["greedy"]) == 12 and torch.equal(best, expected["greedy"])
    save_file(expected, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for i, (name, case) in enumerate(CASES.items()):
        make(pathlib.Path(sys.argv[1]) / name, (700, 702, 728)[i], *case)
        print(name)
