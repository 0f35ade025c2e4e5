#!/usr/bin/env python3
"""Makes goldens of the layers that draft (multi-token prediction) under tests/golden: tiny random checkpoints and what they give.

transformers leaves these layers out, so their wiring is written here from the published description (DeepSeek-V3 report, section
2.2, with the releases' tensor names): x = fc([norm(embedding of the next token) | norm(hidden row)]), one decoder layer with
attention, a last norm, the model's own head. The decoder layer and the model around it are the reference's classes.
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
from safetensors.torch import save_file
from transformers.models.qwen3_5 import modeling_qwen3_5 as dense
from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe as moe
from transformers.models.qwen3_next import modeling_qwen3_next as next_

SMALL = dict(COMMON, vocab_size=37, num_hidden_layers=2, layer_types=LAYERS)
CASES = {
    # name: (classes, decoder layer and norm, overrides, dtype, fused experts)
    "draft_qwen3_next_f32": (NEXT, (next_.Qwen3NextDecoderLayer, next_.Qwen3NextRMSNorm),
                             dict(MIXTURE, tie_word_embeddings=False, norm_topk_prob=True, intermediate_size=32), torch.float32, False),
    "draft_qwen3_5_f32": (DENSE, (dense.Qwen3_5DecoderLayer, dense.Qwen3_5RMSNorm),
                          dict(tie_word_embeddings=True, intermediate_size=64), torch.float32, False),
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
