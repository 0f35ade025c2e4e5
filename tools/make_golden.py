#!/usr/bin/env python3
"""Makes tests/golden: tiny random checkpoints and what the reference implementation (transformers, PyTorch, CPU) says.

Each folder is a complete Hugging Face model folder without tokenizer (config.json, model.safetensors) and
expected.safetensors with
  input_ids [B, T] int64, logits [B, T, V] float32   reference logits, computed in float32 on the stored weights
  yarn_logits [B, T, V] float32                      the same with YaRN x4 over 8 original positions (some folders)
  greedy [G] int64                                   the greedy continuation of input_ids
  loss [1] float32, grad.<parameter>                 mean cross-entropy of the next token over T - 1 rows, and its gradients (of those in float32)
Deterministic: the same versions of the libraries give the same bytes. Run: python3 tools/make_golden.py tests/golden
"""
import copy
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

COMMON = dict(vocab_size=61, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=32, rms_norm_eps=1e-6, rope_theta=10000.0)
CASES = {
    # name: (config, model, overrides, dtype, with YaRN)
    "qwen2_tied_f32": (Qwen2Config, Qwen2ForCausalLM, dict(tie_word_embeddings=True, hidden_size=32), torch.float32, False),
    "qwen2_untied_bf16": (Qwen2Config, Qwen2ForCausalLM, dict(tie_word_embeddings=False, num_key_value_heads=1, hidden_size=32), torch.bfloat16, False),
    "qwen3_untied_f32": (Qwen3Config, Qwen3ForCausalLM, dict(tie_word_embeddings=False, head_dim=16, rope_theta=1000000.0), torch.float32, True),
    "qwen3_tied_bf16": (Qwen3Config, Qwen3ForCausalLM, dict(tie_word_embeddings=True, head_dim=8, num_key_value_heads=4), torch.bfloat16, False),
    # Windows of 8 of the 28 tokens: in the layers from one on, and in those that are named.
    "qwen2_sliding_f32": (Qwen2Config, Qwen2ForCausalLM, dict(tie_word_embeddings=True, hidden_size=16, num_hidden_layers=3, use_sliding_window=True, sliding_window=8, max_window_layers=1), torch.float32, False),
    "qwen3_sliding_f32": (Qwen3Config, Qwen3ForCausalLM, dict(tie_word_embeddings=True, hidden_size=32, head_dim=8, use_sliding_window=True, sliding_window=5, layer_types=["sliding_attention", "full_attention"]), torch.float32, False),
}


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        # Large enough that every part of the network moves the logits; norms stay near one.
        p.data = 1 + 0.2 * noise if "norm" in name else 0.25 * noise


def loaded(cls, config, state):
    config = copy.deepcopy(config)
    config._attn_implementation = "eager"
    model = cls(config).to(torch.float32).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all("lm_head" in m for m in missing), (missing, unexpected)
    model.tie_weights()
    return model


def logits_of(cls, config, state, ids):
    with torch.no_grad():
        return loaded(cls, config, state)(ids).logits.contiguous()


def continued(model, ids, count=12):
    longer = ids
    with torch.no_grad():
        for _ in range(count):
            longer = torch.cat([longer, model(longer).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return longer[0, ids.shape[1]:].contiguous()


def gradients_of(model, ids):
    loss = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])
    loss.backward()
    return {"loss": loss.detach().reshape(1)} | {"grad." + k: p.grad for k, p in model.named_parameters()}


def make(folder, seed, config_class, model_class, overrides, dtype, yarn):
    config = config_class(**{**COMMON, **overrides})
    model = model_class(config)
    randomise(model, seed)
    state = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config.architectures = [model_class.__name__]
    text = config.to_dict()
    for key in ("transformers_version", "_name_or_path"):
        text.pop(key, None)
    (folder / "config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    ids = torch.randint(0, config.vocab_size, (1, 28), generator=torch.Generator().manual_seed(seed + 1))
    wide = {k: v.to(torch.float32) for k, v in state.items()}
    reference = loaded(model_class, config, wide)
    expected = {"input_ids": ids, "logits": logits_of(model_class, config, wide, ids), "greedy": continued(reference, ids)}
    expected |= {k: v for k, v in gradients_of(reference, ids).items() if dtype == torch.float32 or k == "loss"}
    if getattr(config, "use_sliding_window", False):
        whole = copy.deepcopy(config)
        whole.layer_types = ["full_attention"] * config.num_hidden_layers
        assert (logits_of(model_class, whole, wide, ids) - expected["logits"]).abs().max() > 1e-3
    if yarn:
        scaled = config_class(**{**COMMON, **overrides, "rope_scaling": {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "rope_theta": config.to_dict().get("rope_theta") or overrides.get("rope_theta", 10000.0)}})
        expected["yarn_logits"] = logits_of(model_class, scaled, wide, ids)
        assert (expected["yarn_logits"] - expected["logits"]).abs().max() > 1e-3
    save_file(expected, folder / "expected.safetensors")


def main():
    root = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    for i, (name, case) in enumerate(CASES.items()):
        make(root / name, 100 + i, *case)
        print(name)


if __name__ == "__main__":
    main()
