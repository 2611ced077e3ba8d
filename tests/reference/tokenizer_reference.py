#!/usr/bin/env python3
"""Makes tests/data/tokenizer: small byte-level BPE models and what Hugging Face's tokenizers gives.

    pip install tokenizers==0.23.3 && python3 tests/reference/tokenizer_reference.py

Trains 600 merges on the text below, then writes one tokenizer.json per pre-tokenizer (GPT-2's,
GPT-2's with a prefix space, Llama 3's split with ignore_merges, digits as in SmolLM), the GPT-2
pair vocab.json and merges.txt, and cases.json with (text, ids) for each. Bytes that are no UTF-8
are given as hexadecimal and reach the reference as bytes.decode(errors="replace").
"""

import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "tokenizer"

TEXT = """
A weir is a low dam across a stream. It measures the water that passes over its crest, and it
regulates the level above. Where the crest is sharp and its width is known, the height of the water
tells the flow: about 1.84 times the width times the height to the power of 1.5, in metres and
seconds. Nobody has to stop the stream to measure it; the measuring is part of the stream's bed.
The gradient of a loss is a stream as well. It starts at the logits, passes the layers from the last
to the first, splits at every branch and joins again, and in the end it reaches the embedding. Some
tokens gather much more of it than others. If we don't measure it we'll never know; and if measuring
changed it, we'd know something else. They're the two things that a weir mustn't do: leak, or dam up
the stream it's there to measure. I've said that it isn't easy. It's what we're here for, though.
Die Stauwehre des Flusses wurden im Jahr 1887 gebaut; ihre Hoehe betraegt 12,5 m, die groesste 30 m.
Über den Fluß führt eine Brücke, größer als die übrigen; die Schütze öffnen sich bei 250 m³ je Sekunde.
Le barrage règle le débit de la rivière; l'été, l'eau est basse, et l'hiver elle déborde à côté.
Плотина измеряет поток воды и регулирует его уровень. Поток начинается в горах и течёт к морю.
堰は川の水位を調節する低いダムである。水は堰を越えて流れる。流量は水位から計算できる。
for (int i = 0; i < 100; ++i) { total += weight[i] * value[i]; }   // the flow, in units of 0.001
def flow(width, height):\n    return 1.84 * width * height ** 1.5\n\n\n# 2024-05-17 12:30:45, level 3.141592
"""


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=256 + 600,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 2, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    assert len(merges) == 600, len(merges)
    return model["vocab"], merges


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def variants(vocab, merges):
    byte_level = pre_tokenizers.ByteLevel
    bare = byte_level(add_prefix_space=False, use_regex=False)
    plain = byte_level(add_prefix_space=False)
    return {
        "gpt2": (plain, {}),
        "prefix_space": (byte_level(add_prefix_space=True), {}),
        "llama3": (
            pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), bare]),
            {"ignore_merges": True},
        ),
        "digits": (
            pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain]),
            {},
        ),
        "removed": (
            pre_tokenizers.Sequence([pre_tokenizers.Split("-", "removed"), plain]),
            {},
        ),
    }


def make(vocab, merges, pre_tokenizer, options):
    if options.get("ignore_merges"):  # a word that merging alone would not reach
        merges = [m for m in merges if m[0] + m[1] != "\u0120water"]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, **options))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    # The longer of two added tokens wins, raw ones before normalized ones.
    tokenizer.add_tokens([AddedToken("<|end", normalized=False), AddedToken("flow<|", normalized=True)])
    return tokenizer


def texts(rng):
    lines = [line for line in TEXT.split("\n") if line]
    cases = ["", " ", "a", "\n", "  ", " \n ", "\t\tx", "it's IT'S it’s we'll'd 'tis", "x" * 70, " " * 100]
    cases += lines
    cases += [
        "<|endoftext|>", "a<|endoftext|> b", "<|end<|endoftext|><|endo", "flow<|endoftext|>flow<|x",
        "the flow<|end of", "1234567890", "a1b22c333d4444", "١٢٣ ½ Ⅷ ², x²", "e\u0301 \u0301 a\u0300b", "👩‍👩‍👧‍👦 🇩🇪",
        "a\u00a0b\u2003c\u3000d\u0085e\u180ef\u200bg\ufeffh", "\r\n\r\n x \r y", "\u0000\u0001\u007f",
        " water water", "--a--b-", "ſ 'ſ 'S K k", "\U0010ffff\ue000", "  a   b    c     ", "…—–“”‘’«»",
    ]
    pools = ["abcdefghij    ", "'strevmld ' ", "0123456789.,", " \n\t\r\u00a0\u3000", "àéîöüßŸ", "потокводы ",
             "水堰流川は。", "<|endoftext|>flow", "!?-_=+*/#{}[]()", "🙂🙃\u200d\ufe0f\u0301"]
    for _ in range(250):
        cases.append("".join("".join(rng.choices(rng.choice(pools), k=rng.randrange(1, 9)))
                             for _ in range(rng.randrange(1, 7))))
    return cases


def damaged(rng):
    cases = [b"\xff", b"a\x80b", b"\xe2\x82", b"\xe2\x82 \xe2\x82\xac", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf0\x9f\x99x",
             b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"<|endof\xfftext|>"]
    for _ in range(120):
        data = bytearray(rng.choice(["水は堰を越えて", "größer als", "поток 👩‍👧"]).encode())
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            if rng.random() < 0.5:
                data[at] = rng.randrange(256)
            elif len(data) > 1:
                del data[at]
        cases.append(bytes(data))
    return cases


def main():
    vocab, merges = train()
    OUT.mkdir(parents=True, exist_ok=True)
    rng = random.Random(20240501)
    valid, invalid = texts(rng), damaged(rng)
    result = {}
    for name, (pre_tokenizer, options) in variants(vocab, merges).items():
        tokenizer = make(vocab, merges, pre_tokenizer, options)
        encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        (OUT / f"{name}.json").write_text(tokenizer.to_str(pretty=False))
        result[name] = [{"text": t, "ids": encode(t)} for t in valid]
        result[name] += [{"hex": b.hex(), "ids": encode(b.decode(errors="replace"))} for b in invalid]
    (OUT / "cases.json").write_text(json.dumps(result, separators=(",", ":")))
    pair = dict(vocab)
    pair["<|endoftext|>"] = len(vocab)
    (OUT / "vocab.json").write_text(json.dumps(pair))
    lines = ["#version: 0.2"] + [f"{a} {b}" for a, b in merges]
    (OUT / "merges.txt").write_text("\n".join(lines) + "\n")
    # The added tokens are numbered in the same order in the pair, but it has only the first.
    tokenizer = make(vocab, merges, pre_tokenizers.ByteLevel(add_prefix_space=False), {})
    assert tokenizer.token_to_id("<|endoftext|>") == len(vocab)


if __name__ == "__main__":
    main()
