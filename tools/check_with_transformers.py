#!/usr/bin/env python3
"""Folders in the hands of transformers: what it writes loads here, and what `convert` writes loads there, with equal logits.

  tools/check_with_transformers.py [PROGRAM] [NAME ...]        needs torch, transformers and numpy

For every architecture of tests/e2e/checkpoint_folders.py that transformers knows, the tiny checkpoint is converted to a folder
in float32 and to GGUF and back; transformers loads both: no key may be missing or unexpected, and logits must agree within
1e-4 of the largest. For models of several senses, transformers makes one and computes it with text alone; `score` reads the
folder that save_pretrained wrote (positions with axes are then plain positions).
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/e2e"))
import checkpoint_folders  # noqa: E402

KNOWN = ["qwen2_tied", "qwen2", "qwen2_moe", "qwen3_tied", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text",
         "qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_omni_moe", "qwen2_5_omni", "qwen2_audio", "qwen4_exp", "qwen2_gptq4", "qwen2_gptq8", "qwen2_gptq4_order", "qwen2_awq", "qwen3_awq", "qwen3_fp8",
         "qwen3_moe_fp8", "qwen3_moe_gptq4", "qwen3_next_fp8", "qwen3_5_fp8"]
CLASSES = {"embedding": transformers.AutoModel, "reranker": transformers.AutoModelForSequenceClassification,
           "classes": transformers.AutoModelForSequenceClassification}
IDS = [(37 * i + 5) % 290 for i in range(80)]
failed = 0


def check(name, holds):
    global failed
    failed += not holds
    print(("ok " if holds else "FAILED ") + name, flush=True)


def run(program, *words):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def ours(program, folder):
    file = str(folder) + ".npy"
    run(program, "score", "-m", folder, "--ids", ",".join(map(str, IDS)), "--logits", file)
    return numpy.load(file)


def theirs(folder, kind=transformers.AutoModelForCausalLM):
    model, info = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = {k: sorted(info[k]) for k in ("missing_keys", "unexpected_keys", "mismatched_keys") if info.get(k)}
    with torch.no_grad():
        out = model.eval()(torch.tensor([IDS]))
    return (out.logits if "logits" in out else out.last_hidden_state).numpy()[0], wrong


def distance(a, b):
    return float(numpy.abs(a - b).max() / numpy.abs(b).max())


def written(program, name, work, tokens, pool):
    source = checkpoint_folders.make(name, work / name, tokens, pool)
    folder, gguf, again = work / "written", work / "written.gguf", work / "again"
    run(program, "convert", source, folder, "--type", "f32")
    run(program, "convert", folder, gguf, "--type", "f32")
    run(program, "convert", gguf, again, "--type", "f32")
    for what, f in (("written", folder), ("written from GGUF", again)):
        want, wrong = theirs(f, CLASSES.get(name, transformers.AutoModelForCausalLM))
        check(f"{name} {what}: no key is missing or unexpected {wrong or ''}", not wrong)
        if name not in CLASSES:
            off = distance(ours(program, f), want)
            check(f"{name} {what}: logits within {off:.1e}", off <= 1e-4)


def random_model(kind, config):
    torch.manual_seed(1)
    model = kind(config).to(torch.float32).eval()
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(1 + 0.2 * torch.randn(p.shape) if "norm" in n else 0.06 * torch.randn(p.shape))
    model.tie_weights()
    return model


TEXT = dict(vocab_size=304, hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=512, rope_theta=10000.0, tie_word_embeddings=False)
AXES = {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 10000.0}
MOE = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=256, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[])
SEEING = dict(depth=1, hidden_size=64, num_heads=4, intermediate_size=64, out_hidden_size=256, patch_size=4)


def several_senses():
    t = transformers
    special = dict(image_token_id=300, video_token_id=301, vision_start_token_id=302, vision_end_token_id=303)
    yield "qwen2_vl", lambda: random_model(t.Qwen2VLForConditionalGeneration, t.Qwen2VLConfig(
        text_config=TEXT | {"rope_scaling": AXES}, vision_config=dict(depth=1, embed_dim=64, num_heads=4, hidden_size=256, patch_size=4), **special))
    yield "qwen2_5_vl", lambda: random_model(t.Qwen2_5_VLForConditionalGeneration, t.Qwen2_5_VLConfig(
        text_config=TEXT | {"rope_scaling": AXES}, vision_config=SEEING, **special))
    yield "qwen3_vl", lambda: random_model(t.Qwen3VLForConditionalGeneration, t.Qwen3VLConfig(
        text_config=TEXT | {"head_dim": 64, "rope_scaling": AXES | {"mrope_interleaved": True, "mrope_section": [12, 10, 10]}},
        vision_config=SEEING | {"deepstack_visual_indexes": [0]}, **special))
    yield "qwen3_vl_moe", lambda: random_model(t.Qwen3VLMoeForConditionalGeneration, t.Qwen3VLMoeConfig(
        text_config=TEXT | MOE | {"head_dim": 64, "rope_scaling": AXES | {"mrope_interleaved": True, "mrope_section": [12, 10, 10]}},
        vision_config=SEEING | {"deepstack_visual_indexes": [0]}, **special))
    hearing = dict(d_model=64, encoder_layers=1, encoder_attention_heads=4, encoder_ffn_dim=64, num_mel_bins=16)
    yield "qwen2_audio", lambda: random_model(t.Qwen2AudioForConditionalGeneration, t.Qwen2AudioConfig(
        text_config=TEXT | {"model_type": "qwen2"}, audio_config=hearing, audio_token_index=303))
    yield "qwen2_5_omni", lambda: random_model(t.Qwen2_5OmniThinkerForConditionalGeneration, t.Qwen2_5OmniThinkerConfig(
        text_config=TEXT | {"rope_scaling": AXES}, vision_config=SEEING, audio_config=hearing | {"output_dim": 256}))
    yield "qwen4_exp", lambda: random_model(t.Qwen4ExpForConditionalGeneration, t.Qwen4ExpConfig(
        text_config=TEXT | MOE | dict(shared_expert_intermediate_size=256, head_dim=64, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=64,
                                      linear_value_head_dim=64, layer_types=["linear_attention", "full_attention"], hc_lowrank=32, indexer_n_heads=2,
                                      indexer_kv_heads=1, indexer_head_dim=32, indexer_budget=32, indexer_compress_ratio=4, ple_layer_ids=[1],
                                      heads_per_ngram=2, ngram_vocab_size_base=101, make_ngram_vocab_size_divisible_by=32, split_ngram_parts=4,
                                      eos_token_id=290, output_gate_type="sigmoid", pad_token_id=None,
                                      rope_parameters=AXES | {"mrope_section": [3, 3, 2], "partial_rotary_factor": 0.25, "mrope_interleaved": True}),
        vision_config=SEEING, **special))


def made_there(program, name, make, work, tokens):
    model, folder = make(), work / "theirs"
    model.save_pretrained(folder, max_shard_size="1MB")
    for file in tokens.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with torch.no_grad():
        want = model(input_ids=torch.tensor([IDS])).logits.numpy()[0]
    off = distance(ours(program, folder), want)
    check(f"{name} made there, with text alone: logits within {off:.1e}", off <= 1e-4)


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else "build/release/qianwen"
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cases = [(n, lambda work, n=n: written(program, n, work, tokens, pool)) for n in KNOWN + list(CLASSES)]
    cases += [("their_" + n, lambda work, n=n, m=m: made_there(program, n, m, work, tokens)) for n, m in several_senses()]
    with tempfile.TemporaryDirectory() as place:
        tokens, pool = checkpoint_folders.tokenizer(program, place), checkpoint_folders.drawn_pool()
        for name, case in cases:
            if sys.argv[2:] and name not in sys.argv[2:]:
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    case(pathlib.Path(folder))
                except Exception as error:  # one architecture that fails must not hide the others
                    check(f"{name}: {type(error).__name__}: {error}", False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
