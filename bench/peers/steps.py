"""One training step of PyTorch a line of stdin (line_protocol.py): the same model, sizes, loss, clipping
and AdamW as Weir's `step_bench`, f32.

    python steps.py eager|compile|hooks demo|text|llama-0.1b

eager, compile: train_eager.py's model with scaled_dot_product_attention. hooks: explicit attention whose
weights and everything else the record `weir.measure/1` needs keep their gradients, and the record of all
layers on every step (tests/reference/measure_record.py), as a user of hooks would take it.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "reference"))

from line_protocol import serve  # noqa: E402
from llama_model import Trace  # noqa: E402
from measure_record import measure, plain  # noqa: E402
from train_eager import SETTINGS, Block, Llama, make_optimiser, rotate  # noqa: E402
from transformers_trace import Sizes  # noqa: E402


class HookedBlock(Block):
    """The block with every value kept; the norms read copies, whose gradients are the branches' own."""

    def forward(self, x, cos, sin, keep, mask):
        B, T, D = x.shape
        x = keep("resid_pre", x)
        normalised = keep("attn_in", self.attn_norm(keep("attn_branch", x * 1.0)))
        q, k, v = self.qkv(normalised).view(B, T, -1, self.d_head).split(
            (self.heads, self.kv_heads, self.kv_heads), dim=2
        )
        table = (cos[:, None], sin[:, None])
        q, k, v = keep("q", rotate(q, *table)), keep("k", rotate(k, *table)), keep("v", v)
        group = self.heads // self.kv_heads
        keys, values = (y.repeat_interleave(group, 2).transpose(1, 2) for y in (k, v))
        scores = q.transpose(1, 2) @ keys.transpose(2, 3) * self.d_head**-0.5
        pattern = keep("pattern", torch.softmax(scores.masked_fill(mask, float("-inf")), -1))
        z = (pattern @ values).transpose(1, 2).reshape(B, T, D)
        x = keep("resid_mid", x + keep("attn_out", self.out(z)))
        normalised = keep("mlp_in", self.mlp_norm(keep("mlp_branch", x * 1.0)))
        gate, up = self.gate_up(normalised).chunk(2, dim=-1)
        return keep("resid_post", x + keep("mlp_out", self.down(F.silu(gate) * up)))


class HookedLlama(Llama):
    def __init__(self, size: argparse.Namespace) -> None:
        super().__init__(size)
        for block in self.blocks:
            block.__class__ = HookedBlock
        mask = torch.ones(size.length, size.length, dtype=torch.bool).triu(1)
        self.register_buffer("mask", mask)
        self.trace = Trace()

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.trace = Trace()
        x = self.embedding(tokens)
        for layer, block in enumerate(self.blocks):

            def keep(name, value, layer=layer):
                return self.trace.keep(layer, name, value)

            x = block(x, self.cos, self.sin, keep, self.mask)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def sizes_of(size: argparse.Namespace) -> Sizes:
    return Sizes(size.layers, size.d_model, size.heads, size.kv_heads, size.d_model // size.heads,
                 size.d_ff, size.vocabulary)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["eager", "compile", "hooks"])
    parser.add_argument("setting", choices=SETTINGS)
    options = parser.parse_args()
    size = argparse.Namespace(**SETTINGS[options.setting])
    torch.manual_seed(0)
    model = HookedLlama(size) if options.mode == "hooks" else Llama(size)
    optimiser = make_optimiser(model, 1e-3)
    called = torch.compile(model) if options.mode == "compile" else model
    sizes, parameters = sizes_of(size), sum(p.numel() for p in model.parameters())

    def step(_=None) -> dict:
        batch = torch.randint(size.vocabulary, (size.batch, size.length + 1))
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss = called(batch[:, :-1], batch[:, 1:])
        loss.backward()
        record_start = time.perf_counter()
        if options.mode == "hooks":
            plain(measure("llama", sizes, parameters, loss.item(), model.trace))
            model.trace = None
        record = time.perf_counter() - record_start
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        value = loss.item()
        return {"seconds": time.perf_counter() - start, "record_seconds": record, "loss": value}

    start = time.perf_counter()
    step()
    serve(step, version=f"torch {torch.__version__}", threads=torch.get_num_threads(),
          parameters=parameters, warm_up_seconds=time.perf_counter() - start)  # fmt: skip


if __name__ == "__main__":
    main()
