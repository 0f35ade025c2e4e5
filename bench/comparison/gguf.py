"""Reads the header of a GGUF file: what a token costs at least, in bytes read and in operations."""
import struct

# Elements and bytes of a block, by type id.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 11: (256, 110),
          12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2), 39: (32, 17)}
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Header:
    def __init__(self, path):
        with open(path, "rb") as self.file:
            if self.file.read(4) != b"GGUF":
                raise ValueError(f"{path}: is no GGUF file")
            _, tensors, keys = struct.unpack("<IQQ", self.file.read(20))
            self.keys = {}
            for _ in range(keys):
                name = self.text()
                self.keys[name] = self.value(self.number("I"))
            self.tensors = [self.tensor() for _ in range(tensors)]  # (name, shape, bytes)
        self.architecture = self.keys["general.architecture"]

    def number(self, code):
        return struct.unpack("<" + code, self.file.read(struct.calcsize(code)))[0]

    def text(self):
        return self.file.read(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, count = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(count)]
        return self.number(SCALARS[kind])

    def tensor(self):
        name, rank = self.text(), self.number("I")
        shape = [self.number("Q") for _ in range(rank)]
        kind, _ = self.number("I"), self.number("Q")
        elements = 1
        for n in shape:
            elements *= n
        block, size = BLOCKS[kind]
        return name, shape, elements // block * size

    def key(self, name, default=None):
        return self.keys.get(f"{self.architecture}.{name}", default)


class Cost:
    """What one token takes at least. Of experts only the chosen ones count; the token table is read where it is the head."""

    def __init__(self, path):
        h = Header(path)
        experts, used = h.key("expert_count", 0), h.key("expert_used_count", 0)
        tied = all(name != "output.weight" for name, _, _ in h.tensors)
        self.weight_bytes = self.file_bytes = self.layer_ops = self.head_ops = 0
        for name, shape, size in h.tensors:
            share = used / experts if experts and "_exps." in name else 1
            self.file_bytes += size
            head = name == "output.weight" or (tied and name == "token_embd.weight")
            if name == "token_embd.weight" and not tied:
                continue
            self.weight_bytes += size * share
            if len(shape) >= 2 and "conv1d" not in name:
                ops = 2 * share
                for n in shape:
                    ops *= n
                if head:
                    self.head_ops += ops
                else:
                    self.layer_ops += ops
        interval = h.key("full_attention_interval", 1) if h.architecture in ("qwen35", "qwen35moe", "qwen3next") else 1
        self.layers = h.key("block_count") // interval
        width = h.key("attention.key_length", h.key("embedding_length") // h.key("attention.head_count"))
        self.query_width = width * h.key("attention.head_count")
        self.cache_elements = 2 * self.layers * width * h.key("attention.head_count_kv")  # of one position

    def decode_bytes(self, depth, cache_bytes=2.0, batch=1):
        """Read for one step of `batch` sequences; `cache_bytes` an element."""
        return self.weight_bytes + batch * depth * self.cache_elements * cache_bytes

    def prompt_ops(self, tokens):
        """Causal attention counts the half that is needed; one row of the head."""
        return tokens * self.layer_ops + self.head_ops + 2 * tokens * tokens * self.query_width * self.layers

    def step_ops(self, depth, batch=1):
        return batch * (self.layer_ops + self.head_ops + 4 * depth * self.query_width * self.layers)
