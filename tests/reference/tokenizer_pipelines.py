#!/usr/bin/env python3
"""Compares `weir tokens` with tokenizers, sentencepiece and llama.cpp's rules over pipelines of published tokenizers.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf gguf==0.19.0
    python3 tests/reference/tokenizer_pipelines.py --weir build/weir --gpt2 FOLDER --json FILE... --spm FILE... \
        --text FOLDER --patterns FILE --strings 10000

Compared are: the files as they are (--json: tokenizer.json, --spm: tokenizer.model); GPT-2's vocabulary (--gpt2: vocab.json,
merges.txt, tokenizer.json) under the split patterns of other models; the first SentencePiece model under the pipelines
of Llama 2, Mistral, Gemma and one that cuts words, and as a GGUF file; with --patterns every pattern of a JSON file
{"patterns": [{"pattern": text}]} alone. Each gets the same random strings, and the documents of --text (.txt and .json in
the C4 schema, gzip or not).
"""

import argparse
import gzip
import json
import pathlib
import random
import subprocess
import tempfile

import gguf
import numpy as np
import sentencepiece
import sentencepiece_models
from random_text import random_bytes
from sentencepiece import sentencepiece_model_pb2 as proto_format
from split_patterns import PATTERNS
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

SPECIAL = ["<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<pad>", "<0x0A>", "\u2581", "\u2581\u2581", "\n\n", "<|endoftext|>", "   "]
SEPARATOR = 5  # an id that every vocabulary has


def strings(count, seed):
    rng, out = random.Random(seed), []
    for _ in range(count):
        text = random_bytes(rng).decode(errors="replace")
        for _ in range(rng.choice([0, 0, 1, 2])):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(SPECIAL) + text[at:]
        out.append(text)
    return out


def documents(folder):
    for path in sorted(folder.iterdir()):
        opened = gzip.open(path, "rt") if path.name.endswith(".gz") else open(path)
        with opened as file:
            yield from [json.loads(line)["text"] for line in file if line.strip()] if ".json" in path.name else [file.read()]


def byte_level(tokenizer_json, pattern, behavior="isolated", form_c=False, digits=False, **options):
    """GPT-2's vocabulary cut by another pattern."""
    model = json.loads(tokenizer_json.read_text())["model"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=model["vocab"], merges=merges, **options))
    steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.Split(Regex(pattern), behavior), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    if form_c:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.add_tokens([AddedToken("   ", lstrip=True, rstrip=True, normalized=False), AddedToken("[INST]", rstrip=True, single_word=True)])
    return tokenizer


def write_gguf(path, proto):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([p.piece.encode() for p in proto.pieces])
    writer.add_token_scores([p.score for p in proto.pieces])
    writer.add_token_types([p.type for p in proto.pieces])
    writer.add_unk_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def between_special(proto):
    """llama.cpp's rule over SentencePiece's encoder: control tokens first, then each stretch with a space before it."""
    encode = sentencepiece_models.encoder(proto)
    kinds = proto_format.ModelProto.SentencePiece
    special = {p.piece: i for i, p in enumerate(proto.pieces) if p.type in (kinds.CONTROL, kinds.UNKNOWN, kinds.USER_DEFINED)}

    def ids(text):
        out, begin, at = [], 0, 0
        while at < len(text):
            found = max((s for s in special if text.startswith(s, at)), key=len, default=None)
            if found is None:
                at += 1
                continue
            out += (encode(text[begin:at]) if at > begin else []) + [special[found]]
            begin = at = at + len(found)
        return out + (encode(text[begin:]) if begin < len(text) else [])

    return ids


def pipelines(options, scratch):
    """Name, what the command reads, and text to ids by the reference."""

    def of(tokenizer):
        return lambda text: tokenizer.encode(text, add_special_tokens=False).ids

    def stored(name, tokenizer):
        path = scratch / f"{name.replace(' ', '-').replace('/', '-')}.json"
        path.write_text(tokenizer.to_str())
        return name, path, of(Tokenizer.from_file(str(path)))

    for path in options.json:
        yield f"{path.parent.name}/{path.name}", path, of(Tokenizer.from_file(str(path)))
    if options.gpt2:
        own = options.gpt2 / "tokenizer.json"
        yield "GPT-2 tokenizer.json", own, of(Tokenizer.from_file(str(own)))
        pair = scratch / "pair"
        pair.mkdir()
        for name in ["vocab.json", "merges.txt"]:
            (pair / name).write_bytes((options.gpt2 / name).read_bytes())
        yield "GPT-2 vocab.json and merges.txt", pair, of(Tokenizer.from_file(str(own)))
        names = ["Kimi", "digits from the right", "cl100k", "SuperBPE", "hexadecimal", "nested class", "BLOOM", "after Bengali"]
        for name, pattern in zip(names, PATTERNS):
            yield stored(name, byte_level(own, pattern))
        large = ["GPT-2", "Llama 3", "Qwen 3", "words with spaces", "o200k", "DeepSeek 3"]
        for name, pattern in zip(large, PATTERNS[-6:]):
            yield stored(f"{name} pattern", byte_level(own, pattern, form_c=name == "Qwen 3", ignore_merges=name == "Llama 3"))
        yield stored("digits and GPT-2 pattern", byte_level(own, PATTERNS[-6], digits=True))
        yield stored("words joined with spaces", byte_level(own, r"\s", "merged_with_next"))
    for path in options.spm:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        yield path.name, path, lambda text, processor=processor: processor.encode(text)
    if options.spm:
        proto = proto_format.ModelProto()
        proto.ParseFromString(options.spm[0].read_bytes())
        for name, tokenizer in sentencepiece_models.tokenizers(proto).items():
            yield stored(f"{options.spm[0].stem} as {name}", tokenizer)
        path = scratch / "spm.gguf"
        write_gguf(path, proto)
        yield f"{options.spm[0].stem} as GGUF", path, between_special(proto)
    if options.patterns:
        for at, one in enumerate(json.loads(options.patterns.read_text())["patterns"]):
            yield stored(f"pattern {at}", byte_level(options.gpt2 / "tokenizer.json", one["pattern"]))


def encode(weir, path, texts, scratch):
    """The ids of each text by the command."""
    lines, out = scratch / "lines.json", scratch / "ids.npy"
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    done = subprocess.run([weir, "tokens", "--tokenizer", path, "--text", lines, "--separator", str(SEPARATOR), "--out", out],
                          capture_output=True, text=True)  # fmt: skip
    return (None, done.stderr.strip()) if done.returncode else (np.load(out), "")


def compare(name, path, reference, texts, options, scratch):
    got, message = encode(options.weir, path, texts, scratch)
    if got is None:
        return f"refused: {message}"
    wanted = []
    for text in texts:
        if ids := reference(text):  # a text without ids adds nothing, no separator either
            wanted += ([SEPARATOR] if wanted else []) + ids
    if np.array_equal(got, np.asarray(wanted, np.int32)):
        return "0"
    wrong = 0  # each text alone, where the whole differs
    for text in texts:
        one, message = encode(options.weir, path, [text], scratch)
        ids = reference(text)
        if one is None and not ids and message.startswith("error: [tokens]"):  # alone, a text without ids is refused
            continue
        if one is None or one.tolist() != ids:
            wrong += 1
            if wrong <= 3:
                print(f"  {name}: {text!r}\n    weir {message or one.tolist()[:30]}\n    reference {ids[:30]}")
        if wrong == 20:
            return "20 or more"
    return str(wrong) if wrong else "none alone, but all together differ"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", required=True)
    parser.add_argument("--gpt2", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--spm", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--patterns", type=pathlib.Path)
    parser.add_argument("--strings", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        sets = {"strings": strings(options.strings, options.seed)}
        if options.text:
            sets["documents"] = list(documents(options.text))
        print("| pipeline | " + " | ".join(f"{len(texts)} {what}, disagreements" for what, texts in sets.items()) + " |")
        for name, path, reference in pipelines(options, scratch):
            results = [compare(name, path, reference, texts, options, scratch) for texts in sets.values()]
            print(f"| {name} | " + " | ".join(results) + " |", flush=True)


if __name__ == "__main__":
    main()
