"""Compares `weir measure` with `transformers` on a checkpoint, number by number.

    python compare_checkpoint.py --weir build/weir --model DIR_OR_GGUF [--tokens T.npy]
        [--v-scale VARIANT] [--attention NORMALISER] [--f64 [--yardstick]]

The model is loaded by the library: a folder as it is, a GGUF file by the library's own reader
(independent of `weir convert`) or, with --convert, from the folder that `weir convert` makes of it.
With --f64 a GGUF file is always converted: the library's own reader keeps its weights packed and
multiplies in f32 whatever dtype is asked for. --yardstick also runs the library in f32 and shows how
far that is from its f64: what rounding to f32 does to this model and rewrite, whoever computes.
Weir measures the same tokens (random ones if none are given). Printed is, for each key of the
record, the largest disagreement |a-b| / max(|b|, 1e-3 max|array|) over all layers, and whether it is
within the tolerance of the specification; the exit status says whether all are.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import measure_record
from transformers_trace import patch_to_f64, run, sizes_of

RELATIVE, LOSS, LOGITS = 2e-3, 1e-5, 2e-3  # of an f32 engine on a real model; logits absolutely
EXACT = {"name", "parameters"}  # said, not measured: the name of a converted folder differs


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weir", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--tokens", type=pathlib.Path, help=".npy, integers [B, T+1]")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    variants = ("none", "full", "learned", "backward-only", "forward-only")
    parser.add_argument("--v-scale", default="none", choices=variants)
    parser.add_argument("--attention", default="softmax", choices=("softmax", "softmax-1"))
    parser.add_argument("--f64", action="store_true", help="the library in f64, patched")
    parser.add_argument("--yardstick", action="store_true", help="the library in f32 beside its f64")
    parser.add_argument("--convert", action="store_true", help="load what `weir convert` makes")
    parser.add_argument("--logits", action="store_true", help="compare all logits, too")
    parser.add_argument("--record", type=pathlib.Path, help="a record of Weir's to compare")
    options = parser.parse_args()
    if options.yardstick and not options.f64:
        parser.error("--yardstick compares with f64, so it needs --f64")
    return options


def located(options: argparse.Namespace, folder: pathlib.Path) -> tuple[pathlib.Path, dict]:
    """Where the library loads the model from, and with which further keywords."""
    source = options.model
    if source.suffix != ".gguf":
        return source, {}
    if not (options.convert or options.f64):
        return source.parent, {"gguf_file": source.name}
    converted = folder / "converted"
    if not converted.exists():
        subprocess.run([options.weir, "convert", source, converted], check=True)
    return converted, {}


def load(options: argparse.Namespace, folder: pathlib.Path, dtype: torch.dtype) -> torch.nn.Module:
    source, more = located(options, folder)
    config = AutoConfig.from_pretrained(source, **more)
    model = AutoModelForCausalLM.from_pretrained(source, config=config, dtype=dtype, **more)
    model.eval().requires_grad_(False)
    if dtype == torch.float64:
        patch_to_f64(model)
    return model


def library_record(options, folder: pathlib.Path, tokens: np.ndarray, dtype: torch.dtype):
    """The record and the logits of the library in one dtype."""
    model = load(options, folder, dtype)
    sizes = sizes_of(model.config, v_scale=options.v_scale, attention=options.attention)
    start = time.time()
    logits, loss, trace = run(model, torch.from_numpy(tokens.astype(np.int64)), sizes)
    print(f"transformers ({dtype}): {time.time() - start:.1f} s, loss {loss:.7f}")
    count = sum(w.numel() for w in model.parameters())
    return measure_record.plain(measure_record.measure("", sizes, count, loss, trace)), logits


def weir_record(options: argparse.Namespace, tokens: pathlib.Path, out: pathlib.Path) -> dict:
    if options.record:
        return json.loads(options.record.read_text())
    command = [options.weir, "measure", "--model", options.model, "--tokens", tokens]
    command += ["--json", out]
    if options.v_scale != "none":
        command += ["--v-scale", options.v_scale.removesuffix("-only")]
    if options.attention != "softmax":
        command += ["--attention", options.attention]
    if options.logits:
        command += ["--probe", "hook_logits", "--save-probes", out.with_suffix(".npz")]
    start = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"weir measure: {time.time() - start:.1f} s")
    return json.loads(out.read_text())


def as_number(value) -> float:
    return float(value)  # "NaN", "Infinity" and "-Infinity" too


def is_numbers(value) -> bool:
    numbers = (int, float)
    names = ("NaN", "Infinity", "-Infinity")
    return isinstance(value, list) and all(
        (isinstance(v, numbers) and not isinstance(v, bool)) or v in names for v in value
    )


class Comparison:
    """The worst relative disagreement of each key, layers taken together."""

    def __init__(self) -> None:
        self.worst: dict[str, float] = collections.defaultdict(float)
        self.where: dict[str, str] = {}
        self.problems: list[str] = []
        self.numbers = 0

    def note(self, key: str, error: float, where: str) -> None:
        if error >= self.worst[key]:
            self.worst[key], self.where[key] = error, where

    def arrays(self, key: str, a: np.ndarray, b: np.ndarray, where: str) -> None:
        self.numbers += len(b)
        if len(a) != len(b) or (np.isnan(a) != np.isnan(b)).any():
            return self.problems.append(f"{where}: {a} against {b}")
        finite = np.abs(b[np.isfinite(b)])
        top = finite.max() if finite.size else 0.0
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = np.maximum(np.abs(b), 1e-3 * top)
            error = np.where((a == b) | np.isnan(b), 0.0, np.abs(a - b) / scale)
        # The gradient of a first query, which sees one key, is zero: what f32 leaves is rounding.
        if key == "grad_norm.q" and max(abs(a[0]), abs(b[0])) < 1e-4 * top:
            error[0] = 0.0
        if error.size:
            worst = int(error.argmax())
            self.note(key, float(error[worst]), f"{where}[{worst}]")

    def massive(self, a: list, b: list, where: str) -> None:
        """Entries by place, since equal sizes may come in either order."""

        def places(entries: list) -> dict:
            return {(e["sequence"], e["token"], e["feature"]): e["value"] for e in entries}

        a, b = places(a), places(b)
        if a.keys() != b.keys():
            return self.problems.append(f"{where}: places {sorted(a)} against {sorted(b)}")
        if b:
            values = [np.array([x[place] for place in b]) for x in (a, b)]
            self.arrays("massive_activations", *values, where)

    def values(self, a, b, key: str, where: str) -> None:
        if isinstance(b, dict):
            if not isinstance(a, dict) or a.keys() != b.keys():
                keys = sorted(a) if isinstance(a, dict) else a
                return self.problems.append(f"{where}: keys {keys} against {sorted(b)}")
            for name in b:
                inner = name if key in ("", "layers") else f"{key}.{name}"
                self.values(a[name], b[name], inner, f"{where}.{name}")
        elif key.endswith("massive_activations"):
            self.massive(a, b, where)
        elif is_numbers(b) and b:
            self.arrays(key, np.array(list(map(as_number, a))), np.array(list(map(as_number, b))), where)
        elif isinstance(b, list):
            if len(a) != len(b):
                return self.problems.append(f"{where}: {len(a)} entries against {len(b)}")
            for i, (x, y) in enumerate(zip(a, b)):
                self.values(x, y, key, f"{where}[{i}]")
        elif is_numbers([b]):
            self.arrays(key, np.array([as_number(a)]), np.array([as_number(b)]), where)
        elif a != b:
            self.problems.append(f"{where}: {a} against {b}")


def logits_of(archive: pathlib.Path, shape: torch.Size) -> torch.Tensor:
    with np.load(archive) as arrays:
        (logits,) = [arrays[name] for name in arrays.files if name.startswith("hook_logits")]
    return torch.from_numpy(logits.reshape(shape))


def compare_logits(actual: torch.Tensor, expected: torch.Tensor, yardstick) -> bool:
    difference = (actual - expected).abs().max().item()
    print(f"logits up to {expected.abs().max():.1f}: largest difference {difference:.2e}, {LOGITS} is allowed")
    if yardstick is not None:
        print(f"    the library in f32: {(yardstick - expected).abs().max():.2e}")
    return difference <= LOGITS


def compared(actual: dict, expected: dict) -> Comparison:
    for name in EXACT:
        actual["model"].pop(name, None), expected["model"].pop(name, None)
    actual["settings"] = {key: actual["settings"].get(key) for key in expected["settings"]}
    comparison = Comparison()
    comparison.values(actual, expected, "", "record")
    return comparison


def compare(actual: dict, expected: dict, yardstick: dict | None) -> bool:
    comparison = compared(actual, expected)
    library = compared(yardstick, expected).worst if yardstick else {}
    for key, error in sorted(comparison.worst.items(), key=lambda item: -item[1]):
        allowed = LOSS if key == "loss" else RELATIVE
        mark = "ok " if error <= allowed else "OUT"
        beside = f"{library[key]:9.2e} " if library else ""
        print(f"{mark} {key:32} {error:9.2e} {beside} {comparison.where[key]}")
        if error > allowed:
            comparison.problems.append(f"{key} differs by {error:.2e}; {allowed} is allowed")
    print(f"{comparison.numbers} numbers compared")
    for problem in comparison.problems:
        print("problem:", problem)
    return not comparison.problems


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        if options.tokens:
            tokens = np.load(options.tokens)
        else:
            source, more = located(options, folder)
            vocabulary = AutoConfig.from_pretrained(source, **more).vocab_size
            rng = np.random.default_rng(options.seed)
            tokens = rng.integers(0, vocabulary, (options.batch, options.length + 1))
        np.save(folder / "tokens.npy", tokens.astype(np.int32))
        dtype = torch.float64 if options.f64 else torch.float32
        expected, logits = library_record(options, folder, tokens, dtype)
        yardstick, library_logits = None, None
        if options.yardstick:
            yardstick, library_logits = library_record(options, folder, tokens, torch.float32)
        actual = weir_record(options, folder / "tokens.npy", folder / "record.json")
        print(f"loss: weir {actual['loss']:.7f}")
        fine = compare(actual, expected, yardstick)
        if options.logits:
            logits_here = logits_of(folder / "record.npz", logits.shape)
            fine = compare_logits(logits_here, logits, library_logits) and fine
        sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
