#!/usr/bin/env python3
"""Prints the table of src/train/retrieval_test.cc: the loss of embeddings as the paper of Qwen3-Embedding has it, and its
gradients by rows, by PyTorch in float64.
Run: python3 tools/reference/make_retrieval_golden.py    (needs torch)
"""
import torch
import torch.nn.functional as F

WIDTH = 3
# Texts of examples, by number: query, its document, others. Text 4 answers the first query and stands elsewhere too.
EXAMPLES = [[0, 4, 5], [1, 6], [2, 7, 4, 8], [3, 9, 10]]
CONFIGS = [(0.05, 0.1, True, True), (0.5, 2.0, True, True), (0.1, 0.0, False, True), (0.1, 0.1, True, False)]


def rows():
    order = [t for example in EXAMPLES for t in example]
    values = [[((37 * t * t + 11 * t + 29 * k * (t + 3)) % 61 - 30) / 16 for k in range(WIDTH)] for t in order]
    return order, torch.tensor(values, dtype=torch.float64, requires_grad=True)


def step(temperature, margin, queries, documents):
    texts, x = rows()
    e = F.normalize(x, dim=-1)
    s = e @ e.T
    starts = [0]
    for example in EXAMPLES:
        starts.append(starts[-1] + len(example))
    loss = 0
    for i in range(len(EXAMPLES)):
        q, d = starts[i], starts[i] + 1
        terms = [s[q, d]]

        def consider(a, b):
            mask = 0 if s[a, b].item() > s[q, d].item() + margin or texts[b] == texts[d] else 1
            if mask:
                terms.append(s[a, b])

        for h in range(d + 1, starts[i + 1]):
            consider(q, h)
        for j in range(len(EXAMPLES)):
            if j == i:
                continue
            if queries:
                consider(q, starts[j])
            for x_ in range(starts[j] + 1, starts[j + 1]):
                consider(q, x_)
                if documents:
                    consider(d, x_)
        loss = loss - F.log_softmax(torch.stack(terms) / temperature, dim=0)[0]
    loss = loss / len(EXAMPLES)
    loss.backward()
    return loss.item(), x.grad.flatten().tolist()


def listed(values):
    return "{" + ", ".join(f"{v:.10g}" for v in values) + "}"


texts, x = rows()
print(f"const std::vector<float> kRows = {listed(x.detach().flatten().tolist())};")
print(f"const std::vector<std::uint64_t> kSame = {listed(texts)};")
for config in CONFIGS:
    loss, grad = step(*config)
    temperature, margin, queries, documents = config
    words = ["false", "true"]
    print(f"    {{{{{temperature}, {margin}, {words[queries]}, {words[documents]}}}, {loss:.12g}, {listed(grad)}}},")
