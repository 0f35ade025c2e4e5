"""Makes a tiny checkpoint folder of every architecture and variant, laid out as the released ones are. Standard library only.

Keys of config.json, names of tensors, shards with their index and the files of the tokenizer are those of the releases;
numbers are drawn from a seed. make(program, name, folder) makes one; NAMES lists them.
"""
import array
import base64
import itertools
import json
import math
import pathlib
import random
import shutil
import struct
import subprocess

WIDTH, FFN, HEADS, KV, VOCAB = 256, 256, 4, 2, 304
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256, "decoder_sparse_step": 1, "mlp_only_layers": []}
POOL = 65521  # a prime: no two rows of a table begin at the same place of the pool


def drawn_pool():
    rng = random.Random(1)
    values = array.array("f", [rng.gauss(0, 1) for _ in range(POOL)])
    values.extend(values)
    return values


class Weights:
    """Tensors by name, in the order they were added; random ones are cut from one pool of normal numbers."""

    def __init__(self, pool):
        self.tensors, self.pool, self.at = {}, pool, 0

    def numbers(self, count, std, around):
        out = array.array("f")
        while len(out) < count:
            out.extend(self.pool[self.at:self.at + min(POOL, count - len(out))])
            self.at = (self.at + 40961) % POOL
        return array.array("f", [around + std * x for x in out])

    def add(self, name, shape, std=0.06, around=0.0, dtype="BF16"):
        values = self.numbers(math.prod(shape), std, around)
        if dtype == "BF16":  # the upper half of each float
            raw = values.tobytes()
            half = bytearray(len(raw) // 2)
            half[0::2], half[1::2] = raw[2::4], raw[3::4]
            raw = bytes(half)
        elif dtype == "F16":
            raw = struct.pack(f"<{len(values)}e", *values)
        else:
            raw = values.tobytes()
        self.tensors[name] = (dtype, list(shape), raw)

    def norm(self, name, n, around=1.0):
        self.add(name, [n], 0.1, around)

    def raw(self, name, dtype, shape, data):
        self.tensors[name] = (dtype, list(shape), bytes(data))

    def save(self, folder, shards):
        names, where, total = list(self.tensors), {}, 0
        for i in range(shards):
            part = names[i::shards]
            file = f"model-{i + 1:05}-of-{shards:05}.safetensors" if shards > 1 else "model.safetensors"
            header, data = {"__metadata__": {"format": "pt"}}, []
            at = 0
            for name in part:
                dtype, shape, raw = self.tensors[name]
                header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
                data.append(raw)
                at += len(raw)
                where[name] = file
            text = json.dumps(header).encode()
            text += b" " * (-len(text) % 8)
            (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
            total += at
        if shards > 1:
            (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}))


# ---- layers -----------------------------------------------------------------------------------------------------------

seeds = itertools.count(1)


def fp8(rows, width):
    """Codes of a weight, and the shape of its scales by its rows."""
    codes = bytes(b if b & 0x7F != 0x7F else b ^ 1 for b in random.Random(next(seeds)).randbytes(rows * width))  # no NaN
    return bytes((b & 0x80) | (b & 0x7F) % 0x60 for b in codes), lambda n: [-(-n // 128), -(-width // 128)]  # up to 30: not all large


def matrix(w, name, out, width, form):
    """One weight, plain or as quantised releases store it."""
    if form == "bf16":
        return w.add(name + ".weight", [out, width])
    if form == "fp8":
        codes, scales = fp8(out, width)
        w.raw(name + ".weight", "F8_E4M3", [out, width], codes)
        return w.add(name + ".weight_scale_inv", scales(out), 0.002, 0.012)
    rng = random.Random(next(seeds))
    bits = 8 if form == "gptq8" else 4
    group, n = 128, 32 // bits
    groups = width // group
    scale = 0.06 / (4.6 if bits == 4 else 74)
    if form == "awq":
        w.raw(name + ".qweight", "I32", [width, out // n], rng.randbytes(4 * width * out // n))
        w.raw(name + ".qzeros", "I32", [groups, out // n], bytes([0x77, 0x88] * (2 * groups * out // n)))
    else:
        w.raw(name + ".qweight", "I32", [width // n, out], rng.randbytes(4 * width // n * out))
        w.raw(name + ".qzeros", "I32", [groups, out // n], (b"\x77" if bits == 4 else b"\x7f") * (4 * groups * out // n))
        index = [i // group for i in range(width)]
        if form == "gptq4_order":
            rng.shuffle(index)
        w.raw(name + ".g_idx", "I32", [width], struct.pack(f"<{width}i", *index))
    w.add(name + ".scales", [groups, out], scale / 8, scale, "F16")


def mlp(w, prefix, width, form="bf16", d=WIDTH):
    for name in ("gate", "up"):
        matrix(w, f"{prefix}{name}_proj", width, d, form)
    matrix(w, f"{prefix}down_proj", d, width, form)


def experts(w, prefix, form="bf16", shared=None, fused=False):
    w.add(prefix + "gate.weight", [MOE["num_experts"], WIDTH])
    f = MOE["moe_intermediate_size"]
    if fused == "transposed":
        whole = (("gate_up_proj", WIDTH, 2 * f), ("down_proj", f, WIDTH))
        for name, rows, columns in whole:
            if form == "fp8":
                codes, scales = fp8(MOE["num_experts"] * rows, columns)
                w.raw(f"{prefix}experts.{name}", "F8_E4M3", [MOE["num_experts"], rows, columns], codes)
                w.add(f"{prefix}experts.{name}_scale_inv", [MOE["num_experts"], *scales(rows)], 0.002, 0.012)
            else:
                w.add(f"{prefix}experts.{name}", [MOE["num_experts"], rows, columns])
    elif fused:
        w.add(prefix + "experts.gate_up_proj", [MOE["num_experts"], 2 * f, WIDTH])
        w.add(prefix + "experts.down_proj", [MOE["num_experts"], WIDTH, f])
    else:
        for e in range(MOE["num_experts"]):
            mlp(w, f"{prefix}experts.{e}.", f, form)
    if shared:
        mlp(w, prefix + "shared_expert.", shared, form)
        w.add(prefix + "shared_expert_gate.weight", [1, WIDTH])


def attention(w, prefix, form, head_dim, biases=False, head_norms=True, gate=False, around=1.0):
    for name, heads in (("q", HEADS * (2 if gate else 1)), ("k", KV), ("v", KV)):
        matrix(w, f"{prefix}{name}_proj", heads * head_dim, WIDTH, form)
        if biases:
            w.add(f"{prefix}{name}_proj.bias", [heads * head_dim], 0.2)
    matrix(w, prefix + "o_proj", WIDTH, HEADS * head_dim, form)
    if head_norms:
        for name in ("q_norm", "k_norm"):
            w.norm(f"{prefix}{name}.weight", head_dim, around)


def delta(w, prefix, packed, form="bf16"):
    keys, values = 2 * 64, 4 * 64
    if packed:
        matrix(w, prefix + "in_proj_qkvz", 2 * keys + 2 * values, WIDTH, form)
        w.add(prefix + "in_proj_ba.weight", [8, WIDTH])
    else:
        matrix(w, prefix + "in_proj_qkv", 2 * keys + values, WIDTH, form)
        matrix(w, prefix + "in_proj_z", values, WIDTH, form)
        for name in ("b", "a"):
            w.add(f"{prefix}in_proj_{name}.weight", [4, WIDTH])
    w.add(prefix + "conv1d.weight", [2 * keys + values, 1, 4], 1.0)  # queries and keys then agree more or less, as trained ones do
    w.add(prefix + "A_log", [4], 0.3, 1.0)
    w.norm(prefix + "dt_bias", 4)
    w.norm(prefix + "norm.weight", 64)
    matrix(w, prefix + "out_proj", WIDTH, values, form)


def body(w, prefix, kind, layers, form="bf16", head_dim=64, fused=False, tied=False, head="lm_head.weight", vocab=VOCAB):
    hybrid = kind in ("qwen3_next", "qwen3_5", "qwen3_5_moe")
    around = 0.0 if hybrid else 1.0
    old = kind in ("qwen2", "qwen2_moe")
    w.add(prefix + "embed_tokens.weight", [vocab, WIDTH], 0.06 if tied else 0.3)
    for i in range(layers):
        p = f"{prefix}layers.{i}."
        w.norm(p + "input_layernorm.weight", WIDTH, around)
        if hybrid and (i + 1) % 4 != 0:
            delta(w, p + "linear_attn.", kind == "qwen3_next", form)
        else:
            attention(w, p + "self_attn.", form, head_dim, old, not old, hybrid, around)
        w.norm(p + "post_attention_layernorm.weight", WIDTH, around)
        if "moe" in kind or kind == "qwen3_next":
            experts(w, p + "mlp.", form, None if kind == "qwen3_moe" else 256, fused)
        else:
            mlp(w, p + "mlp.", FFN, form)
    w.norm(prefix + "norm.weight", WIDTH, around)
    if head and not tied:
        w.add(head, [vocab, WIDTH])
    return w


def first_generation(w, form):
    w.add("transformer.wte.weight", [VOCAB_FIRST, WIDTH], 0.3)
    for i in range(2):
        p = f"transformer.h.{i}."
        for name in ("ln_1", "ln_2"):
            w.norm(f"{p}{name}.weight", WIDTH)
        matrix(w, p + "attn.c_attn", 3 * WIDTH, WIDTH, form)
        w.add(p + "attn.c_attn.bias", [3 * WIDTH], 0.2)
        matrix(w, p + "attn.c_proj", WIDTH, WIDTH, form)
        for name in ("w1", "w2"):
            matrix(w, f"{p}mlp.{name}", FFN, WIDTH, form)
        matrix(w, p + "mlp.c_proj", WIDTH, FFN, form)
    w.norm("transformer.ln_f.weight", WIDTH)
    w.add("lm_head.weight", [VOCAB_FIRST, WIDTH])


def drafts(w, sparse=False, fused=False, form="bf16"):
    """The layer that drafts later tokens."""
    w.add("mtp.fc.weight", [WIDTH, 2 * WIDTH])
    for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm", "layers.0.input_layernorm", "layers.0.post_attention_layernorm"):
        w.norm(f"mtp.{name}.weight", WIDTH, 0.0)
    attention(w, "mtp.layers.0.self_attn.", form, 64, gate=True, around=0.0)
    if sparse:
        experts(w, "mtp.layers.0.mlp.", form, shared=256, fused=fused)
    else:
        mlp(w, "mtp.layers.0.mlp.", FFN, form)


# ---- configurations ---------------------------------------------------------------------------------------------------

def config(kind, architecture, layers, **more):
    c = {"architectures": [architecture], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act": "silu",
         "hidden_size": WIDTH, "initializer_range": 0.02, "intermediate_size": FFN, "max_position_embeddings": 32768,
         "max_window_layers": layers, "model_type": kind, "num_attention_heads": HEADS, "num_hidden_layers": layers,
         "num_key_value_heads": KV, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
         "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": True,
         "use_sliding_window": False, "vocab_size": VOCAB}
    return c | more


QWEN3 = {"attention_bias": False, "head_dim": 64, "max_position_embeddings": 40960, "rope_scaling": None, "sliding_window": None}
HYBRID = {"attention_bias": False, "head_dim": 64, "full_attention_interval": 4, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 64,
          "linear_value_head_dim": 64, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "max_position_embeddings": 262144}
PARTIAL = {"rope_theta": 10000000, "partial_rotary_factor": 0.25, "rope_scaling": None}
AXES = {"rope_parameters": {"mrope_interleaved": True, "mrope_section": [3, 3, 2], "rope_type": "default", "rope_theta": 10000000,
                            "partial_rotary_factor": 0.25}}
SHARED = {**MOE, "shared_expert_intermediate_size": 256, "router_aux_loss_coef": 0.001, "output_router_logits": False}
LEVELS = {"0": "Safe", "1": "Unsafe", "2": "Controversial"}
CATEGORIES = {str(i): n for i, n in enumerate(["None", "Violent", "Illegal", "Sexual", "PII", "Self-Harm", "Unethical", "Political", "Jailbreak"])}

VOCAB_FIRST = 544  # 256 bytes and 33 merges, three marks, 205 extras, and rows without tokens


def gptq(bits, order=False):
    return {"quantization_config": {"bits": bits, "damp_percent": 0.01, "desc_act": order, "group_size": 128, "model_file_base_name": "model",
                                    "model_name_or_path": None, "quant_method": "gptq", "static_groups": False, "sym": True, "true_sequential": True}}


AWQ = {"quantization_config": {"bits": 4, "group_size": 128, "modules_to_not_convert": None, "quant_method": "awq", "version": "gemm", "zero_point": True}}
FP8 = {"quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128],
                               "modules_to_not_convert": ["lm_head"]}}


def dense2(w, form="bf16", tied=False, **more):
    body(w, "model.", "qwen2", 2, form, tied=tied)
    return config("qwen2", "Qwen2ForCausalLM", 2, tie_word_embeddings=tied, **more)


VOCAB_CHARACTERS = 448  # 423 tokens of tests/golden/characters, and rows without tokens


def characters(w):
    """CodeQwen1.5: a vocabulary of characters, as a SentencePiece model is converted to tokenizer.json."""
    body(w, "model.", "qwen2", 2, vocab=VOCAB_CHARACTERS)
    return config("qwen2", "Qwen2ForCausalLM", 2, bos_token_id=2, eos_token_id=2, rms_norm_eps=1e-5, vocab_size=VOCAB_CHARACTERS)


def dense3(w, form="bf16", tied=False, **more):
    body(w, "model.", "qwen3", 2, form, tied=tied)
    return config("qwen3", "Qwen3ForCausalLM", 2, tie_word_embeddings=tied, **QWEN3 | more)


def mixture3(w, form="bf16", **more):
    body(w, "model.", "qwen3_moe", 2, form)
    return config("qwen3_moe", "Qwen3MoeForCausalLM", 2, **QWEN3 | MOE | {"norm_topk_prob": True} | more)


def with_head(kind, architecture, name, outputs, **more):
    def build(w):
        body(w, "" if name == "bare" else "model.", kind, 2, head=None)
        if name == "layers":
            for i, n in ((0, WIDTH), (2, outputs)):
                w.add(f"score.{i}.weight", [n, WIDTH], 0.06 if i == 0 else 0.02)
                w.add(f"score.{i}.bias", [n], 0.1)
        elif name == "score":
            w.add("score.weight", [outputs, WIDTH])
        elif name == "guard":
            for prefix, n in (("", 8), ("query_", 9)):
                w.add(prefix + "risk_level_category_pre.weight", [128, WIDTH])
                w.norm(prefix + "risk_level_category_layernorm.weight", 128)
                w.add(prefix + "risk_level_head.weight", [3, 128])
                w.add(prefix + "category_head.weight", [n, 128])
        return config(kind, architecture, 2, **(QWEN3 if kind == "qwen3" else {}) | more)
    return build


def qwen(w, form="bf16", **more):
    first_generation(w, form)
    return {"architectures": ["QWenLMHeadModel"], "auto_map": {"AutoConfig": "configuration_qwen.QWenConfig", "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel"},
            "attn_dropout_prob": 0.0, "bf16": False, "emb_dropout_prob": 0.0, "fp16": False, "fp32": False, "hidden_size": WIDTH,
            "intermediate_size": 2 * FFN, "initializer_range": 0.02, "kv_channels": 64, "layer_norm_epsilon": 1e-06,
            "max_position_embeddings": 8192, "model_type": "qwen", "no_bias": True, "num_attention_heads": HEADS, "num_hidden_layers": 2,
            "onnx_safe": None, "rotary_emb_base": 10000, "rotary_pct": 1.0, "scale_attn_weights": True, "seq_length": 2048,
            "tie_word_embeddings": False, "tokenizer_class": "QWenTokenizer", "transformers_version": "4.32.0", "use_cache": True,
            "use_dynamic_ntk": True, "use_flash_attn": "auto", "use_logn_attn": True, "vocab_size": VOCAB_FIRST} | more


def mixture2(w):
    body(w, "model.", "qwen2_moe", 2)
    return config("qwen2_moe", "Qwen2MoeForCausalLM", 2, **SHARED, norm_topk_prob=False)


def following(form="bf16", **more):
    def build(w):
        body(w, "model.", "qwen3_next", 4, form)
        drafts(w, sparse=True, form=form)
        return config("qwen3_next", "Qwen3NextForCausalLM", 4, **HYBRID | PARTIAL | SHARED | {"norm_topk_prob": True} | more)
    return build


def senses(kind, architecture, layers, text_type, form="bf16", fused=False, tied=False, text=None, top=None):
    """A model of several senses: the language model's numbers under text_config, its tensors beside a tower's."""
    def build(w):
        body(w, "model.language_model.", kind, layers, form, fused=fused, tied=tied)
        w.add("model.visual.patch_embed.proj.weight", [64, 3, 2, 4, 4])
        w.add("model.visual.blocks.0.attn.qkv.weight", [192, 64])
        if kind.startswith("qwen3_5"):
            drafts(w, sparse=kind.endswith("moe"), fused=fused, form=form)
        c = config(text_type, architecture, layers, **(text or {}))
        c.pop("architectures"), c.pop("tie_word_embeddings")
        return {"architectures": [architecture], "image_token_id": 248056, "model_type": text_type.removesuffix("_text"), "text_config": c,
                "tie_word_embeddings": tied, "vision_config": {"depth": 1, "hidden_size": 64}, "vision_start_token_id": 248053} | (top or {})
    return build


def text_only_mixture(w):
    body(w, "model.", "qwen3_5_moe", 4, fused=True)
    drafts(w, sparse=True)
    return config("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", 4, **HYBRID | AXES | SHARED)


def older_senses(w, kind):
    """Qwen2-VL and 2.5-VL as released: one flat configuration, the tower's tensors beside model."""
    body(w, "model.", "qwen2", 2)
    w.add("visual.patch_embed.proj.weight", [64, 3, 2, 4, 4])
    return config(kind, "Qwen2VLForConditionalGeneration", 2, rope_scaling={"type": "mrope", "mrope_section": [8, 12, 12]},
                  vision_config={"depth": 1, "embed_dim": 64, "model_type": kind}, image_token_id=151655, vision_start_token_id=151652)


def first_senses(w, sense):
    """Qwen-VL and Qwen-Audio of 2023: the language model of that year beside a tower."""
    settings = qwen(w)
    w.add(f"transformer.{sense}.conv1.weight", [64, 3, 4])
    w.add(f"transformer.{sense}.proj", [64, 64])
    return settings | {sense: {"layers": 1, "width": 64}}


def listening(w):
    """Qwen2-Audio as released: the language model under a name of its own."""
    body(w, "language_model.model.", "qwen2", 2, head="language_model.lm_head.weight")
    w.add("audio_tower.conv1.weight", [64, 8, 3])
    w.add("multi_modal_projector.linear.weight", [64, 64])
    c = config("qwen2", "x", 2)
    c.pop("architectures")
    return {"architectures": ["Qwen2AudioForConditionalGeneration"], "model_type": "qwen2_audio", "audio_token_index": 151646,
            "audio_config": {"d_model": 64, "model_type": "qwen2_audio_encoder"}, "text_config": c, "vocab_size": VOCAB}


def older_thinking(w):
    """Qwen2.5-Omni."""
    body(w, "thinker.model.", "qwen2", 2, head="thinker.lm_head.weight")
    for name, shape in (("thinker.visual.patch_embed.proj.weight", [64, 3, 2, 4, 4]), ("thinker.audio_tower.conv1.weight", [64, 8, 3]),
                        ("talker.model.norm.weight", [64]), ("token2wav.code2wav_dit_model.norm_out.linear.weight", [64, 8])):
        w.add(name, shape)
    c = config("qwen2_5_omni_text", "x", 2, rope_scaling={"mrope_section": [8, 12, 12], "rope_type": "default", "type": "default"})
    c.pop("architectures")
    return {"architectures": ["Qwen2_5OmniModel"], "model_type": "qwen2_5_omni", "enable_audio_output": True, "talker_config": {}, "token2wav_config": {},
            "thinker_config": {"text_config": c, "vision_config": {"depth": 1}, "audio_config": {"d_model": 64}, "model_type": "qwen2_5_omni_thinker",
                               "architectures": ["Qwen2OmniNaViTThinkerForConditionalGeneration"]}}


def hash_numbers(vocab, size, heads, base, seed=1234):
    """Factors, sizes and offsets of the heads of n-grams, by the published rule."""
    mask, gamma = 2 ** 64 - 1, 0x9E3779B97F4A7C15

    def mixed(v):
        v = v + gamma & mask
        v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9 & mask
        v = (v ^ v >> 27) * 0x94D049BB133111EB & mask
        return v ^ v >> 31

    half = max(1, (2 ** 63 - 1) // vocab // 2)
    factors = [2 * (mixed(seed + gamma * (i + 1) & mask) % half) + 1 for i in range(size)]
    sizes = []
    while len(sizes) < (size - 1) * heads:
        if all(base % d for d in range(2, math.isqrt(base) + 1)):
            sizes.append(base)
        base += 1
    return factors, sizes, [sum(sizes[:i]) for i in range(len(sizes))]


def streams(w):
    """qwen4_exp: a residual of four streams, a table of n-grams in parts, an indexer beside attention, a layer that drafts."""
    prefix, wide = "model.language_model.", 4 * WIDTH

    def mixer(p, inject=True):
        w.norm(p + "hc_norm.weight", wide, 0.0)
        w.add(p + "input_mix_weight_down.weight", [32, wide])
        w.add(p + "input_mix_weight_up.weight", [wide, 32])
        if inject:
            w.add(p + "block_inject_weight.weight", [4, wide])

    w.add(prefix + "embed_tokens.weight", [VOCAB, WIDTH], 0.3)
    def layer(p, full):
        mixer(p + "attn_hyper_connection.")
        mixer(p + "mlp_hyper_connection.")
        if full:
            attention(w, p + "self_attn.", "bf16", 64, gate=True, around=0.0)
            w.add(p + "self_attn.indexer.index_qk_proj.weight", [3 * 32, WIDTH])
            for name in ("q_layernorm", "k_layernorm"):
                w.norm(f"{p}self_attn.indexer.{name}.weight", 32, 0.0)
        else:
            delta(w, p + "linear_attn.", False)
        experts(w, p + "mlp.", shared=256, fused=True)

    for i in range(4):
        p = f"{prefix}layers.{i}."
        layer(p, i == 3)
        if i != 1:
            continue
        for n in range(4):
            w.add(f"{p}ple.ple_embedding.ngram_embedding.shard_{n}.weight", [112, 64], 0.3)  # 4 primes from 101 on, to a multiple of 32
        for name, numbers in zip(("layer_multipliers", "ngram_heads_vocab_sizes", "ngram_heads_offsets"), hash_numbers(VOCAB, 3, 2, 101)):
            w.raw(f"{p}ple.ple_embedding.{name}", "I64", [len(numbers)], struct.pack(f"<{len(numbers)}q", *numbers))
        w.add(p + "ple.key_proj.weight", [wide, WIDTH])
        w.add(p + "ple.value_proj.weight", [WIDTH, WIDTH])
        for name in ("norm_key", "norm_query", "norm_conv"):
            w.norm(f"{p}ple.{name}.weight", wide, 0.0)
        w.add(p + "ple.conv1d.weight", [wide, 1, 4], 0.3)
    mixer(prefix + "hyper_connection_mixer.", False)
    w.add("lm_head.weight", [VOCAB, WIDTH])
    w.add("model.visual.patch_embed.proj.weight", [64, 3, 2, 4, 4])
    for name in ("fc_embedding", "fc_hidden"):
        w.add(f"mtp.{name}.weight", [WIDTH, WIDTH])
    w.norm("mtp.pre_fc_norm_embedding.weight", WIDTH, 0.0)
    w.norm("mtp.pre_fc_norm_hidden.weight", wide, 0.0)
    layer("mtp.layers.0.", True)
    mixer("mtp.hyper_connection_mixer.", False)
    text = config("qwen4_exp_text", "x", 4, **HYBRID | AXES | SHARED | {
        "eos_token_id": 290, "hc_count": 4, "hc_lowrank": 32, "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 32,
        "indexer_budget": 64, "indexer_compress_ratio": 4, "ple_layer_ids": [2], "ple_embed_dim": WIDTH, "ple_conv_kernel_size": 4,
        "ngram_size": 3, "heads_per_ngram": 2, "ngram_vocab_size_base": 101, "make_ngram_vocab_size_divisible_by": 32, "split_ngram_parts": 4,
        "output_gate_type": "sigmoid", "layer_types": ["linear_attention"] * 3 + ["full_attention"]})
    for key in ("architectures", "tie_word_embeddings"):
        text.pop(key)
    return {"architectures": ["Qwen4ExpForConditionalGeneration"], "model_type": "qwen4_exp", "text_config": text, "tie_word_embeddings": False,
            "vision_config": {"depth": 1}, "image_token_id": 248056}


def thinking(w, kind, text_type, text):
    """Omni models: what thinks, what speaks and what makes sound."""
    body(w, "thinker.model.", kind, 2, head="thinker.lm_head.weight")
    w.add("thinker.visual.patch_embed.proj.weight", [64, 3, 2, 4, 4])
    w.add("thinker.audio_tower.conv1.weight", [64, 8, 3])
    w.add("talker.model.norm.weight", [64])
    w.add("code2wav.decoder.0.weight", [64, 8])
    c = config(text_type, "x", 2, **text)
    c.pop("architectures")
    return {"architectures": ["Qwen3OmniMoeForConditionalGeneration"], "model_type": "qwen3_omni_moe", "talker_config": {}, "code2wav_config": {},
            "thinker_config": {"text_config": c, "vision_config": {"depth": 1}, "audio_config": {"d_model": 64}, "model_type": "qwen3_omni_moe_thinker"}}


CASES = {
    "qwen": qwen,
    "qwen2_tied": lambda w: dense2(w, tied=True),
    "qwen2": dense2,
    "codeqwen": characters,
    "qwen2_moe": mixture2,
    "qwen3_tied": lambda w: dense3(w, tied=True),
    "qwen3": dense3,
    "qwen3_moe": mixture3,
    "qwen3_next": following(),
    "qwen3_5": senses("qwen3_5", "Qwen3_5ForConditionalGeneration", 4, "qwen3_5_text", tied=True, text={**HYBRID, **AXES}),
    "qwen3_5_moe": senses("qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", 4, "qwen3_5_moe_text", fused=True, text={**HYBRID, **AXES, **SHARED}),
    "qwen3_5_moe_text": text_only_mixture,
    "qwen2_vl": lambda w: older_senses(w, "qwen2_vl"),
    "qwen2_5_vl": lambda w: older_senses(w, "qwen2_5_vl"),
    "qwen3_vl": senses("qwen3", "Qwen3VLForConditionalGeneration", 2, "qwen3_vl_text", tied=True, text=QWEN3 | {
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [12, 10, 10], "rope_type": "default"}}),
    "qwen3_omni_moe": lambda w: thinking(w, "qwen3_moe", "qwen3_omni_moe_text", QWEN3 | MOE | {"norm_topk_prob": True, "rope_scaling": {
        "interleaved": True, "mrope_interleaved": True, "mrope_section": [12, 10, 10], "rope_type": "default"}}),
    "qwen3_vl_moe": senses("qwen3_moe", "Qwen3VLMoeForConditionalGeneration", 2, "qwen3_vl_moe_text", fused="transposed", text=QWEN3 | MOE | {
        "norm_topk_prob": True, "rope_scaling": {"mrope_interleaved": True, "mrope_section": [12, 10, 10], "rope_type": "default"}}),
    "qwen2_5_omni": older_thinking,
    "qwen2_audio": listening,
    "qwen_vl": lambda w: first_senses(w, "visual"),
    "qwen_audio": lambda w: first_senses(w, "audio"),
    "qwen4_exp": streams,
    "embedding": with_head("qwen3", "Qwen3ForCausalLM", "bare", 0, tie_word_embeddings=True),
    "reranker": with_head("qwen3", "Qwen3ForSequenceClassification", "score", 1, num_labels=1),
    "classes": with_head("qwen2", "Qwen2ForSequenceClassification", "score", 3, id2label={"0": "bad", "1": "fair", "2": "good"}),
    "reward": with_head("qwen2", "Qwen2ForRewardModel", "layers", 1),
    "steps": with_head("qwen2", "Qwen2ForProcessRewardModel", "layers", 2),
    "guard": with_head("qwen3", "Qwen3ForGuardModel", "guard", 0, guard_inner_size=128, num_risk_level=3, num_category=8, num_query_risk_level=3,
                       num_query_category=9, response_risk_level_map=LEVELS, query_risk_level_map=LEVELS, query_category_map=CATEGORIES,
                       response_category_map={k: v for k, v in CATEGORIES.items() if k != "8"}),
    "qwen_gptq4": lambda w: qwen(w, "gptq4", **gptq(4)),
    "qwen_gptq8": lambda w: qwen(w, "gptq8", **gptq(8)),
    "qwen2_gptq4": lambda w: dense2(w, "gptq4", torch_dtype="float16", **gptq(4)),
    "qwen2_gptq8": lambda w: dense2(w, "gptq8", torch_dtype="float16", **gptq(8)),
    "qwen2_gptq4_order": lambda w: dense2(w, "gptq4_order", torch_dtype="float16", **gptq(4, True)),
    "qwen2_awq": lambda w: dense2(w, "awq", torch_dtype="float16", **AWQ),
    "qwen3_awq": lambda w: dense3(w, "awq", torch_dtype="float16", **AWQ),
    "qwen3_fp8": lambda w: dense3(w, "fp8", **FP8),
    "qwen3_moe_fp8": lambda w: mixture3(w, "fp8", **FP8),
    "qwen3_moe_gptq4": lambda w: mixture3(w, "gptq4", torch_dtype="float16", **gptq(4)),
    "qwen3_next_fp8": following("fp8", **FP8),
    "qwen3_vl_moe_fp8": senses("qwen3_moe", "Qwen3VLMoeForConditionalGeneration", 2, "qwen3_vl_moe_text", form="fp8", fused="transposed",
                               text=QWEN3 | MOE | {"norm_topk_prob": True}, top=FP8),
    "qwen3_5_fp8": senses("qwen3_5", "Qwen3_5ForConditionalGeneration", 4, "qwen3_5_text", form="fp8", text={**HYBRID, **AXES}, top=FP8),
}
NAMES = list(CASES)


# ---- the other files --------------------------------------------------------------------------------------------------

def tokenizer(program, work):
    """The tokenizer all of them share: 292 tokens and three marks, trained on a few lines."""
    work = pathlib.Path(work)
    (work / "lines").write_text("".join(f"{i} the cat sat on the mat, 春江潮水连海平。\n" for i in range(300)))
    subprocess.run([program, "tokenizer", "train", "--input", str(work / "lines"), "--vocab", "400", str(work / "tokenizer")],
                   check=True, capture_output=True)
    return work / "tokenizer"


def in_bytes(token):
    """The bytes of a token of vocab.json, whose characters stand for bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in plain}
    table |= {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in plain)}
    return bytes(table[c] for c in token)


def first_tokenizer(source, folder):
    vocab = json.loads((source / "vocab.json").read_text())
    tokens = sorted((i, t) for t, i in vocab.items() if not t.startswith("<|"))
    (folder / "qwen.tiktoken").write_text("".join(f"{base64.b64encode(in_bytes(t)).decode()} {i}\n" for i, t in tokens))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 8192, "tokenizer_class": "QWenTokenizer", "auto_map": {
        "AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]}}))
    first = len(tokens)
    (folder / "generation_config.json").write_text(json.dumps({"chat_format": "chatml", "eos_token_id": first, "pad_token_id": first,
                                                               "max_window_size": 6144, "max_new_tokens": 512, "do_sample": True, "top_k": 0, "top_p": 0.8}))


def character_tokenizer(folder):
    goldens = pathlib.Path(__file__).resolve().parent.parent / "golden/characters"
    shutil.copy(goldens / "converted.json", folder / "tokenizer.json")
    template = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}"
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False, "chat_template": template}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [421], "do_sample": True, "top_p": 0.8}))


def make(name, folder, tokens, pool):
    """Makes one checkpoint; `tokens` is tokenizer()'s folder, `pool` drawn_pool()'s numbers."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    w = Weights(pool)
    settings = CASES[name](w)
    w.save(folder, 1 if name.endswith("_tied") else 3)
    (folder / "config.json").write_text(json.dumps(settings, indent=2))
    if name.split("_")[0] == "qwen":
        first_tokenizer(tokens, folder)
    elif name == "codeqwen":
        character_tokenizer(folder)
    else:
        for file in tokens.iterdir():
            shutil.copy(file, folder)
    if name == "steps":
        path = folder / "tokenizer.json"
        t = json.loads(path.read_text())
        t["added_tokens"].append(t["added_tokens"][-1] | {"id": t["added_tokens"][-1]["id"] + 1, "content": "<extra_0>"})
        path.write_text(json.dumps(t))
    if name == "embedding":
        stages = ["Transformer", "Pooling", "Normalize"]
        (folder / "modules.json").write_text(json.dumps(
            [{"idx": i, "name": str(i), "path": f"{i}_{s}" if i else "", "type": "sentence_transformers.models." + s} for i, s in enumerate(stages)]))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": WIDTH, "pooling_mode_lasttoken": True, "include_prompt": True}))
    return folder
