"""The same measurement by PyTorch with hooks and by `weir measure`, in turn on one machine.

    python measure_hooks.py --model SmolLM2-135M/ --text book.txt
    python measure_hooks.py --model SmolLM2-135M/ --text book.txt --batch 8 --length 512 --runs 5

PyTorch: `transformers` in f32, weights frozen, eager attention, hooks that keep what the record needs,
loss.backward(), and the record from that (tests/reference/transformers_trace.py, measure_record.py).
Weir: `weir measure` as a process of its own, compiled code from its cache. Prints one JSON object:
seconds of every run (PyTorch's without loading the model, Weir's as it reports its run, and of the
whole process), and how far the two records are apart in units of the record's tolerance rule.
Needs tests/reference/requirements.txt. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from transformers import AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "reference"))

from measure_record import measure, plain  # noqa: E402
from transformers_trace import load, run, sizes_of  # noqa: E402


def windows(tokenizer, text: pathlib.Path, batch: int, length: int) -> np.ndarray:
    """The first windows of the text, as `weir measure --text` takes them: neighbours share one id."""
    ids = tokenizer(text.read_text(), add_special_tokens=False)["input_ids"]
    return np.array([ids[b * length : b * length + length + 1] for b in range(batch)], dtype=np.int32)


def number(value) -> float:
    return float(value) if not isinstance(value, str) else float(value.replace("Infinity", "inf"))


def distance(a, b, where: str = "record") -> tuple[float, str]:
    """The largest |a - b| / max(|b|, 1e-3 max|array|), innermost lists being the arrays, and its place."""
    if isinstance(b, dict):
        return max((distance(a[key], b[key], f"{where}.{key}") for key in b), default=(0.0, where))
    if isinstance(b, list) and b and not isinstance(b[0], (int, float, str)):
        if len(a) != len(b):
            return math.inf, where
        return max(distance(x, y, f"{where}[{i}]") for i, (x, y) in enumerate(zip(a, b)))
    if isinstance(b, str) and not re.fullmatch(r"NaN|-?Infinity", b):
        return (0.0 if a == b or where.endswith(".name") else math.inf), where
    x, y = (np.atleast_1d([number(v) for v in (w if isinstance(w, list) else [w])]) for w in (a, b))
    if x.shape != y.shape:
        return math.inf, where
    both_nan = np.isnan(x) & np.isnan(y)
    scale = np.maximum(np.abs(y), 1e-3 * np.max(np.abs(y[~both_nan]), initial=0.0))
    apart = np.where(both_nan | (x == y), 0.0, np.abs(x - y) / np.where(scale == 0, 1.0, scale))
    return (float(apart.max()) if apart.size else 0.0), where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, default=ROOT / "examples" / "persuasion.txt")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--weir", type=pathlib.Path, default=ROOT / "build" / "weir")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the two records")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    model = load(options.model, torch.float32)
    parameters = sum(p.numel() for p in model.parameters())
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokens = windows(tokenizer, options.text, options.batch, options.length)
    folder = pathlib.Path(tempfile.mkdtemp())
    np.save(folder / "tokens.npy", tokens)
    result = {"model": str(options.model), "batch": options.batch, "length": options.length,
              "threads": options.threads, "torch": torch.__version__,
              "torch_seconds": [], "weir_seconds": [], "weir_process_seconds": []}  # fmt: skip

    def by_torch() -> dict:
        sizes = sizes_of(model.config)
        _, loss, trace = run(model, torch.from_numpy(tokens).long(), sizes)
        return plain(measure(options.model.name, sizes, parameters, loss, trace))

    def by_weir() -> dict:
        command = [options.weir, "measure", "--model", options.model, "--tokens", folder / "tokens.npy",
                   "--json", folder / "weir.json", "--no-report", "--threads", str(options.threads)]  # fmt: skip
        start = time.perf_counter()
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        result["weir_process_seconds"].append(round(time.perf_counter() - start, 3))
        result["weir_seconds"].append(float(re.search(r"run ([\d.]+) s", output)[1]))
        return json.loads((folder / "weir.json").read_text())

    by_weir(), by_torch()  # compiles, warms up
    result["weir_seconds"].clear(), result["weir_process_seconds"].clear()
    for _ in range(options.runs):
        start = time.perf_counter()
        reference = by_torch()
        result["torch_seconds"].append(round(time.perf_counter() - start, 3))
        record = by_weir()
    result["median_ratio"] = statistics.median(result["torch_seconds"]) / statistics.median(
        result["weir_seconds"]
    )
    apart, where = distance(record, reference)
    result["largest_difference"], result["at"] = apart, where
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / "torch.json").write_text(json.dumps(reference))
        (options.keep / "weir.json").write_text(json.dumps(record))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
