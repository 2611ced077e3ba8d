#!/usr/bin/env python3
"""Compares `weir tokens` with Hugging Face's tokenizers on whole text collections and on random strings.

    pip install tokenizers==0.23.3 gguf==0.19.0
    python3 tests/reference/tokenizer_compare.py --weir build/weir --text FOLDER --gpt2 FOLDER --gguf MODEL.gguf

FOLDER of texts holds .txt and .json (C4 schema), gzip or not; --gpt2 holds tokenizer.json. For the GGUF file
(SmolLM2) the reference tokenizer is put together from the file's own tokens and merges and the structure of
SmolLM2's tokenizer.json: no normalizer, Sequence[Digits(individual), ByteLevel(regex)], BPE without unknown
token, its control tokens as special added tokens.

Every document goes through the command as bytes, the reference has bytes.decode(errors="replace"); documents
are separated by the end of text. Then the ids are decoded by the command and must give the bytes that the
reference's own tokens stand for, which are the text again but where bytes have no token. SmolLM2's vocabulary
lacks 21 bytes; how many documents that touches is printed.
"""

import argparse
import gzip
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import gguf
import numpy as np
from random_text import random_bytes
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END = "<|endoftext|>"


def from_gguf(path):
    reader = gguf.GGUFReader(path)
    value = lambda key: reader.fields[f"tokenizer.ggml.{key}"].contents()
    assert value("model") == "gpt2" and value("pre") == "smollm", "only SmolLM2's structure is known here"
    tokens = value("tokens")
    merges = [tuple(merge.split(" ")) for merge in value("merges")]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [t for t, kind in zip(tokens, value("token_type")) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in control])
    assert all(tokenizer.token_to_id(t) == tokens.index(t) for t in control)
    return tokenizer


def documents(path):
    opened = gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb")
    with opened as file:
        if ".json" in path.name:
            return [json.loads(line)["text"].encode("utf-8", "surrogatepass") for line in file if line.strip()]
        return [file.read()]


def byte_table():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


class Spelling:
    """The bytes of every id."""

    def __init__(self, tokenizer):
        table = byte_table()
        added = tokenizer.get_added_tokens_decoder()
        self.bytes = {}
        for token, i in tokenizer.get_vocab().items():
            self.bytes[i] = token.encode() if i in added else bytes(table[c] for c in token)

    def __call__(self, ids):
        return b"".join(self.bytes[i] for i in ids)


def compare(name, weir, source, tokenizer, texts, inputs, scratch):
    """`inputs` are the paths for the command, `texts` their documents in the same order."""
    ids_path, text_path = scratch / "ids.npy", scratch / "text"
    begin = time.monotonic()
    subprocess.run([weir, "tokens", "--tokenizer", source, "--separator", END, "--text", *map(str, inputs), "--out", ids_path],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    seconds = time.monotonic() - begin
    got = np.load(ids_path)
    end = tokenizer.token_to_id(END)
    spelling = Spelling(tokenizer)
    expected, pieces, incomplete = [], [], 0
    for i in range(0, len(texts), 1000):
        strings = [t.decode(errors="replace") for t in texts[i : i + 1000]]
        for string, encoding in zip(strings, tokenizer.encode_batch(strings, add_special_tokens=False)):
            if not encoding.ids:  # a document without ids adds nothing, no separator either
                continue
            expected += [encoding.ids] if not expected else [[end], encoding.ids]
            pieces.append(spelling(encoding.ids))
            incomplete += pieces[-1] != string.encode()
    wanted = np.concatenate([np.asarray(e, np.int32) for e in expected])
    same = got.dtype == np.int32 and np.array_equal(got, wanted)
    if not same:
        length = min(len(got), len(wanted))
        where = np.flatnonzero(got[:length] != wanted[:length])
        at = int(where[0]) if len(where) else length
        print(f"  first difference at token {at}: weir {got[at : at + 8]}, reference {wanted[at : at + 8]}")
        print(f"  text before: {spelling(wanted[max(0, at - 8) : at].tolist())!r}")
        print(f"  text there: {spelling(wanted[at : at + 8].tolist())!r}")
    subprocess.run([weir, "tokens", "--tokenizer", source, "--decode", ids_path, "--out", text_path], check=True)
    back = text_path.read_bytes() == END.encode().join(pieces)
    print(f"{name}: {len(texts)} documents, {len(wanted)} tokens, ids {'equal' if same else 'DIFFER'}, "
          f"decoded bytes {'equal' if back else 'DIFFER'}; {incomplete} documents come back otherwise "
          f"(no token for a byte, or normal form); weir took {seconds:.1f} s")  # fmt: skip
    return same and back


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", required=True)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--gpt2", type=pathlib.Path)
    parser.add_argument("--gguf", type=pathlib.Path)
    parser.add_argument("--strings", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tokenizers = {}
    if options.gpt2:
        tokenizers["GPT-2"] = (options.gpt2, Tokenizer.from_file(str(options.gpt2 / "tokenizer.json")))
    if options.gguf:
        tokenizers["SmolLM2"] = (options.gguf, from_gguf(options.gguf))
    good = True
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        rng = random.Random(options.seed)
        strings = scratch / "strings"
        strings.mkdir()
        texts = [random_bytes(rng) for _ in range(options.strings)]
        for i, text in enumerate(texts):
            (strings / f"{i:06}.txt").write_bytes(text)
        for name, (source, tokenizer) in tokenizers.items():
            good &= compare(f"{name}, random strings", options.weir, source, tokenizer, texts, [strings], scratch)
            for path in sorted(options.text.iterdir()) if options.text else []:
                title = f"{name}, {path.name}"
                good &= compare(title, options.weir, source, tokenizer, documents(path), [path], scratch)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
