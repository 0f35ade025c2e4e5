#!/usr/bin/env python3
"""Makes goldens of LoRA adapters under tests/golden/lora_*: what PEFT saves, and what it computes with it.

Each folder holds adapter_config.json and adapter_model.safetensors as PEFT writes them, and expected.safetensors with
input_ids and logits (float32) of the base in tests/golden with the adapter in use. `base` in base.txt names it. Beside some
stands the same adapter as adapter.gguf in the layout of llama.cpp's converter.
gradients.json beside two of them: the mean loss of the ids, each to be told from those before it, and of every tensor's gradient the
length and the sum of its numbers times cos(0), cos(1), ... (row-major), computed in float64.
Run: python3 tools/reference/make_adapter_golden.py tests/golden    (needs peft, transformers, gguf)
"""
import json
import pathlib
import sys

import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    # name: (base, options of LoraConfig, also as GGUF)
    "lora_plain": ("qwen3_untied_f32", dict(r=4, lora_alpha=6, target_modules=ALL + ["lm_head"]), True),
    "lora_pattern": ("qwen3_untied_f32", dict(r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"],
                                              rank_pattern={"v_proj": 2}, alpha_pattern={"layers.1.self_attn.q_proj": 24, "v_proj": 3}), False),
    "lora_dora": ("qwen3_untied_f32", dict(r=3, lora_alpha=9, use_dora=True, target_modules=ALL), False),
    "lora_bias": ("qwen2_tied_f32", dict(r=4, lora_alpha=8, use_dora=True, bias="lora_only", target_modules=["q_proj", "k_proj", "o_proj"]), False),
    "lora_dora_bias": ("qwen2_untied_bf16", dict(r=4, lora_alpha=8, use_dora=True, target_modules=["q_proj", "k_proj", "o_proj"]), False),
    "lora_tied": ("qwen2_tied_f32", dict(r=4, lora_alpha=8, target_modules=["q_proj", "embed_tokens"]), True),
    "lora_saved": ("qwen3_untied_f32", dict(r=2, lora_alpha=4, target_modules=["v_proj"], modules_to_save=["lm_head", "embed_tokens", "norm"]), False),
    "lora_moe": ("qwen2_moe_untied_f32", dict(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "o_proj"]), False),
}
GRADIENTS = ("lora_dora", "lora_pattern")
GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(path):
    if path == "lm_head":
        return "output.weight"
    if path == "model.embed_tokens":
        return "token_embd.weight"
    _, _, layer, rest = path.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest]}.weight"


def write_gguf(folder, arch, alpha, tensors):
    writer = gguf.GGUFWriter(folder / "adapter.gguf", arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(alpha))
    for name, t in sorted(tensors.items()):
        path = name.removeprefix("base_model.model.")
        for mark, end in ((".lora_A.weight", "lora_a"), (".lora_B.weight", "lora_b"), (".lora_embedding_A", "lora_a"),
                          (".lora_embedding_B", "lora_b")):
            if path.endswith(mark):
                base = gguf_name(path.removesuffix(mark))
                # A table's rows are looked up, so its A lies the other way round.
                writer.add_tensor(f"{base}.{end}", np.ascontiguousarray(t.T.numpy() if mark == ".lora_embedding_A" else t.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(root, name, seed, base, options, as_gguf):
    config = AutoConfig.from_pretrained(root / base)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_pretrained(root / base, config=config, dtype=torch.float32).eval()
    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    generator = torch.Generator().manual_seed(seed)
    for key, p in sorted(model.named_parameters()):
        if p.requires_grad:  # what training would have moved; B is not left at zero
            noise = 0.2 * torch.randn(p.shape, generator=generator)
            p.data = p.data * (1 + noise) if "magnitude" in key else p.data + noise
    folder = root / name
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    text = json.loads((folder / "adapter_config.json").read_text())
    text.pop("peft_version", None)
    text["base_model_name_or_path"] = base
    text["target_modules"] = sorted(text["target_modules"])
    (folder / "adapter_config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    ids = torch.randint(0, config.vocab_size, (1, 20), generator=generator)
    with torch.no_grad():
        logits = model(ids).logits.contiguous()
        with model.disable_adapter():
            assert (model(ids).logits - logits).abs().max() > 0.1
    save_file({"input_ids": ids, "logits": logits}, folder / "expected.safetensors")
    (folder / "base.txt").write_text(base + "\n")
    if name in GRADIENTS:
        write_gradients(folder, model, ids)
    tensors = load_file(folder / "adapter_model.safetensors")
    if as_gguf:
        write_gguf(folder, config.model_type, options["lora_alpha"], tensors)
    print(name, len(tensors), sorted(tensors)[:3])


def write_gradients(folder, model, ids):
    model = model.double()
    loss = model(ids, labels=ids).loss
    loss.backward()
    gradients = {}
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        g = p.grad.flatten()
        name = name.replace(".default", "").removesuffix(".weight") if "magnitude" in name else name.replace(".default", "")
        gradients[name] = [float(f"{x:.9g}") for x in (g.norm(), (g * torch.arange(g.numel(), dtype=torch.float64).cos()).sum())]
    lines = ",\n".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in sorted(gradients.items()))
    (folder / "gradients.json").write_text(f'{{"loss":{loss.item():.9g},"gradients":{{\n{lines}}}}}\n')


def main():
    root = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    for i, (name, case) in enumerate(CASES.items()):
        make(root, name, 700 + i, *case)


if __name__ == "__main__":
    main()
