"""Makes model folders with other heads out of the shipped model, for end-to-end tests. Standard library only.

The body is the shipped model's; what is added to it is drawn from a seed, so scores mean nothing but are always the same.
"""
import array
import json
import pathlib
import random
import shutil
import struct
import subprocess


def base_folder(program, folder):
    """The shipped model as a folder in float32."""
    subprocess.run([program, "convert", "mini", str(folder), "--type", "f32", "--json"], check=True, stdout=subprocess.DEVNULL)
    return pathlib.Path(folder)


def drawn(seed, *shape, around=0.0):
    count = 1
    for n in shape:
        count *= n
    rng = random.Random(seed)
    return list(shape), array.array("f", [around + rng.gauss(0, 0.1) for _ in range(count)]).tobytes()


def write_weights(folder, tensors):
    """{name: (shape, bytes of float32)}"""
    header, data = {}, b""
    for name, (shape, raw) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def rewritten(base, folder, architecture, add=(), config=None, token=None):
    """A copy of the folder with another class, more tensors {name: (shape, bytes)}, and perhaps one more token."""
    folder = pathlib.Path(folder)
    shutil.copytree(base, folder)
    weights = (folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", weights[:8])[0]
    header, data = json.loads(weights[8:8 + length]), weights[8 + length:]
    settings = json.loads((folder / "config.json").read_text()) | {"architectures": [architecture]} | (config or {})
    tensors = {name: (t["shape"], data[t["data_offsets"][0]:t["data_offsets"][1]]) for name, t in header.items() if name != "__metadata__"}
    tensors |= dict(add)
    if token:
        (rows, width), table = tensors["model.embed_tokens.weight"]
        tensors["model.embed_tokens.weight"] = ([rows + 1, width], table + drawn(9, width)[1])
        settings["vocab_size"] = rows + 1
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        tokenizer["added_tokens"].append(tokenizer["added_tokens"][-1] | {"id": rows, "content": token, "special": True})
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    write_weights(folder, tensors)
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def embedding(base, folder):
    """As sentence-transformers lays it out: the class is still the language model's."""
    folder = rewritten(base, folder, "Qwen3ForCausalLM")
    stages = ["Transformer", "Pooling", "Normalize"]
    (folder / "modules.json").write_text(json.dumps(
        [{"idx": i, "name": str(i), "path": f"{i}_{s}" if i else "", "type": "sentence_transformers.models." + s} for i, s in enumerate(stages)]))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_lasttoken": true, "pooling_mode_mean_tokens": false}')
    return folder


def reranker(base, folder):
    return rewritten(base, folder, "Qwen3ForSequenceClassification", {"score.weight": drawn(1, 2, 256)},
                     {"id2label": {"0": "yes", "1": "no"}})


def reward(base, folder, steps):
    outputs = 2 if steps else 1
    tensors = {"score.0.weight": drawn(2, 256, 256), "score.0.bias": drawn(3, 256), "score.2.weight": drawn(4, outputs, 256),
               "score.2.bias": drawn(5, outputs)}
    name = "Qwen3ForProcessRewardModel" if steps else "Qwen3ForRewardModel"
    return rewritten(base, folder, name, tensors, token="<extra_0>" if steps else None)


def guard(base, folder):
    levels = {"0": "Safe", "1": "Unsafe", "2": "Controversial"}
    categories = {str(i): f"Category {i}" for i in range(9)}
    tensors = {}
    for i, (prefix, n) in enumerate((("", 8), ("query_", 9))):
        tensors |= {prefix + "risk_level_category_pre.weight": drawn(10 + i, 32, 256),
                    prefix + "risk_level_category_layernorm.weight": drawn(20 + i, 32, around=1.0),
                    prefix + "risk_level_head.weight": drawn(30 + i, 3, 32), prefix + "category_head.weight": drawn(40 + i, n, 32)}
    config = {"guard_inner_size": 32, "response_risk_level_map": levels, "query_risk_level_map": levels,
              "response_category_map": {k: v for k, v in categories.items() if k != "8"}, "query_category_map": categories}
    return rewritten(base, folder, "Qwen3ForGuardModel", tensors, config)
