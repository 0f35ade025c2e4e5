"""A model that says given texts, for clients that need a model with a will: what it says first is a call of a tool, and
after the tool's answer it says the rest. A real model folder: one layer that adds nothing, so that what comes next
depends on the last token alone, and embeddings that lead from one piece of a text to the next. Standard library only.
"""
import array
import json
import pathlib
import struct

import heads_models

WIDTH = 256
PIECE = 5  # characters at a time, so that streams have pieces


def spelled(text):
    """As byte-level vocabularies write it."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    others = iter(range(256, 512))
    letters = {b: chr(b) if b in plain else chr(next(others)) for b in range(256)}
    return "".join(letters[b] for b in text.encode())


def pieces_of(text, taken):
    """Pieces of the text of which none is among `taken`: each is one token and may follow but one other."""
    out, at = [], 0
    while at < len(text):
        size = PIECE
        while spelled(text[at:at + size]) in taken and at + size < len(text):
            size += 1
        piece = text[at:at + size]
        if spelled(piece) in taken:  # the end, which was said before: it joins what is before it
            piece = out.pop() + piece
        taken.add(spelled(piece))
        out.append(piece)
        at += size
    return out


def call_text(name, arguments):
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


def make(program, folder, first, then, longest=65536):
    """The folder. `first` answers a question, `then` the result of a tool."""
    folder = heads_models.base_folder(program, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "config.json").read_text())
    ids = {t["content"]: t["id"] for t in tokenizer["added_tokens"]} | tokenizer["model"]["vocab"]
    end, taken = ids["<|im_end|>"], set(ids)
    chains = [["<|first|>", *pieces_of(first, taken)], ["<|then|>", *pieces_of(then, taken)]]
    rows = settings["vocab_size"]
    for chain in chains:
        for place, content in enumerate(chain):
            tokenizer["added_tokens"].append(tokenizer["added_tokens"][-1] | {"id": rows, "content": content, "special": place == 0})
            ids[content] = rows
            rows += 1
    followers = {}  # a token: what comes after it
    for chain in chains:
        for token, after in zip(chain, chain[1:] + ["<|im_end|>"]):
            followers[ids[token]] = ids[after] if after != "<|im_end|>" else end
    assert len(followers) < WIDTH
    embedding, head = array.array("f", bytes(4 * rows * WIDTH)), array.array("f", bytes(4 * rows * WIDTH))
    for state, (token, after) in enumerate(sorted(followers.items())):
        embedding[token * WIDTH + state] = 1.0
        head[after * WIDTH + state] = 1.0
    for token in range(rows):
        if token not in followers:
            embedding[token * WIDTH + WIDTH - 1] = 1.0  # of all that is read
    head[end * WIDTH + WIDTH - 1] = 1.0

    weights = (folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", weights[:8])[0]
    header, data = json.loads(weights[8:8 + length]), weights[8 + length:]
    tensors = {}
    for name, t in header.items():
        if name == "__metadata__" or (name.startswith("model.layers.") and not name.startswith("model.layers.0.")):
            continue
        raw = data[t["data_offsets"][0]:t["data_offsets"][1]]
        silent = name.endswith(("o_proj.weight", "down_proj.weight"))
        tensors[name] = (t["shape"], bytes(len(raw)) if silent else raw)
    tensors["model.norm.weight"] = ([WIDTH], array.array("f", [1.0] * WIDTH).tobytes())
    tensors["model.embed_tokens.weight"] = ([rows, WIDTH], embedding.tobytes())
    tensors["lm_head.weight"] = ([rows, WIDTH], head.tobytes())
    heads_models.write_weights(folder, tensors)
    settings |= {"vocab_size": rows, "num_hidden_layers": 1, "max_window_layers": 1, "tie_word_embeddings": False,
                 "max_position_embeddings": longest}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    named = json.loads((folder / "tokenizer_config.json").read_text())
    for token in tokenizer["added_tokens"]:
        named["added_tokens_decoder"][str(token["id"])] = {k: v for k, v in token.items() if k != "id"}
    named["chat_template"] = (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' }}{% endfor %}"
        "{% if tools %}{% for tool in tools %}{{ tool.function.name + '\\n' }}{% endfor %}{% endif %}"
        "{% if add_generation_prompt %}{{ '<|then|>' if messages[-1].role == 'tool' else '<|first|>' }}{% endif %}")
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    generation = json.loads((folder / "generation_config.json").read_text()) | {"do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return pathlib.Path(folder)
