#!/usr/bin/env python3
"""Seeds of the fuzz targets whose input has a form that no file of tests/ has. tests/fuzz calls it:
tools/make_fuzz_seeds.py FOLDER writes FOLDER/<target>/*; small and valid, so that changing a few bytes gets past the
first check. Standard library only; the same bytes every time."""
import base64
import json
import pathlib
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
out = pathlib.Path(sys.argv[1])


def put(target, name, data):
    if isinstance(data, str):
        data = data.encode()
    folder = out / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def letters():
    """The 256 letters that stand for bytes in vocabularies of byte-level BPE."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 256
    for byte in range(256):
        table[byte] = chr(byte) if byte in plain else chr(extra)
        extra += byte not in plain
    return table


LETTER = letters()
EXTRA = [("t", "h"), ("th", "e"), (LETTER[32], "t"), (LETTER[32], "c"), ("a", "t")]
REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def tokenizers():
    vocab = {LETTER[b]: b for b in range(256)}
    for i, (a, b) in enumerate(EXTRA):
        vocab[a + b] = 256 + i
    added = [{"id": 300 + i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, t in enumerate(["<|im_start|>", "<|im_end|>"])]
    tokenizer = {
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": REGEX}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "merges": [f"{a} {b}" for a, b in EXTRA], "vocab": vocab},
    }
    config = {"added_tokens_decoder": {"300": {"content": "<|im_start|>", "special": True}},
              "eos_token": "<|im_end|>", "bos_token": None, "pad_token": {"content": "the"},
              "chat_template": [{"name": "default", "template": "{{ messages }}"}], "add_bos_token": True}
    rest = [compact(config), '{"<think>":302}', '{"additional_special_tokens":["<think>"]}', '{"eos_token_id":[300,301]}']
    put("tokenizer_tokenizer_json", "whole", "\0".join([compact(tokenizer)] + rest))
    tokenizer["normalizer"] = None
    tokenizer["model"]["merges"] = [list(m) for m in EXTRA]
    put("tokenizer_tokenizer_json", "pairs", compact(tokenizer))
    for form in ("converted", "first"):
        put("tokenizer_tokenizer_json", form, (ROOT / f"tests/golden/characters/{form}.json").read_bytes())
    put("tokenizer_merges", "merges", "#version: 0.2\na a\na b\naa a\naa b\nb ab\nt h\nth e\n" + LETTER[32] + " t\n")
    put("tokenizer_merges", "tiktoken", b"".join(
        base64.b64encode(token) + b" %d\n" % i
        for i, token in enumerate([bytes([b]) for b in range(256)] + [b"th", b"the", b" t", b"aa", b"aaa"])))
    tokens = [LETTER[b] for b in range(256)] + [a + b for a, b in EXTRA] + ["<|im_end|>", "<think>", "[PAD0]"]
    types = "a" * (256 + len(EXTRA)) + "cde"
    put("tokenizer_gguf_vocabulary", "whole", "\0".join(
        ["qwen2", "\n".join(tokens), types, "\n".join(f"{a} {b}" for a, b in EXTRA), "0\n261\n261\n261"]))
    for first in range(8):
        put("tokenizer_encode", f"text{first}", bytes([first]) + (
            "The cat's <|im_start|>12 e\u0301 白日依山盡，\r\n\t  x\u3000<think> \U0001F600 ==".encode() + b"\xff\xe6\x98"))
    put("tokenizer_stream_decoder", "ids", struct.pack("<64H", *range(20, 20 + 5 * 64, 5)))


def safetensors(tensors):
    """{name: (type, shape, bytes)}"""
    header, at = {}, 0
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = compact(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(d for _, _, d in tensors.values())


def halves(values):
    return struct.pack(f"<{len(values)}e", *values)


def words(n, start=1):
    return struct.pack(f"<{n}I", *[(start + i) * 2654435761 % 2**32 for i in range(n)])


def with_text(text, data):
    text = text.encode()
    return struct.pack("<H", len(text)) + text + data


def quantised():
    rows, inputs, group = 8, 64, 32
    groups = inputs // group
    scales = ("F16", [groups, rows], halves([0.5 + i / 8 for i in range(groups * rows)]))
    plain = {"model.norm.weight": ("F32", [4], struct.pack("<4f", 1, 2, 3, 4))}
    for name, extra in (("gptq", {}), ("gptq_v2", {"checkpoint_format": "gptq_v2"}), ("gptq_dynamic", {"dynamic": {"x": {}}})):
        config = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": group, **extra}}
        parts = {"a.qweight": ("I32", [inputs // 8, rows], words(inputs // 8 * rows)),
                 "a.qzeros": ("I32", [groups, rows // 8], struct.pack("<2I", 0x77777777, 0x77767777)), "a.scales": scales}
        if name == "gptq_v2":
            order = [(i * 5) % groups for i in range(inputs)]
            parts["a.g_idx"] = ("I32", [inputs], struct.pack(f"<{inputs}i", *order))
        put("formats_quantised_weights", name, with_text(compact(config), safetensors({**parts, **plain})))
    config = {"quantization_config": {"quant_method": "gptq", "bits": 8, "group_size": -1}}
    put("formats_quantised_weights", "gptq_8", with_text(compact(config), safetensors({
        "a.qweight": ("I32", [inputs // 4, rows], words(inputs // 4 * rows)),
        "a.qzeros": ("I32", [1, rows // 4], struct.pack("<2I", 0x7f7f7f7f, 0x7f7f7f7f)),
        "a.scales": ("F16", [1, rows], halves([1.0] * rows))})))
    config = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm"}}
    put("formats_quantised_weights", "awq", with_text(compact(config), safetensors({
        "a.qweight": ("I32", [inputs, rows // 8], words(inputs)), "a.qzeros": ("I32", [groups, 1], words(groups)),
        "a.scales": scales})))
    config = {"dtype": "float32", "quantization_config": {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [4, 8]}}
    put("formats_quantised_weights", "fp8", with_text(compact(config), safetensors({
        "a.weight": ("F8_E4M3", [6, 12], bytes(range(30, 102))),
        "a.weight_scale_inv": ("F32", [2, 2], struct.pack("<4f", 1, .5, 2, .25)), **plain})))


def adapters():
    for name in ("lora_plain", "lora_dora", "lora_pattern", "lora_saved", "lora_bias"):
        config = json.loads((ROOT / f"tests/golden/{name}/adapter_config.json").read_text())
        row = "base_model.model.model.layers.0.self_attn.q_proj."
        pair = {row + "lora_A.weight": ("F32", [2, 4], bytes(32)), row + "lora_B.weight": ("F32", [3, 2], bytes(24))}
        if name == "lora_dora":
            pair[row + "lora_magnitude_vector"] = ("F32", [3], struct.pack("<3f", 1, 2, 3))
        config["r"] = 2
        put("formats_adapter", name, with_text(compact(config), safetensors(pair)))
    small = (ROOT / "tests/golden/lora_tied/adapter.gguf").read_bytes()
    put("formats_adapter", "gguf", with_text("{}", small))


def gguf_string(text):
    text = text.encode()
    return struct.pack("<Q", len(text)) + text


def gguf(metadata, tensors):
    """metadata: [(key, type, packed value)], tensors: [(name, shape inner first, type, bytes)]"""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, kind, value in metadata:
        head += gguf_string(key) + struct.pack("<I", kind) + value
    at, data = 0, b""
    for name, shape, kind, content in tensors:
        head += gguf_string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", kind, len(data))
        data += content + b"\0" * (-len(content) % 32)
    return head + b"\0" * (-len(head) % 32) + data


def ggufs():
    strings = lambda items: struct.pack("<IQ", 8, len(items)) + b"".join(map(gguf_string, items))
    vocabulary = [("general.architecture", 8, gguf_string("qwen2")), ("tokenizer.ggml.model", 8, gguf_string("gpt2")),
                  ("tokenizer.ggml.pre", 8, gguf_string("qwen2")), ("tokenizer.ggml.tokens", 9, strings(["a", "b", "ab", "<x>"])),
                  ("tokenizer.ggml.token_type", 9, struct.pack("<IQ4i", 5, 4, 1, 1, 1, 3)),
                  ("tokenizer.ggml.merges", 9, strings(["a b"])), ("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 3)),
                  ("tokenizer.ggml.add_bos_token", 7, b"\0"), ("tokenizer.chat_template", 8, gguf_string("{{ x }}")),
                  ("general.sampling.temp", 6, struct.pack("<f", .7)), ("general.sampling.top_k", 5, struct.pack("<i", 20))]
    one = [("t", [32], 2, bytes(18)), ("u", [2, 3], 0, bytes(24))]
    put("formats_model_file", "vocabulary", gguf(vocabulary, one))
    put("formats_gguf", "vocabulary", gguf(vocabulary, one))
    every = [(f"k.{kind}", kind, struct.pack(form, 1)) for kind, form in
             enumerate(["<B", "<b", "<H", "<h", "<I", "<i", "<f", "<B"])]
    every += [("k.10", 10, struct.pack("<Q", 5)), ("k.11", 11, struct.pack("<q", -5)), ("k.12", 12, struct.pack("<d", .5)),
              ("k.aa", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ2H", 2, 2, 7, 8)), ("general.alignment", 4, struct.pack("<I", 32))]
    put("formats_gguf", "kinds", gguf(every, one))
    sums = [("a.in_sum2", [4, 2], 0, struct.pack("<8f", *range(8))), ("a.counts", [1, 2], 0, struct.pack("<2f", 3, 0))]
    put("formats_model_file", "imatrix", gguf([("general.type", 8, gguf_string("imatrix"))], sums))
    entry = lambda name, n: struct.pack("<i", len(name)) + name + struct.pack("<ii", 2, n) + struct.pack(f"<{n}f", *range(n))
    dat = struct.pack("<i", 2) + entry(b"a", 4) + entry(b"blk.0.attn_q.weight", 8) + struct.pack("<ii", 1, 4) + b"text"
    put("formats_imatrix", "dat", dat)
    put("formats_model_file", "dat", dat)


def shards():
    for width, masked in ((2, False), (4, True)):
        tokens, documents = list(range(1, 41)), [0, 3, 20, 40]
        ids = struct.pack(f"<{len(tokens)}{'H' if width == 2 else 'I'}", *tokens)
        ids += b"\0" * (-len(ids) % 8)
        table = 128 + len(ids)
        lengths = table + 8 * len(documents)
        body = struct.pack(f"<{len(documents)}Q", *documents) + struct.pack("<3I", 5, 6, 7)
        body += b"\0" * (-len(body) % 8)
        head = b"QWTOKSH1" + struct.pack("<IIQQII", 1, width, len(tokens), len(documents) - 1, int(masked), 0)
        head += b"\xaa" * 32 + struct.pack("<QQQQ", 18, table, lengths, table + len(body)) + b"\0" * 24
        put("data_shard", f"shard{width}", head + ids + body + (b"\x5a" * 5 if masked else b""))
    source = {"name": "a", "weight": 1.5, "train": {"shard": "a.train.shard", "documents": 1}, "heldout": {"shard": None}}
    ledger = {"format": "qianwen-ledger-1", "tokenizer_sha256": "a" * 64, "tokenizer": "t", "vocab": 300, "sources": [source]}
    put("data_ledger", "ledger", compact(ledger))


def documents():
    chat = compact({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "好"}], "tools": []})
    poem = "靜夜思\n李白\n床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。\n\n二\n李白\n白日依山盡，黃河入海流。\n"
    for first in range(27):
        text = [poem, '{"text":"one\\r\\ntwo"}\n{"text":""}\n', chat + "\n" + chat + "\n"][first % 3]
        put("data_document", f"text{first}", bytes([first]) + b"\xef\xbb\xbf" * (first % 2) + text.encode() + b"\xe6\x98\n")


def templates():
    for path in sorted((ROOT / "tests/cases/chat").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().split("\n") if line]
        variables = next((row["variables"] for row in rows if "variables" in row and "template" not in row), {})
        for row in rows:
            if "template" in row:
                put("chat_template", row["name"], row["template"] + "\0" + compact(row.get("variables", variables)))


def outputs():
    call = '<tool_call>\n{"name": "f", "arguments": {"x": [1, "}"]}}\n</tool_call>'
    xml = "<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n</function>\n</tool_call>"
    for i, text in enumerate(["<think>\na\n</think>\n\nanswer", f"before\n{call}\n{call} after", f"<think>x</think>{xml}",
                              "✿FUNCTION✿: f\n✿ARGS✿: {\"x\": 1}\n✿RESULT✿: ", "<think><think></think></think><tool_call>{",
                              "a </thin <tool_cal <tool_call>x</tool_call>"]):
        put("chat_output_parser", f"text{i}", bytes([i | 6, i]) + text.encode())
        put("chat_output_parser", f"all{i}", bytes([7, 0]) + text.encode())
    put("chat_guard_output", "answer", "Safety: Unsafe\nCategories: Violent, Jailbreak\nRefusal: No\n")
    put("chat_guard_output", "prompt", "<think>\n</think>\nSafety: Controversial\nCategories: None")


def requests():
    chat = {"model": "m", "messages": [
        {"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "t"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "r"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        "tool_choice": "auto", "temperature": 0.5, "top_p": 0.9, "top_k": 20, "n": 2, "max_tokens": 5, "max_completion_tokens": 5,
        "stop": ["a", "b"], "stream": True, "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 3,
        "logit_bias": {"1": -100}, "seed": 1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "repetition_penalty": 1.1,
        "min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}, "response_format": {"type": "text"}, "user": "u"}
    rules = {"form": "json_schema", "schema": {"type": "object"}, "text": "", "choices": [], "thinking_budget": 5, "tools": [{"type": "function", "function": {"name": "f"}}],
             "tool_choice": "auto", "tool_name": "", "tool_names": [], "parallel_calls": True, "opens_reasoning": False, "may_think": True, "breaks_loops": True}
    free = rules | {"form": "free", "schema": None, "tools": None, "thinking_budget": None}
    drawn = {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
             "logit_bias": [[3, -1.5]], "seed": "18446744073709551615", "stop_ids": [257], "stop": ["x"], "min_tokens": 1}
    put("api_kept_drawing", "rules", compact(rules))
    put("api_kept_drawing", "free", compact(free))
    put("api_kept_drawing", "drawing", compact({"version": 1, "prompt_texts": ["ab"], "prompts": [[97, 98]], "limits": [8], "choices": 2, "sampling": drawn, "rules": free}))
    put("api_request", "chat", compact(chat))
    put("api_request", "completion", compact({"model": "m", "prompt": ["a", "b"], "echo": True, "logprobs": 2, "suffix": None,
                                               "max_tokens": 3, "n": 1, "best_of": 1, "stop": "x"}))
    put("api_request", "ids", compact({"model": "m", "prompt": [1, 2, 3]}))
    put("api_request", "embedding", compact({"model": "m", "input": ["a", "b"], "dimensions": 4, "encoding_format": "base64"}))
    put("api_request", "rerank", compact({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1,
                                           "return_documents": True, "instruction": "i"}))
    put("formats_generation_config", "hf", compact({"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20,
                                                     "min_p": 0, "repetition_penalty": 1.05, "eos_token_id": [1, 2]}))
    put("formats_generation_config", "gguf", compact({f"general.sampling.{k}": v for k, v in
        {"temp": 0.7, "top_p": 0.8, "top_k": -1, "min_p": 0.05, "penalty_repeat": 1.1}.items()}))
    put("hub_listing", "huggingface", compact([{"type": "file", "path": "config.json", "size": 5, "oid": "a" * 40},
        {"type": "directory", "path": "d"}, {"type": "file", "path": "d/m.gguf", "size": 9, "lfs": {"oid": "b" * 64, "size": 9}}]))
    put("hub_listing", "modelscope", compact({"Code": 200, "Success": True, "Data": {"Files": [
        {"Path": "d/m.gguf", "Name": "m.gguf", "Type": "blob", "Size": 9, "Sha256": "b" * 64}, {"Path": "d", "Type": "tree"}]}}))
    put("hub_listing", "link", '<https://huggingface.co/api/x?cursor=1>; rel="next"')
    for i, text in enumerate(["https://user@host:8443/a/b?c=d#e", "http://[::1]:80/", "../x/./y", "//other/z", "?q"]):
        put("net_url", f"url{i}", text)


def tool_servers():
    reply = {"jsonrpc": "2.0", "id": 1}
    tools = {"tools": [{"name": "plus", "description": "adds", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}], "nextCursor": "x"}
    result = {"content": [{"type": "text", "text": "a"}, {"type": "image", "mimeType": "image/png", "data": "AA=="},
                          {"type": "resource", "resource": {"uri": "u", "text": "t"}}], "structuredContent": {"a": 1}, "isError": False}
    for name, value in {"tools": {"result": tools}, "call": {"result": result}, "error": {"error": {"code": -32601, "message": "m"}}}.items():
        text = compact(reply | value)
        put("mcp_message", name, text)
        put("mcp_message", name + "_events", f": ping\r\n\r\nevent: message\r\nid: 1\r\ndata: {text}\r\n\r\n")
    put("mcp_message", "batch", compact([{"jsonrpc": "2.0", "method": "notifications/progress"}, reply | {"result": tools}]))


def watermark_keys():
    key = {"id": "wm-1", "tenant": "", "scheme": "gumbel", "hash": "siphash", "context": 4, "secret": "01" * 32, "created": 1, "retired": 0}
    synthid = key | {"id": "wm-2", "scheme": "synthid", "layers": 3, "leaves": 2, "null": {"mean": 0.5, "variance": 0.1}}
    published = {"hash": "reference", "numbers": ["654", "400", "836"]}
    for name, keys in {"gumbel": [key], "synthid": [synthid], "published": [key | published | {"numbers": ["42"]}, synthid | published]}.items():
        put("governance_mark_key", name, compact({"watermark_keys": keys}))


def scanned_texts():
    put("governance_keyword_list", "views", "[x]\nbomb\n炸药\n[except]\nbomb squad\n\0the b o m b, 炸 药, a bomb squad")
    put("governance_keyword_list", "pinyin", "@traditional\n@pinyin\n[x]\n法轮车\n\0fa lun che 法輪車")
    put("governance_pattern_list", "kinds", "@longest 12\na akia[0-9A-Z]{4}\nb \\bproject [a-z]+\\b\nc [京沪][a-z][0-9]{5}\nd ^x|y$\0an AKIA00XX, project  zebra; 京A12345 y")
    put("governance_pii_finder", "all", "身份证11010519491231002x, 138-0013-8000, 4111 1111 1111 1111, a.b@example.org, P. IVA 07643520567, "
        "IT60 X054 2811 1010 0000 0123 456, 10.0.0.1, ::1, SSN 219-09-9999, RSSMRA85T10A562S, 护照 E12345678")


def policies():
    for profile in sorted((ROOT / "policies").glob("*.json")):
        put("governance_profile", profile.stem, profile.read_bytes())
    signed = {"profile": "p", "version": 1, "date": "2026-11-29", "approvers": ["00" * 32], "guard": {"output": {"pii": {"all": "mask"}, "reply": "no"}},
              "keyword_packs": [{"file": "w", "action": "block", "categories": {"a": "flag"}, "where": "output"}],
              "patterns": [{"category": "c", "action": "mask", "longest": 9, "expressions": ["a[0-9]+", "\\bx\\b"]}],
              "signature": {"public": "11" * 32, "sig": "22" * 64}}
    put("governance_profile", "signed", compact(signed))
    put("governance_profile", "stops", compact({"stopped": [{"what": "model", "name": "m", "by": "b", "reason": "r", "since": 1},
                                                            {"what": "all", "name": "", "by": "", "reason": "", "since": 1}]}))


def assessments():
    """A byte for the kind of file (governance/assess/assess_fuzz.cc), then a file."""
    for plan in sorted((ROOT / "policies/plans").glob("*.json")):
        put("governance_assess", plan.stem, b"\0" + plan.read_bytes())
    plan = {"plan": "p", "version": 1, "date": "2026-11-29", "types": [{"id": "A.1", "title": "t"}],
            "banks": [{"name": "b", "title": "t", "least": 1, "least_each": {"A": 1}, "max_age_days": 9, "source": "s"}],
            "tests": [{"name": "t", "title": "t", "bank": "b", "judges": ["people", "pii"], "sample": 2, "at_least": 9, "source": "s"}]}
    put("governance_assess", "plan", "\0" + compact(plan))
    put("governance_assess", "lines", '\1{"bank": "b", "updated": "2026-11-29"}\n{"id": 1, "type": "A.1", "prompt": "q"}\n{"prompt": "r"}\n')
    put("governance_assess", "choices", '\2[{"id": 1, "question": "q", "options": ["x", "y"], "answer": 1}]')
    put("governance_assess", "table", '\3id,prompt,type,label,focus,note\n1,"q, r",contrast_a,,x,\n')
    put("governance_assess", "answer", '\4{"answer":"a","blocked":false,"item":1}')
    put("governance_assess", "judgement", '\4{"by":"b","item":1,"judge":"people","measure":"refused","says":true,"ts":"t","why":""}')
    put("governance_assess", "sample", '\4{"answer":1,"bank":"b","id":"1","options":["x","y"],"prompt":"q","type":"t"}')
    put("governance_assess", "report", "\5" + compact({"report": "qianwen assessment", "plan": plan, "tests": [{"name": "t", "share": 900000, "low": 1}],
        "requirements": [], "comparison": {"tests": []}, "signature": {"public": "11" * 32, "sig": "22" * 64}}))
    put("governance_assess", "said", "\6\u62b1\u6b49 I can't help. The answer is B</think>")


def labelled_files():
    """A byte for the format (governance/label/label_file.h), then a file."""
    import io
    import struct
    import zipfile
    import zlib

    label = compact({"Label": "1", "ContentProducer": "V", "ProduceID": "1", "ReservedCode1": "", "ContentPropagator": "",
                     "PropagateID": "", "ReservedCode2": ""}).strip()
    xmp = ('<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
           f'xmlns:T="http://www.tc260.org.cn/ns/AIGC/1.0/"><T:AIGC>{label}</T:AIGC></rdf:Description></rdf:RDF></x:xmpmeta>').encode()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = io.BytesIO()
    office = "http://schemas.openxmlformats.org/officeDocument/2006/"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr("_rels/.rels", f'<Relationships><Relationship Id="a" Type="{office}relationships/custom-properties" Target="p.xml"/></Relationships>')
        file.writestr("p.xml", f'<Properties><property pid="2" name="AIGC"><lpwstr>{label}</lpwstr></property></Properties>')
    pdf, places = b"%PDF-1.4\n", []
    for number, body in enumerate((b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count 0 >>", b"<< /AIGC (" + label.encode() + b") >>"), 1):
        places.append(len(pdf))
        pdf += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(pdf)
    pdf += b"xref\n0 4\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % p for p in places)
    pdf += b"trailer\n<< /Size 4 /Root 1 0 R /Info 3 0 R >>\nstartxref\n%d\n%%%%EOF\n" % table
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    text = b"XML:com.adobe.xmp\0"
    app1 = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    files = [("json", f'{{"a": 1, "AIGC": {label}}}'.encode()), ("markdown", f"---\nt: x\nAIGC: {label}\n---\ntext\n".encode()),
             ("html", f"<html><head><script>x</script><meta name=AIGC content='{label}'></head></html>".encode()), ("ooxml", packed.getvalue()),
             ("pdf", pdf), ("png", b"\x89PNG\r\n\x1a\n" + head + chunk(b"iTXt", text + bytes(4) + xmp) + chunk(b"IEND", b"")),
             ("jpeg", b"\xff\xd8\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + b"\xff\xda\0\2x\xff\xd9"),
             ("png_packed", b"\x89PNG\r\n\x1a\n" + head + chunk(b"iTXt", text + b"\1\0\0\0" + zlib.compress(xmp)) + chunk(b"IEND", b""))]
    for i, (name, data) in enumerate(files):
        put("governance_label_file", name, bytes([5 if name == "png_packed" else i]) + data)


def evaluations():
    for task in sorted((ROOT / "src/eval/tasks").glob("*.toml")):
        put("eval_task_file", task.stem, task.read_bytes())
    put("eval_items", "rows", 'question,a\n"x, ""y""",1\n')
    put("eval_items", "squad", compact({"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [{"question": "q", "id": 1, "answers": [{"text": "x"}]}]}]}]}))
    put("eval_items", "samples", compact({"task": "t", "id": "a/0", "digest": "d", "values": {"acc": 1, "ll": -0.5}}) + "\n")
    put("eval_items", "articles", " \n = A = \n x \n = = B = = \n\n y \n = C = \n")


for make in (tokenizers, quantised, adapters, ggufs, shards, documents, templates, outputs, requests, tool_servers, watermark_keys, scanned_texts, policies, assessments, labelled_files, evaluations):
    make()
