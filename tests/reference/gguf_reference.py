#!/usr/bin/env python3
"""Makes tests/data/io/quantised.gguf and quantised.npz: every tensor type that is read, and its values.

    pip install gguf==0.19.0 && python3 tests/reference/gguf_reference.py

The file is written by llama.cpp's own gguf package: blocks of random bits with finite scales (among them
zero, negative and subnormal ones), and metadata of every kind. The expected values are that package's
dequantize(), in f32.
"""

import pathlib

import numpy as np
from gguf import GGUFValueType, GGUFWriter, quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "io"

# Where the f16 scales of a block are.
SCALES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208], Type.Q2_K: [80, 82], Type.Q3_K: [108],
    Type.IQ4_NL: [0], Type.IQ4_XS: [0], Type.TQ1_0: [52], Type.TQ2_0: [64], Type.MXFP4: [],
}  # fmt: skip
ROWS, COLUMNS = 2, 512


def scales(rng, count):
    values = (rng.standard_normal(count) * 10.0 ** rng.integers(-4, 2, count)).astype(np.float16)
    values[:: max(2, count // 3)] = [np.float16(0), np.float16(-6e-8), np.float16(3e-5), np.float16(1000)][count % 4]
    return values


def quantised(rng, kind):
    elements, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * COLUMNS // elements, size), dtype=np.uint8)
    for offset in SCALES[kind]:
        blocks[:, offset : offset + 2] = scales(rng, len(blocks)).view(np.uint8).reshape(-1, 2)
    if kind == Type.MXFP4:  # its scale is a power of two by itself; near 2^127 the values overflow
        blocks[:, 0] = rng.integers(100, 150, len(blocks))
        blocks[:4, 0] = 0, 1, 2, 250
    return blocks.reshape(ROWS, COLUMNS // elements * size)


def main():
    rng = np.random.default_rng(20240611)
    writer = GGUFWriter(str(OUT / "quantised.gguf"), "reference")
    writer.add_custom_alignment(64)
    numbers = {
        "u8": (200, GGUFValueType.UINT8), "i8": (-100, GGUFValueType.INT8), "u16": (60000, GGUFValueType.UINT16),
        "i16": (-30000, GGUFValueType.INT16), "u32": (4000000000, GGUFValueType.UINT32),
        "i32": (-2000000000, GGUFValueType.INT32), "u64": (1 << 62, GGUFValueType.UINT64),
        "i64": (-(1 << 62), GGUFValueType.INT64), "f32": (0.1, GGUFValueType.FLOAT32),
        "f64": (0.1, GGUFValueType.FLOAT64), "yes": (True, GGUFValueType.BOOL), "text": ("wéir", GGUFValueType.STRING),
    }  # fmt: skip
    for name, (value, kind) in numbers.items():
        writer.add_key_value(f"reference.{name}", value, kind)
    writer.add_array("reference.texts", ["a", "", "Ġb"])
    writer.add_array("reference.wholes", [3, 1, -4])
    writer.add_array("reference.numbers", [0.5, -1.25])
    expected = {}
    for kind in SCALES:
        data = quantised(rng, kind)
        expected[kind.name] = quants.dequantize(data, kind)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
    plain = rng.standard_normal((2, 3, 5)).astype(np.float32)
    expected["F32"] = plain
    writer.add_tensor("F32", plain)
    expected["F16"] = plain.astype(np.float16).astype(np.float32)
    writer.add_tensor("F16", plain.astype(np.float16))
    brain = quants.quantize(plain, Type.BF16)
    expected["BF16"] = quants.dequantize(brain, Type.BF16)
    writer.add_tensor("BF16", brain, raw_dtype=Type.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    np.savez_compressed(OUT / "quantised.npz", **expected)
    assert all(np.isfinite(value).all() for value in expected.values())


if __name__ == "__main__":
    main()
