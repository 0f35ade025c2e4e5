#!/usr/bin/env python3
"""Models of the published shapes with random weights, as GGUF files that this program and its peers all load: for
measurements of speed, where only shapes and number formats matter.

Usage: python bench/make_models.py --tokenizer FOLDER [--template FILE] [--build build/release] OUT [NAME.TYPE ...]
FOLDER holds vocab.json, merges.txt and tokenizer_config.json of Qwen. NAME is a key of SHAPES below, TYPE one of
`qianwen quantize`'s or bf16; without any, the set that bench/compare takes. What is there already stays. Needs the targets
qianwen and make_random_checkpoint, and for a shape of n parameters 2n bytes of disk while it runs.
"""
import argparse
import json
import pathlib
import shutil
import subprocess

COMMON = {"max_position_embeddings": 40960, "rope_theta": 1000000, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
          "hidden_act": "silu", "attention_bias": False, "torch_dtype": "bfloat16", "vocab_size": 151936}
QWEN3 = {**COMMON, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128, "num_key_value_heads": 8}
SHAPES = {
    "qwen3-0.6b": {**QWEN3, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "qwen3-4b": {**QWEN3, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
    # The layers of Qwen3-30B-A3B, six of the 48: 4.2 billion parameters, 0.95 billion of them active.
    "qwen3-moe": {**COMMON, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048,
                  "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
                  "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "num_hidden_layers": 6,
                  "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "tie_word_embeddings": False},
    "qwen3.5-0.8b": {**COMMON, "architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", "hidden_size": 1024,
                     "intermediate_size": 3584, "num_hidden_layers": 24, "num_attention_heads": 8, "num_key_value_heads": 2,
                     "head_dim": 256, "full_attention_interval": 4, "linear_num_key_heads": 16, "linear_num_value_heads": 16,
                     "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "vocab_size": 248320,
                     "partial_rotary_factor": 0.25},
}
DEFAULT = ([f"qwen3-0.6b.{t}" for t in ("bf16", "f16", "q4_0", "q4_k_m", "q8_0", "iq4_xs", "q6_k", "q5_k_m", "iq4_nl", "mxfp4")] +
           ["qwen3-4b.q4_0", "qwen3-4b.q4_k_m", "qwen3-moe.q4_0", "qwen3-moe.q4_k_m", "qwen3.5-0.8b.q4_0", "qwen3.5-0.8b.q4_k_m"])
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                   "generation_config.json")


def checkpoint(options, shape):
    """The folder of `shape` with BF16 weights, made if it is not there."""
    folder = options.out / f"{shape}.checkpoint"
    if not folder.exists():
        config = options.out / f"{shape}.json"
        config.write_text(json.dumps(SHAPES[shape]))
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run([options.build / "make_random_checkpoint", config, partial], check=True)
        for name in TOKENIZER_FILES:
            if (options.tokenizer / name).exists():
                shutil.copy(options.tokenizer / name, partial / name)
        if options.template:
            shutil.copy(options.template, partial / "chat_template.jinja")
        partial.rename(folder)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--template", type=pathlib.Path)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--keep-checkpoints", action="store_true")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("models", nargs="*")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = {}
    for model in options.models or DEFAULT:
        shape, type_name = model.rsplit(".", 1)
        if not (options.out / f"{model}.gguf").exists():
            wanted.setdefault(shape, []).append(type_name)
    for shape, types in wanted.items():
        folder = checkpoint(options, shape)
        for type_name in types:
            file = options.out / f"{shape}.{type_name}.gguf"
            print(file, flush=True)
            subprocess.run([options.build / "qianwen", "quantize", folder, file, "--type", type_name, "--json"], check=True,
                           stdout=subprocess.DEVNULL)
        if not options.keep_checkpoints:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
