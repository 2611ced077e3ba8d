"""Split patterns, most of them of published tokenizers, and how Hugging Face's tokenizers cuts text by them."""

from tokenizers import Regex, pre_tokenizers

PATTERNS = [
    # Where Oniguruma's language is its own.
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\A\p{Nd}{1,2}(?=\p{Nd}{3}+\z)", r"\p{L}+|\p{N}{1,3}+|[^\p{L}\p{N}]", r"(?=(\d{3})+(?!\d))", r"\h+|\H", r"[^\s[.,]]+",
    r" ?[^(\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+", r"(?<=[\u0980-\u09ff]):", r"\p{Word}+", r"[\W_]+", r"[^\Wx]+", r"\W|\w\B",
    r"[[:alpha:]]+", r"[[:^punct:]]+|[[:punct:]]", r"\G\d", r"\A\p{Nd}{3}|\G\p{Nd}{3}", r"", r"^", r"(?<!\n)^", r"\s+$", r"x*", r"\b", r"\B",
    r"(?>a|ab)c", r"a{,3}", r"[a-w&&[^c-g]]+", r"\x{1F600}+", r"(?i:ss|k)", r"a++ab", r"(\w)\1", r"\p{^L}+", r"[^\P{L}a]+", r"\R", r"\w\K\d",
    r"\p{Nd}{1,510}(?=(?>\p{Nd}{510})*(?:\P{Nd}|$))|\G\p{Nd}{510}", r"}", r"{", r"\p{Cn}+", r"\p{Common}", r"\p{greek}+|\P{Latin}", r"\d{1,3}(?=(?:\d{3})*\b)",
    # The large ones of today's models.
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
]  # fmt: skip

TEXTS = [
    "Hello, world! 123 can't stop.", "WE'RE here, Aujourd\u2019hui x\u203fy.", "hello \u05e9\u05dc\u05d5\u05dd caf\u00e9 \u0928\u092e\u0938\u094d\u0924\u0947 \u0645_\u0661\u0662\u0663",
    "abc 123 \u0967\u0968\u0969 room \uff14\uff12 1234567 23456", "\u4e2d\u6587\u304b\u306a\u30ab\u30ca \ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22 ab", " lead\nline\n \tword  ", "\u09ac\u09be: text \u0985:",
    "foo---bar hello!!!?? ((t)) {a} \u0441 \u03c8\u03c9", "carriage\rreturn \u0000\u001f", "trail \rnext  abc\r\n", "x\u2460y \u216b z\u00b2 \u00bc \u24d0 a\u00b7b", " a1 z1 ef G5 \u00df STRASSE \u0130 \u212a",
    "\u3000 1234 567890", "aaab aaaa abc", "\U0001f600\U0001f600b $+<", "\U00031350\U0002ebf0a\U0001ccf0 \u1c8a\u1c89", "\u0378 \U00010d50\U00010d70b\U00011f00",
]  # fmt: skip


def cut(pattern, behavior, invert, text):
    pieces = pre_tokenizers.Split(Regex(pattern), behavior, invert=invert).pre_tokenize_str(text)
    return [piece for piece, _ in pieces]


def split_cases():
    """Every pattern isolated; the other behaviours for some."""
    cases = [(pattern, "Isolated", False) for pattern in PATTERNS]
    for pattern in [r"\s", r"[.,]+", r"\d", r"(?=\d)", "l"]:
        for behavior in ["Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
            cases += [(pattern, behavior, False), (pattern, behavior, True)]
    snake = {"MergedWithPrevious": "merged_with_previous", "MergedWithNext": "merged_with_next"}
    return {
        "texts": TEXTS,
        "cases": [
            {"pattern": p, "behavior": b, "invert": i, "pieces": [cut(p, snake.get(b, b.lower()), i, t) for t in TEXTS]}
            for p, b, i in cases
        ],
    }
