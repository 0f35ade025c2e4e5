#!/usr/bin/env python3
"""Makes goldens of quantised checkpoints under tests/golden: tiny random folders in FP8, GPTQ and AWQ.

The numbers of a folder are drawn first (codes, zero points, scales), so what a weight is worth is known without any
reader: scale * (code - zero). They are packed as the published packers pack them, and the packing is checked by
unpacking it with a transcription of the published unpackers (GPTQModel's torch kernel; AutoAWQ's gemm layout). FP8
is checked against transformers' own dequantisation.
expected.safetensors holds input_ids, logits (transformers, float32, on the dequantised weights) and, as weight.<name>,
some dequantised weights as a reader should give them: exact, or rounded to the format of the scales where groups are
not in the order of the inputs.
Run: python3 tools/reference/make_quantised_golden.py tests/golden
"""
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

COMMON = dict(vocab_size=61, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
              num_key_value_heads=2, head_dim=16, max_position_embeddings=64, rms_norm_eps=1e-6, rope_theta=10000.0,
              tie_word_embeddings=False, attn_implementation="eager")
MOE = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True, decoder_sparse_step=1)
KEPT = ("q_proj", "down_proj")  # whose dequantised weights are written
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def pack_rows(codes, bits):  # [in, out] -> int32 [in * bits / 32, out]
    n = 32 // bits
    words = np.zeros((codes.shape[0] // n, codes.shape[1]), np.uint32)
    for j in range(n):
        words |= codes[j::n].astype(np.uint32) << np.uint32(bits * j)
    return words.view(np.int32)


def pack_columns(codes, bits, order=None):  # [g, out] -> int32 [g, out * bits / 32]
    n = 32 // bits
    words = np.zeros((codes.shape[0], codes.shape[1] // n), np.uint32)
    for place in range(n):
        words |= codes[:, (order[place] if order else place)::n].astype(np.uint32) << np.uint32(bits * place)
    return words


def unpack_gptq(qweight, qzeros, scales, g_idx, bits, v1):
    """GPTQModel: one is added to each field of a v1 file's words as they are loaded, then fields are taken apart."""
    zeros = qzeros.copy().view(np.uint32)
    if v1:
        zeros = (zeros + np.uint32(0x11111111 if bits == 4 else 0x01010101)).astype(np.uint32)
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    z = torch.bitwise_right_shift(torch.from_numpy(zeros.view(np.int32)).unsqueeze(2), shifts[None, None, :])
    z = torch.bitwise_and(z, 2 ** bits - 1).reshape(scales.shape)
    w = torch.bitwise_right_shift(torch.from_numpy(qweight).unsqueeze(1), shifts[None, :, None])
    w = torch.bitwise_and(w, 2 ** bits - 1).reshape(-1, qweight.shape[1])
    g = torch.from_numpy(g_idx).long()
    return scales[g] * (w - z[g]).to(scales.dtype)  # [in, out], rounded to the scales' type


def unpack_awq(qweight, qzeros, scales, group):
    shifts = torch.arange(0, 32, 4)
    reverse = [0, 4, 1, 5, 2, 6, 3, 7]
    fields = []
    for t in (qweight, qzeros):
        f = torch.bitwise_and(torch.bitwise_right_shift(torch.from_numpy(t)[:, :, None], shifts[None, None, :]), 15)
        f = f.reshape(t.shape[0], -1)
        order = torch.arange(f.shape[1]).view(-1, 8)[:, reverse].reshape(-1)
        fields.append(f[:, order])
    return (fields[0] - fields[1].repeat_interleave(group, 0)) * scales.repeat_interleave(group, 0)


def grouped(rng, shape, case):
    """One weight [out, in]: the tensors of the file, and its values as float32."""
    out, width = shape
    bits, group = case["bits"], case["group"] if case["group"] > 0 else width
    groups = -(-width // group)
    top = 2 ** bits - 1
    codes = rng.integers(0, top + 1, (width, out))
    codes[0, :] = 0
    codes[1, :] = top
    zeros = np.full((groups, out), 2 ** (bits - 1)) if case["sym"] else rng.integers(0, top + 1, (groups, out))
    scales = torch.from_numpy(rng.uniform(0.2, 1.0, (groups, out)) * 0.9 / 2 ** bits).to(case["scales"])
    g_idx = np.arange(width, dtype=np.int32) // group
    if case.get("act_order"):
        g_idx = rng.permutation(g_idx).astype(np.int32)
    exact = scales[g_idx].double() * torch.from_numpy(codes - zeros[g_idx])
    if case["awq"]:
        parts = {"qweight": pack_columns(codes, 4, AWQ_ORDER).view(np.int32),
                 "qzeros": pack_columns(zeros, 4, AWQ_ORDER).view(np.int32)}
        again = unpack_awq(parts["qweight"], parts["qzeros"], scales, group)
    else:
        words = pack_columns(zeros, bits)
        if case["v1"]:
            words = (words - np.uint32(0x11111111 if bits == 4 else 0x01010101)).astype(np.uint32)
        parts = {"qweight": pack_rows(codes, bits), "qzeros": words.view(np.int32)}
        again = unpack_gptq(parts["qweight"], parts["qzeros"], scales, g_idx, bits, case["v1"])
        if case.get("g_idx", True):
            parts["g_idx"] = g_idx
    assert torch.equal(again, exact.to(scales.dtype))
    # A reader that keeps the integers has the exact values; one that multiplies them out rounds to the scales' type.
    value = exact.float() if case["exact"] else exact.to(scales.dtype).float()
    assert not case["exact"] or torch.equal(value.double(), exact)
    parts = {k: torch.from_numpy(v.copy()) for k, v in parts.items()}
    return {**parts, "scales": scales.contiguous()}, value.t().contiguous()


def fp8(rng, shape, case):
    rows, columns = shape
    down, across = case["block"] or shape
    weight = torch.from_numpy(rng.normal(0, 100, shape)).float().clamp(-448, 448).to(torch.float8_e4m3fn)
    grid = (-(-rows // down), -(-columns // across))
    scales = torch.from_numpy(rng.uniform(0.5, 1.5, grid) * 0.0025).to(case["scales"])
    wide = scales.float().repeat_interleave(down, 0)[:rows].repeat_interleave(across, 1)[:, :columns]
    value = (weight.float() * wide).to(torch.bfloat16)
    if rows % grid[0] == 0 and columns % grid[1] == 0 and rows // grid[0] == down and columns // grid[1] == across:
        theirs = Fp8Dequantize(None)._dequantize_one(weight, scales, output_dtype=torch.bfloat16)
        assert torch.equal(value, theirs)
    if case["block"] is None:
        scales = scales.reshape(())
    return {"weight": weight, "weight_scale_inv": scales}, value.float()


def gptq(bits, group, sym, v1=True, **more):
    return dict(kind="gptq", awq=False, bits=bits, group=group, sym=sym, v1=v1, scales=torch.float16, exact=True, **more)


CASES = {
    "quant_gptq_int4": gptq(4, 32, True),
    "quant_gptq_int4_zeros": gptq(4, 32, False, g_idx=False),
    "quant_gptq_int4_order": {**gptq(4, 16, False, v1=False, act_order=True), "exact": False},
    "quant_gptq_int8": gptq(8, -1, True, bias=True),
    "quant_awq": dict(kind="awq", awq=True, bits=4, group=32, sym=False, scales=torch.float16, exact=True, shards=2),
    "quant_fp8_moe": dict(kind="fp8", block=[16, 16], scales=torch.float32, moe=True),
    "quant_fp8_cut": dict(kind="fp8", block=[24, 40], scales=torch.bfloat16),
    "quant_fp8_single": dict(kind="fp8", block=None, scales=torch.float32),
}


def quantization_config(case):
    if case["kind"] == "fp8":
        return {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": case["block"],
                "modules_to_not_convert": ["lm_head", "model.layers.0.input_layernorm"]}
    if case["kind"] == "awq":
        return {"quant_method": "awq", "bits": 4, "group_size": case["group"], "version": "gemm", "zero_point": True,
                "modules_to_not_convert": None}
    return {"quant_method": "gptq", "bits": case["bits"], "group_size": case["group"], "sym": case["sym"],
            "desc_act": bool(case.get("act_order")), "damp_percent": 0.01, "true_sequential": True,
            "checkpoint_format": "gptq" if case["v1"] else "gptq_v2"}


def save(folder, state, shards):
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, where = sorted(state), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {n: state[n] for n in names[i::shards]}  # parts of one weight lie in different shards
        save_file(part, folder / file, metadata={"format": "pt"})
        where.update({n: file for n in part})
    size = sum(t.numel() * t.element_size() for t in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": {n: where[n] for n in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def make(folder, seed, case):
    rng = np.random.default_rng(seed)
    classes = (Qwen3MoeConfig, Qwen3MoeForCausalLM) if case.get("moe") else (Qwen3Config, Qwen3ForCausalLM)
    config = classes[0](**COMMON, **(MOE if case.get("moe") else {}))
    model = classes[1](config).to(torch.float32).eval()
    values, stored = {}, {}
    for name, p in sorted(model.state_dict().items()):
        plain = p.dim() == 1 or "embed" in name or "lm_head" in name or name.endswith("mlp.gate.weight")
        if plain:
            noise = torch.from_numpy(rng.normal(0, 1, tuple(p.shape))).float()
            values[name] = stored[name] = (1 + 0.2 * noise if "norm" in name else 0.3 * noise).to(torch.float16)
            values[name] = values[name].float()
            continue
        parts = [(name, tuple(p.shape), lambda v: v)]
        if p.dim() == 3:  # experts, which the files hold one by one
            values[name] = torch.zeros_like(p)
            stem, half = name.rsplit(".", 1)[0], p.shape[1] // 2
            pieces = []
            for e in range(p.shape[0]):
                if name.endswith("gate_up_proj"):
                    pieces += [(f"{stem}.{e}.gate_proj.weight", (half, p.shape[2]), (e, slice(0, half))),
                               (f"{stem}.{e}.up_proj.weight", (half, p.shape[2]), (e, slice(half, None)))]
                else:
                    pieces += [(f"{stem}.{e}.down_proj.weight", tuple(p.shape[1:]), (e, slice(None)))]
            for piece, shape, where in pieces:
                tensors, value = fp8(rng, shape, case)
                values[name][where] = value
                stored.update({f"{piece[:-7]}.{k}": t for k, t in tensors.items()})
                case.setdefault("found", {})[piece] = value
            continue
        tensors, value = (fp8 if case["kind"] == "fp8" else grouped)(rng, tuple(p.shape), case)
        values[name] = value
        stored.update({f"{name[:-7]}.{k}": t for k, t in tensors.items()})
        if case.get("bias"):
            stored[f"{name[:-7]}.bias"] = torch.zeros(p.shape[0], dtype=torch.float16)
    model.load_state_dict(values)
    folder.mkdir(parents=True, exist_ok=True)
    save(folder, {k: t.contiguous() for k, t in stored.items()}, case.get("shards", 1))
    config.architectures = [classes[1].__name__]
    text = {k: v for k, v in config.to_dict().items() if k not in ("transformers_version", "_name_or_path")}
    text["dtype"] = "bfloat16" if case["kind"] == "fp8" else "float16"
    text["quantization_config"] = quantization_config(case)
    (folder / "config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    ids = torch.randint(0, config.vocab_size, (1, 20), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = {"input_ids": ids, "logits": model(ids).logits.contiguous()}
    for name, value in {**values, **case.get("found", {})}.items():
        if any(k in name for k in KEPT) and value.dim() == 2:
            expected["weight." + name] = value.contiguous()
    save_file(expected, folder / "expected.safetensors")


def main():
    root = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    for i, (name, case) in enumerate(CASES.items()):
        make(root / name, 500 + i, case)
        print(name)


if __name__ == "__main__":
    main()
