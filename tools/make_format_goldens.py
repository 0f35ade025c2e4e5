#!/usr/bin/env python3
"""Writes tests/golden/formats/: small files made by the formats' own Python packages (gguf, safetensors, numpy), and
block-quantised bytes from gguf's reference quantiser. Needs those packages; the tests that read the files do not.

    tools/make_format_goldens.py                 writes the files
    tools/make_format_goldens.py --check FOLDER  reads what the tests wrote there (QW_FORMATS_OUT=FOLDER formats_test)
"""
import json
import pathlib
import sys

import gguf
import numpy as np
import safetensors.numpy
from gguf import GGMLQuantizationType as Q

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "formats"


def ramp(*shape):
    """(37 i mod 101 - 50) / 8: exact in bf16 and f16; the tests compute the same."""
    n = int(np.prod(shape))
    return (((np.arange(n) * 37) % 101 - 50) / 8).astype(np.float32).reshape(shape)


def add_tensors(writer):
    bf16 = gguf.quants.quantize(ramp(3, 64), Q.BF16)
    writer.add_tensor("plain.f32", ramp(5))
    writer.add_tensor("matrix.f32", ramp(2, 3))
    writer.add_tensor("half.f16", ramp(3, 64).astype(np.float16))
    writer.add_tensor("brain.bf16", bf16, raw_dtype=Q.BF16)
    writer.add_tensor("block.q8_0", gguf.quants.quantize(ramp(3, 64), Q.Q8_0), raw_dtype=Q.Q8_0)
    writer.add_tensor("block.q4_0", gguf.quants.quantize(ramp(3, 64), Q.Q4_0), raw_dtype=Q.Q4_0)
    writer.add_tensor("cube.i32", np.arange(24, dtype=np.int32).reshape(2, 3, 4))
    writer.add_tensor("byte.i8", np.arange(-3, 4, dtype=np.int8))
    writer.add_tensor("long.i64", np.array([2**40, -1], dtype=np.int64))
    writer.add_tensor("double.f64", np.array([0.1, -1e300]))
    writer.add_tensor("short.i16", np.array([-300, 300], dtype=np.int16))


def make_gguf(path):
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("Golden 黄金")
    writer.add_uint8("kinds.u8", 255)
    writer.add_int8("kinds.i8", -128)
    writer.add_uint16("kinds.u16", 65535)
    writer.add_int16("kinds.i16", -32768)
    writer.add_uint32("kinds.u32", 4294967295)
    writer.add_int32("kinds.i32", -2147483648)
    writer.add_float32("kinds.f32", 1e-6)
    writer.add_uint64("kinds.u64", 2**64 - 1)
    writer.add_int64("kinds.i64", -(2**63))
    writer.add_float64("kinds.f64", 0.1)
    writer.add_bool("kinds.bool", True)
    writer.add_array("kinds.ints", [1, -2, 3])
    writer.add_array("kinds.floats", [0.5, -1.5])
    writer.add_array("kinds.bools", [True, False])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(["a", "b", "Ġ", "ab", "<|endoftext|>", "<|im_end|>"])
    writer.add_token_types([1, 1, 1, 1, 3, 3])
    writer.add_token_merges(["a b", "Ġ a"])
    writer.add_eos_token_id(5)
    writer.add_pad_token_id(4)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages }}")
    add_tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_split():
    """gguf-py writes its shards as PREFIX-00001-of-000NN.gguf."""
    writer = gguf.GGUFWriter(OUT / "split.gguf", "qwen3", split_max_tensors=2)
    for i in range(5):
        writer.add_tensor(f"t{i}", ramp(4, 8) + i)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_safetensors():
    tensors = {"a.f32": ramp(2, 3), "b.f16": ramp(3, 5).astype(np.float16), "c.i64": np.array([2**40, -1]),
               "d.u8": np.arange(7, dtype=np.uint8), "e.bool": np.array([True, False, True]),
               "scalar": np.array(2.5, dtype=np.float32), "empty": np.zeros((0, 4), np.float32),
               "five": np.zeros((1, 1, 1, 1, 2), np.float32), "f.i32": np.arange(6, dtype=np.int32).reshape(1, 2, 3),
               "wide.u32": np.array([1, 2], dtype=np.uint32)}
    safetensors.numpy.save_file(tensors, OUT / "small.safetensors", metadata={"format": "pt", "note": "黄金"})
    folder = OUT / "hf_sharded"
    folder.mkdir(exist_ok=True)
    shards = {"model-00001-of-00002.safetensors": {"x.weight": ramp(4, 4), "y.weight": ramp(3)},
              "model-00002-of-00002.safetensors": {"z.weight": ramp(2, 8)}}
    for name, part in shards.items():
        safetensors.numpy.save_file(part, folder / name, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 140}, "weight_map": {t: s for s, part in shards.items() for t in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", "hidden_size": 4}, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2], "top_p": 0.8}) + "\n")


def codec_rows():
    """64 rows of 64: scales from 1e-33 to 1e6, zeros, ties between levels, one-signed blocks, single spikes."""
    rng = np.random.default_rng(7)
    rows = [rng.standard_normal(64) * 10.0 ** e for e in np.linspace(-9, 4, 40)]
    rows += [np.zeros(64), np.full(64, 1.0), np.full(64, -3.5), np.arange(64) - 32.0, np.abs(rng.standard_normal(64)),
             -np.abs(rng.standard_normal(64)), np.eye(64)[5] * 7, np.eye(64)[40] * -7 + 0.0]
    rows += [np.round(rng.uniform(-127, 127, 64)) * 0.5 for _ in range(4)]   # exact ties for Q8_0 once 63.5 is the peak
    rows += [np.concatenate([[63.5], np.arange(-31, 32) * 0.5 + 0.25]), np.concatenate([[-8], np.arange(-31, 32) / 4])]
    rows += [rng.standard_normal(64) * s for s in (1e-30, 1e-33, 1e-20, 6e4, 1e-7, 1e-8, 3e-5, 1e-3, 1e2, 2e6)]
    return np.array(rows, dtype=np.float64).astype(np.float32)


def make_codecs():
    rows = codec_rows()
    assert rows.shape == (64, 64), rows.shape
    np.save(OUT / "codec_rows.npy", rows)
    for kind in (Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.MXFP4):  # rows whose scales an f16 holds
        gguf.quants.quantize(rows[:46], kind).tofile(OUT / f"codec_{kind.name.lower()}.bin")
    for kind in (Q.Q8_0, Q.Q4_0):
        with np.errstate(all="ignore"):
            encoded = gguf.quants.quantize(rows, kind)
        encoded.tofile(OUT / f"codec_{kind.name.lower()}.bin")
        np.save(OUT / f"codec_{kind.name.lower()}_decoded.npy", gguf.quants.dequantize(encoded, kind))
    rng = np.random.default_rng(11)
    bits = rng.integers(0, 2**32, 1024, dtype=np.uint32)
    mids = (rng.integers(0x3380, 0x4780, 512, dtype=np.uint32) << 16) + rng.choice([0x8000, 0x1000, 0x3000, 0x7fff, 0x8001], 512).astype(np.uint32)
    edges = np.array([0, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0x7f7fffff, 0x477fe000, 0x477fefff,
                      0x477ff000, 0x38800000, 0x387fffff, 0x33000000, 0x33000001, 0x32ffffff, 1], dtype=np.uint32)
    floats = np.concatenate([bits, mids, edges]).view(np.float32)
    np.save(OUT / "codec_floats.npy", floats)
    with np.errstate(all="ignore"):
        np.save(OUT / "codec_floats_f16.npy", floats.astype(np.float16))
    gguf.quants.quantize(floats.reshape(1, -1), Q.BF16).tofile(OUT / "codec_floats_bf16.bin")


# Bytes of a block that hold f16 scales.
HALVES = {Q.Q4_1: (0, 2), Q.Q5_0: (0,), Q.Q5_1: (0, 2), Q.Q2_K: (80, 82), Q.Q3_K: (108,), Q.Q4_K: (0, 2),
          Q.Q5_K: (0, 2), Q.Q6_K: (208,), Q.IQ4_NL: (0,), Q.IQ4_XS: (0,), Q.MXFP4: ()}


def make_blocks():
    """blocks.gguf: two rows of 256 random elements in every block format, every bit used; blocks_decoded.npy: their values
    as gguf decodes them, tensors one after the other."""
    rng = np.random.default_rng(23)
    writer = gguf.GGUFWriter(OUT / "blocks.gguf", "qwen3")
    decoded = []
    for kind, halves in HALVES.items():
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (512 // elements, size), dtype=np.uint8)
        for at in halves:
            scales = (rng.standard_normal(len(blocks)) * 10.0 ** rng.uniform(-6, 0, len(blocks))).astype(np.float16)
            blocks[:, at:at + 2] = scales.view(np.uint8).reshape(-1, 2)
        if kind == Q.MXFP4:
            blocks[:, 0] = [0, 1, 2, 3, 100, 120, 126, 127, 128, 129, 130, 140, 200, 240, 250, 251]
        rows = blocks.reshape(2, -1)
        writer.add_tensor(kind.name.lower(), rows, raw_dtype=kind)
        decoded.append(gguf.quants.dequantize(rows, kind).astype(np.float32))
    np.save(OUT / "blocks_decoded.npy", np.concatenate(decoded))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_npy():
    np.save(OUT / "f32.npy", ramp(2, 3))
    np.save(OUT / "i64.npy", np.array([2**40, -1, 7]))
    np.save(OUT / "scalar.npy", np.array(2.5))
    np.save(OUT / "fortran.npy", np.asfortranarray(ramp(2, 3)))


def check(folder):
    """The other direction: files our tests wrote, read by the formats' own packages."""
    reader = gguf.GGUFReader(folder / "written.gguf")
    expected = {t.name: t for t in gguf.GGUFReader(OUT / "small.gguf").tensors}
    got = {t.name: t for t in reader.tensors}
    assert list(got) == list(expected), (list(got), list(expected))
    for name, t in got.items():
        other = expected[name]
        assert t.tensor_type == other.tensor_type and list(t.shape) == list(other.shape), name
        assert t.data.tobytes() == other.data.tobytes(), name
    golden = gguf.GGUFReader(OUT / "small.gguf").fields
    for key, field in golden.items():
        if not key.startswith("GGUF."):
            assert reader.fields[key].types == field.types, (key, reader.fields[key].types, field.types)
            same = np.array_equal(reader.fields[key].contents(), field.contents(), equal_nan=False)
            assert same, key
    ours = safetensors.numpy.load_file(folder / "written.safetensors")
    theirs = safetensors.numpy.load_file(OUT / "small.safetensors")
    for name in ("a.f32", "b.f16", "c.i64", "d.u8", "e.bool", "scalar", "empty", "f.i32"):
        assert ours[name].dtype == theirs[name].dtype and np.array_equal(ours[name], theirs[name]), name
    with safetensors.safe_open(folder / "written.safetensors", "np") as f:
        assert f.metadata() == {"format": "pt", "note": "黄金"}, f.metadata()
    index = json.loads((folder / "sharded" / "model.safetensors.index.json").read_text())
    for name, shard in index["weight_map"].items():
        assert name in safetensors.numpy.load_file(folder / "sharded" / shard), name
    assert np.array_equal(np.load(folder / "f32.npy"), ramp(2, 3)) and np.load(folder / "f32.npy").dtype == np.float32
    assert np.load(folder / "i64.npy").tolist() == [2**40, -1, 7]
    assert np.load(folder / "scalar.npy") == 2.5 and np.load(folder / "scalar.npy").shape == ()
    print(f"{len(got)} GGUF tensors, {len(golden)} fields, {len(ours)} safetensors and 3 npy arrays agree")


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        return check(pathlib.Path(sys.argv[2]))
    OUT.mkdir(parents=True, exist_ok=True)
    make_gguf(OUT / "small.gguf")
    make_split()
    make_safetensors()
    make_codecs()
    make_blocks()
    make_npy()


if __name__ == "__main__":
    main()
