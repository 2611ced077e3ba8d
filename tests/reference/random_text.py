"""Random byte strings for comparing tokenizers: every plane of Unicode, invalid UTF-8, words, white space."""

WORDS = [
    "the", " the", "it's", "WE'LL", "don\u2019t", "'s", "12345", "3.14", " 2024", "  ", "\n\n", "\t", "\r\n", "\u3000", "\u00a0", "\u0085",
    "e\u0301", "\u1112\u1161\u11ab", "\U0001f469\u200d\U0001f4bb", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|endof", "\u17f5",
    "\u0661\u0662", "\u216b", "\u00b2", "_x_", "->", "...", "\u4e2d\u6587", "\ud55c\uad6d\uc5b4", "\u0440\u0443\u0441", "\u0645\u0631\u062d\u0628\u0627", "\x00", "\x7f",
    "\ufeff", "\u200b", "\u017f", "\u0130", "hello", " world", "ing", "\u00df", "ABC", "camelCase",
]  # fmt: skip
# Where code points are drawn from: small blocks as often as whole planes.
BLOCKS = [
    (0, 0x80), (0x80, 0x250), (0x300, 0x370), (0x370, 0x600), (0x900, 0xE00), (0x1100, 0x1200), (0x1E00, 0x2100), (0x2000, 0x2070),
    (0x3000, 0x3100), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0xE000, 0x10000), (0x10000, 0x12000), (0x16000, 0x17000), (0x1D000, 0x20000),
    (0x20000, 0x33480), (0x33480, 0x40000), (0x40000, 0xC0000), (0xC0000, 0x110000), (0, 0xD800), (0x10000, 0x110000),
]  # fmt: skip


def characters(rng):
    low, high = rng.choice(BLOCKS)
    points = (rng.randrange(low, high) for _ in range(rng.randrange(1, 12)))
    return "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000).encode()


def broken(rng):
    data = bytearray(characters(rng) or b"\xc3\xa9")
    at = rng.randrange(len(data))
    kind = rng.randrange(3)
    if kind == 0:
        data[at] = rng.randrange(256)
    elif kind == 1:
        del data[at]
    else:
        data.insert(at, rng.randrange(128, 256))
    return bytes(data)


def random_bytes(rng):
    parts = []
    for _ in range(rng.randrange(1, 9)):
        kind = rng.randrange(10)
        if kind < 4:
            parts.append("".join(rng.choices(WORDS, k=rng.randrange(1, 5))).encode())
        elif kind < 7:
            parts.append(characters(rng))
        elif kind < 9:
            parts.append(broken(rng))
        else:
            parts.append(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9))))
    return b"".join(parts)
