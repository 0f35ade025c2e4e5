#!/usr/bin/env python3
"""Makes goldens of the layers that draft (multi-token prediction) under tests/golden: tiny random checkpoints and what they give.

transformers leaves these layers out, so their wiring is written here from the published description (DeepSeek-V3 report, section
2.2, with the releases' tensor names): x = fc([norm(embedding of the next token) | norm(hidden row)]), one decoder layer with
attention, a last norm, the model's own head. The decoder layer and the model around it are the reference's classes. qwen4_exp has
several streams: x_j = fc_embedding norm(embedding) + fc_hidden norm(stream j behind the last layer), a layer, a mixer of the streams.
Each folder is a Hugging Face model folder without tokenizer and expected.safetensors with
  input_ids [1, T] int64, logits [1, T, V] float32       of the model itself, as in the other folders
  draft_logits [T - 1, V]  row t: given the hidden row of token t and the token after it
  chain_ids [C] int64, chain_logits [C, V]   drafts further on: row c is at position T - 1 + c, given the drafting layers' own hidden
                                             row before it and chain_ids[c], the greedy draft of that row
Run: python3 tools/reference/make_draft_golden.py tests/golden
"""
import json
import pathlib
import sys

import torch
from make_hybrid_golden import COMMON, DENSE, LAYERS, MIXTURE, MOE, NEXT
from make_mixture_golden import unfused
from make_streams_golden import COMMON as STREAMS, in_parts
from safetensors.torch import save_file
from transformers.models.qwen3_5 import modeling_qwen3_5 as dense
from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe as moe
from transformers.models.qwen3_next import modeling_qwen3_next as next_
from transformers.models.qwen4_exp import modeling_qwen4_exp as streams

SMALL = dict(COMMON, vocab_size=37, num_hidden_layers=2, layer_types=LAYERS)
CASES = {
    # name: (classes, decoder layer and norm, overrides, dtype, fused experts)
    "draft_qwen3_next_f32": (NEXT, (next_.Qwen3NextDecoderLayer, next_.Qwen3NextRMSNorm),
                             dict(MIXTURE, tie_word_embeddings=False, norm_topk_prob=True, intermediate_size=32), torch.float32, False),
    "draft_qwen3_5_bf16": (DENSE, (dense.Qwen3_5DecoderLayer, dense.Qwen3_5RMSNorm),
                          dict(tie_word_embeddings=True, intermediate_size=64), torch.bfloat16, False),
    "draft_qwen3_5_moe_bf16": (MOE, (moe.Qwen3_5MoeDecoderLayer, moe.Qwen3_5MoeRMSNorm), dict(MIXTURE, tie_word_embeddings=False), torch.bfloat16, True),
}
LENGTH, CHAIN = 21, 3


class Drafting(torch.nn.Module):
    def __init__(self, config, layer, norm):
        super().__init__()
        d, eps = config.hidden_size, config.rms_norm_eps
        self.pre_fc_norm_embedding, self.pre_fc_norm_hidden, self.norm = norm(d, eps=eps), norm(d, eps=eps), norm(d, eps=eps)
        self.fc = torch.nn.Linear(2 * d, d, bias=False)
        self.layers = torch.nn.ModuleList([layer(config, LAYERS.index("full_attention"))])

    def forward(self, hidden, embedding, rotary):
        x = self.fc(torch.cat([self.pre_fc_norm_embedding(embedding), self.pre_fc_norm_hidden(hidden)], dim=-1))
        n = x.shape[1]
        mask = torch.full((n, n), float("-inf")).triu(1)[None, None]
        positions = torch.arange(n)[None]
        x = self.layers[0](x, position_embeddings=rotary(x, positions), attention_mask=mask, position_ids=positions)
        return self.norm(x[0] if isinstance(x, tuple) else x)


class DraftingStreams(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d, wide, eps = config.hidden_size, config.hc_count * config.hidden_size, config.rms_norm_eps
        self.pre_fc_norm_embedding = streams.Qwen4ExpTextRMSNorm(d, eps=eps)
        self.pre_fc_norm_hidden = streams.Qwen4ExpTextRMSNorm(wide, group_size=d, eps=eps)
        self.fc_embedding, self.fc_hidden = torch.nn.Linear(d, d, bias=False), torch.nn.Linear(d, d, bias=False)
        self.layers = torch.nn.ModuleList([streams.Qwen4ExpTextDecoderLayer(config, config.num_hidden_layers - 1)])
        self.hyper_connection_mixer = streams.Qwen4ExpTextGatedResidual(config, use_combine=False)

    def forward(self, hidden, embedding, rotary):
        c, d = self.config.hc_count, self.config.hidden_size
        token = self.fc_embedding(self.pre_fc_norm_embedding(embedding))
        x = token[..., None, :] + self.fc_hidden(self.pre_fc_norm_hidden(hidden).unflatten(-1, (c, d)))
        n = x.shape[1]
        mask = torch.full((n, n), float("-inf")).triu(1)[None, None]
        return self.layers[0](x.flatten(-2), position_embeddings=rotary(x, torch.arange(n)[None]), attention_mask=mask)


def draw(module, generator, dtype):
    for name, p in sorted(module.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("linear_attn.norm.weight") or name.endswith("dt_bias"):
            value = 1 + 0.2 * noise
        elif name.endswith("A_log"):
            value = 0.5 * noise
        else:
            calm = 0.25 if dtype == torch.float32 or "embed" in name else 0.12
            value = (0.2 if "norm" in name else 0.5 if name.endswith("mlp.gate.weight") else calm) * noise
        p.data = value.to(dtype).to(torch.float32)


@torch.no_grad()
def make_streams(folder, seed):
    """draft_qwen4_exp_bf16: what the layer is given, and gives further, are the streams; the mixer stands before the head."""
    dtype = torch.bfloat16
    config = streams.Qwen4ExpTextConfig(**STREAMS | dict(
        vocab_size=37, num_hidden_layers=2, hc_count=2, layer_types=["linear_attention", "full_attention"], ple_layer_ids=[1], ngram_size=2, heads_per_ngram=2,
        ngram_vocab_size_base=10, make_ngram_vocab_size_divisible_by=8, split_ngram_parts=1, tie_word_embeddings=False, output_gate_type="sigmoid"))
    generator = torch.Generator().manual_seed(seed)
    model, draft = streams.Qwen4ExpForCausalLM(config).to(torch.float32).eval(), DraftingStreams(config).to(torch.float32).eval()
    draw(model, generator, dtype)
    draw(draft, generator, dtype)
    ids = torch.randint(0, config.vocab_size, (1, LENGTH), generator=torch.Generator().manual_seed(seed + 1))
    kept = []
    watch = model.model.hyper_connection_mixer.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    logits = model(ids).logits
    watch.remove()
    embed, head, mixer, rotary = model.get_input_embeddings(), model.lm_head, draft.hyper_connection_mixer, model.model.rotary_emb
    hidden, tokens = kept[0][:, :-1], ids[:, 1:]
    made = draft(hidden, embed(tokens), rotary)
    expected = {"input_ids": ids, "logits": logits.contiguous(), "draft_logits": head(mixer(made))[0].contiguous()}
    chain_ids, chain_logits = [], []
    for _ in range(CHAIN):
        best = head(mixer(made[:, -1:]))[:, 0].argmax(-1)
        hidden, tokens = torch.cat([hidden, made[:, -1:]], 1), torch.cat([tokens, best[None]], 1)
        made = draft(hidden, embed(tokens), rotary)
        chain_ids.append(int(best))
        chain_logits.append(head(mixer(made[:, -1:]))[0, 0])
    expected["chain_ids"], expected["chain_logits"] = torch.tensor(chain_ids), torch.stack(chain_logits)
    state = model.state_dict() | {"mtp." + k: v for k, v in draft.state_dict().items()}
    state = {k: v if v.dtype == torch.int64 else v.to(dtype).contiguous() for k, v in state.items()}
    config.architectures = ["Qwen4ExpForCausalLM"]
    text = {k: v for k, v in config.to_dict().items() if k not in ("transformers_version", "_name_or_path")}
    text["layer_types"] = ["full_attention" if t == "indexed_attention" else t for t in text["layer_types"]]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(in_parts(unfused(state), config.split_ngram_parts), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    save_file(expected, folder / "expected.safetensors")


@torch.no_grad()
def make(folder, seed, classes, parts, overrides, dtype, fused):
    config = classes[0](**{**SMALL, **overrides})
    generator = torch.Generator().manual_seed(seed)
    model = classes[1](config).to(torch.float32).eval()
    draft = Drafting(config, *parts).to(torch.float32).eval()
    draw(model, generator, dtype)
    draw(draft, generator, dtype)
    model.tie_weights()
    ids = torch.randint(0, config.vocab_size, (1, LENGTH), generator=torch.Generator().manual_seed(seed + 1))
    body = model.model(ids).last_hidden_state
    rotary = model.model.rotary_emb
    embed, head = model.get_input_embeddings(), model.lm_head
    hidden, tokens = body[:, :-1], ids[:, 1:]
    made = draft(hidden, embed(tokens), rotary)
    expected = {"input_ids": ids, "logits": head(body).contiguous(), "draft_logits": head(made)[0].contiguous()}
    chain_ids, chain_logits = [], []
    for _ in range(CHAIN):
        best = head(made[:, -1]).argmax(-1)
        hidden, tokens = torch.cat([hidden, made[:, -1:]], 1), torch.cat([tokens, best[None]], 1)
        made = draft(hidden, embed(tokens), rotary)
        chain_ids.append(int(best))
        chain_logits.append(head(made[0, -1]))
    expected["chain_ids"], expected["chain_logits"] = torch.tensor(chain_ids), torch.stack(chain_logits)
    state = dict(model.state_dict())
    if config.tie_word_embeddings:
        state.pop("lm_head.weight")
    state.update({"mtp." + k: v for k, v in draft.state_dict().items()})
    state = {k: v.to(dtype).contiguous() for k, v in state.items()}
    config.architectures = [classes[1].__name__]
    text = {k: v for k, v in config.to_dict().items() if k not in ("transformers_version", "_name_or_path")}
    text["mtp_num_hidden_layers"] = 1
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state if fused else unfused(state), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    save_file(expected, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for i, (name, case) in enumerate(CASES.items()):
        make(pathlib.Path(sys.argv[1]) / name, 900 + 2 * i, *case)
        print(name)
    make_streams(pathlib.Path(sys.argv[1]) / "draft_qwen4_exp_bf16", 980)
