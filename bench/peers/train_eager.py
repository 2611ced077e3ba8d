"""Seconds per training step of the Llama-like model in PyTorch, f32 on the CPU.

    python train_eager.py text            4 layers, d_model 256, vocabulary 50257, T 256, batch 16
    python train_eager.py llama-0.1b      16 layers, d_model 512, vocabulary 50257, T 1024, batch 4
    python train_eager.py demo            1 layer, 1 head, d_model 128, vocabulary 67, T 128, batch 32
    python train_eager.py text --layers 2 --threads 1 --steps 20 --compile

Prints one JSON object. Needs `torch` (tests/reference/requirements.txt has the version).

A step is forward, mean cross-entropy, backward, clipping by global norm, AdamW, as a careful user
of PyTorch would write it: fused projections of q, k, v and of gate and up,
scaled_dot_product_attention, F.rms_norm, tables of sines made once, fused AdamW, gradients set to
none. Batches are drawn before the clock starts. The CPU seconds of a step are of all threads
together, waiting ones included; with one thread they say what the step costs on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

SETTINGS = {
    "text": dict(layers=4, d_model=256, heads=4, kv_heads=4, d_ff=704, vocabulary=50257,
                 length=256, batch=16),
    "llama-0.1b": dict(layers=16, d_model=512, heads=8, kv_heads=8, d_ff=1408, vocabulary=50257,
                       length=1024, batch=4),
    "demo": dict(layers=1, d_model=128, heads=1, kv_heads=1, d_ff=320, vocabulary=67,
                 length=128, batch=32),
}  # fmt: skip


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """RoPE of x [B,heads,T,d] in the half-split layout; cos and sin are [T,d], sin signed."""
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin


class Block(nn.Module):
    def __init__(self, size: argparse.Namespace) -> None:
        super().__init__()
        self.heads, self.kv_heads = size.heads, size.kv_heads
        self.d_head = size.d_model // size.heads
        d_qkv = (size.heads + 2 * size.kv_heads) * self.d_head
        self.attn_norm = nn.RMSNorm(size.d_model, eps=1e-5)
        self.qkv = nn.Linear(size.d_model, d_qkv, bias=False)
        self.out = nn.Linear(size.d_model, size.d_model, bias=False)
        self.mlp_norm = nn.RMSNorm(size.d_model, eps=1e-5)
        self.gate_up = nn.Linear(size.d_model, 2 * size.d_ff, bias=False)
        self.down = nn.Linear(size.d_ff, size.d_model, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        B, T, D = x.shape
        qkv = self.qkv(self.attn_norm(x)).view(B, T, -1, self.d_head).transpose(1, 2)
        q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        z = F.scaled_dot_product_attention(
            rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True,
            enable_gqa=self.kv_heads != self.heads,
        )  # fmt: skip
        x = x + self.out(z.transpose(1, 2).reshape(B, T, D))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, size: argparse.Namespace) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size.vocabulary, size.d_model)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.d_model, eps=1e-5)
        self.head = nn.Linear(size.d_model, size.vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
        d = size.d_model // size.heads
        frequency = 10000.0 ** (-torch.arange(0, d, 2) / d)
        angle = torch.outer(torch.arange(size.length), frequency)
        self.register_buffer("cos", torch.cat([angle.cos(), angle.cos()], -1))
        self.register_buffer("sin", torch.cat([-angle.sin(), angle.sin()], -1))

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def make_optimiser(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-8, fused=True)


def cpu_model() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Seconds per training step in PyTorch, f32 on the CPU."
    )
    parser.add_argument("setting", choices=SETTINGS)
    for name in SETTINGS["text"]:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="instead of the setting's")
    parser.add_argument("--steps", type=int, default=10, help="timed steps (default 10)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the clock (default 2)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (default 1e-3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    arguments = parser.parse_args()
    for name, value in SETTINGS[arguments.setting].items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    if arguments.d_model % arguments.heads or arguments.heads % arguments.kv_heads:
        parser.error("heads must divide d_model, and kv_heads must divide heads")
    return arguments


def main() -> None:
    size = parse_arguments()
    torch.set_num_threads(size.threads)
    torch.manual_seed(size.seed)
    model = Llama(size)
    optimiser = make_optimiser(model, size.rate)
    compiled = torch.compile(model) if size.compile else model
    shape = (size.warmup + size.steps, size.batch, size.length + 1)
    batches = torch.randint(size.vocabulary, shape)

    seconds, cpu_seconds, losses = [], [], []
    for batch in batches:
        start, cpu_start = time.perf_counter(), time.process_time()
        optimiser.zero_grad(set_to_none=True)
        loss = compiled(batch[:, :-1], batch[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)

    timed = seconds[size.warmup :]
    median = statistics.median(timed)
    result = {
        "program": "pytorch compile" if size.compile else "pytorch eager",
        "torch": torch.__version__,
        "cpu": cpu_model(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": size.threads,
        "setting": size.setting,
        **{name: getattr(size, name) for name in SETTINGS["text"]},
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": size.steps,
        "seconds_per_step": {"median": median, "min": min(timed), "max": max(timed)},
        "cpu_seconds_per_step": statistics.median(cpu_seconds[size.warmup :]),
        "tokens_per_second": size.batch * size.length / median,
        "first_step_seconds": seconds[0],
        "loss": {"first": losses[0], "last": losses[-1]},
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
