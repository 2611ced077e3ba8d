"""One measurement by PyTorch with hooks a line of stdin (line_protocol.py): what `weir measure` computes.

    python measure_steps.py MODEL TOKENS.npy

MODEL is a folder of Hugging Face. `transformers` in f32, weights frozen, eager attention, hooks that keep what
the record needs, loss.backward(), and the record from that (tests/reference).
"""

from __future__ import annotations

import pathlib
import sys
import time

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "reference"))

from line_protocol import serve  # noqa: E402
from measure_record import measure, plain  # noqa: E402
from transformers_trace import load, run, sizes_of  # noqa: E402


def main() -> None:
    folder, tokens = pathlib.Path(sys.argv[1]), np.load(sys.argv[2])
    model = load(folder, torch.float32)
    parameters = sum(p.numel() for p in model.parameters())
    sizes = sizes_of(model.config)

    def answer(_=None) -> dict:
        start = time.perf_counter()
        _, loss, trace = run(model, torch.from_numpy(tokens).long(), sizes)
        plain(measure(folder.name, sizes, parameters, loss, trace))
        return {"seconds": time.perf_counter() - start, "loss": loss}

    start = time.perf_counter()
    answer()
    serve(answer, version=f"torch {torch.__version__}", threads=torch.get_num_threads(),
          parameters=parameters, warm_up_seconds=time.perf_counter() - start)  # fmt: skip


if __name__ == "__main__":
    main()
