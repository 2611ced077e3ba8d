#!/usr/bin/env python3
"""Makes tests/data/tokenizer: small BPE models and what Hugging Face's tokenizers and sentencepiece give.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf && python3 tests/reference/tokenizer_reference.py

Trains 600 merges on the text below, then writes one tokenizer.json per pre-tokenizer (GPT-2's,
GPT-2's with a prefix space, Llama 3's split with ignore_merges, digits as in SmolLM, Qwen's split with
normal form C, GPT-2's with some bytes missing from the vocabulary and with added tokens that strip white
space), the GPT-2 pair vocab.json and merges.txt with its
tokenizer_config.json, and cases.json with inputs and the ids of each. Bytes that are no UTF-8
are given as hexadecimal and reach the reference as bytes.decode(errors="replace"). Of a SentencePiece model
trained on the same text it writes the file (spm.model, spm_spaces.model) and pipelines of Hugging Face over it
(sentencepiece_models.py), and split_patterns.json: patterns, texts and how the library cuts them.
"""

import json
import pathlib
import random

import sentencepiece_models
from random_text import random_bytes
from split_patterns import split_cases
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

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


QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


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
        "qwen2": (
            pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), bare]),
            {"continuing_subword_prefix": "", "end_of_word_suffix": ""},
        ),
        "partial": (
            pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain]),
            {},
        ),
        "stripping": (plain, {}),
    }


def without(vocab, merges, absent):
    """The model without these one-character tokens and what is made of them."""
    keep = lambda token: not any(character in token for character in absent)
    kept = sorted(filter(keep, vocab), key=vocab.get)
    return {t: i for i, t in enumerate(kept)}, [m for m in merges if keep(m[0] + m[1])]


def make(name, vocab, merges, pre_tokenizer, options):
    if name == "partial":  # bytes 00..04, 0x82, and the lead bytes of the planes from U+40000 on
        vocab, merges = without(vocab, merges, "\u0100\u0101\u0102\u0103\u0104\u0124\u00f1\u00f2")
    if options.get("ignore_merges"):  # a word that merging alone would not reach
        merges = [m for m in merges if m[0] + m[1] != "\u0120water"]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, **options))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    # The longer of two added tokens wins, raw ones before normalized ones.
    tokenizer.add_tokens([AddedToken("<|end", normalized=False), AddedToken("flow<|", normalized=True)])
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.add_tokens([AddedToken("e\u0301t", normalized=True)])
    if name == "stripping":
        tokenizer.add_tokens([
            AddedToken("<left>", lstrip=True), AddedToken("<right>", rstrip=True, normalized=False),
            AddedToken("<both>", lstrip=True, rstrip=True), AddedToken("dam", single_word=True),
            AddedToken("damm", single_word=True, normalized=False),
        ])  # fmt: skip
    return tokenizer


# For what the variants above add: accents, characters of recent Unicode versions, stripping tokens.
MORE = [
    "e\u0301t\u00e9t", "A\u030a\u0323 \u1e69 s\u0323\u0307 s\u0307\u0323", "\u1112\u1161\u11ab \ud55c", "\u2126 \u212b \uf900",
    "q\u0345\u1dfa q\u0301\U0001e08f e\U0001e4ec\u0301", "\U00011935\U00011930 \U00016d67\U00016d67",
    "\u0344\u0958\u0f73 \U0001d15e", "a\u0315\u0300\u05ae\u0062", "\U00031350\U000323af\U0002ebf0", "x\U00011de5y1\U00016ff4",
    "\U0001ccf0\U0001e4d0\U00010d50\u1c8a", "a  <left>  b", "a  <right> \u3000 b<right><left> c", "\n<both>\t\u0085x <both><both> ",
    "dam dams dam. _dam \u0301dam dam\u0301 dam\u200d 2dam \u00a0dam\u00a0 dam", "damm damma amdamm dammdam", " <right>  <both> <left>",
    "\x00a\x01b\x04the", "\U00040000\U00050000 \U000a1234x \U0010ffff", "\u0602\x82", "\x00", "dam<left>dam <right>dam",
]


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
    valid, invalid = texts(rng) + MORE, damaged(rng) + [random_bytes(rng) for _ in range(150)]
    inputs = [{"text": t} for t in valid] + [{"hex": b.hex()} for b in invalid]
    seen = valid + [b.decode(errors="replace") for b in invalid]
    ids = {}
    for name, (pre_tokenizer, options) in variants(vocab, merges).items():
        tokenizer = make(name, vocab, merges, pre_tokenizer, options)
        (OUT / f"{name}.json").write_text(tokenizer.to_str(pretty=False))
        ids[name] = [tokenizer.encode(text, add_special_tokens=False).ids for text in seen]
    proto = sentencepiece_models.train(TEXT)
    spaces = sentencepiece_models.with_spaces_removed(proto)
    for name, model in {"spm": proto, "spm_spaces": spaces}.items():
        (OUT / f"{name}.model").write_bytes(model.SerializeToString())
        ids[name] = [sentencepiece_models.encoder(model)(text) for text in seen]
    decoded = {}
    for name, tokenizer in sentencepiece_models.tokenizers(proto).items():
        (OUT / f"{name}.json").write_text(tokenizer.to_str(pretty=False))
        ids[name] = [tokenizer.encode(text, add_special_tokens=False).ids for text in seen]
        decoded[name] = [tokenizer.decode(i, skip_special_tokens=False) for i in ids[name]]
    (OUT / "split_patterns.json").write_text(json.dumps(split_cases(), separators=(",", ":")))
    (OUT / "cases.json").write_text(json.dumps({"inputs": inputs, "ids": ids, "decoded": decoded}, separators=(",", ":")))
    pair = dict(vocab)
    pair["<|endoftext|>"] = len(vocab)
    (OUT / "vocab.json").write_text(json.dumps(pair))
    (OUT / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}\n')
    lines = ["#version: 0.2"] + [f"{a} {b}" for a, b in merges]
    (OUT / "merges.txt").write_text("\n".join(lines) + "\n")
    # The added tokens are numbered in the same order in the pair, but it has only the first.
    tokenizer = make("gpt2", vocab, merges, pre_tokenizers.ByteLevel(add_prefix_space=False), {})
    assert tokenizer.token_to_id("<|endoftext|>") == len(vocab)


if __name__ == "__main__":
    main()
