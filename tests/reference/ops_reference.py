"""Writes the op cases: `op_NAME.safetensors`, values and gradients in f64 of single ops.

    python ops_reference.py [OUT_DIR]

A file holds several cases; their names and attributes are JSON under the metadata key `reference`,
`{"cases": {CASE: {ATTRIBUTE: value}}}`. The tensors of a case are

    CASE.in.X   operands        CASE.upstream.Y   a random gradient of result Y
    CASE.out.Y  results         CASE.grad.X       the gradient of operand X that it gives

Formulas are written out; where PyTorch has the op, its f64 result must be the same.
"""

from __future__ import annotations

import json
import math
import pathlib
import sys
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

import llama_model as model
from identities import require

DEFAULT_OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "reference"


def f32(x: torch.Tensor) -> torch.Tensor:
    """The nearest f32 values, in f64."""
    return x.float().double()


class Op:
    """Collects the cases of one op; operands are drawn from the op's own generator."""

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.rng = name, np.random.default_rng(seed)
        self.tensors: dict[str, np.ndarray] = {}
        self.cases: dict[str, dict] = {}

    def normal(self, *shape: int, std: float = 1.0) -> torch.Tensor:
        """f32-representable, so that an f32 engine starts from the same values."""
        values = np.asarray(std * self.rng.standard_normal(shape), dtype=np.float32)
        return torch.from_numpy(values.astype(np.float64))

    def case(self, case: str, function, operands: dict, same_as=None, **attributes) -> None:
        """Runs `function(**operands)`, which gives a dict of results; those of floating type get
        an upstream gradient unless their name is in `no_gradient`.

        same_as(**operands) gives the first result by PyTorch's own implementation.
        """
        no_gradient = attributes.pop("no_gradient", ())
        leaves = {
            key: x.clone().requires_grad_() if x.is_floating_point() else x
            for key, x in operands.items()
        }
        for key, x in operands.items():
            exact = not x.is_floating_point() or torch.equal(x, f32(x))
            require(exact, f"{self.name} {case}: {key} is not representable in f32")
        results = function(**leaves)
        self.cases[case] = attributes
        loss = torch.zeros((), dtype=torch.float64)
        for key, y in results.items():
            self.tensors[f"{case}.out.{key}"] = y.detach().numpy()
            if key not in no_gradient and y.requires_grad:
                upstream = self.normal(*y.shape)
                self.tensors[f"{case}.upstream.{key}"] = upstream.numpy()
                loss = loss + (upstream * y).sum()
        if loss.requires_grad:
            loss.backward()
        for key, x in leaves.items():
            x_value = x.detach().numpy()
            self.tensors[f"{case}.in.{key}"] = (
                x_value.astype(np.float32) if x.is_floating_point() else x_value.astype(np.int32)
            )
            if x.is_floating_point() and x.grad is not None:
                require(bool(torch.isfinite(x.grad).all()), f"{self.name} {case}: gradient {key}")
                self.tensors[f"{case}.grad.{key}"] = x.grad.numpy()
        if same_as is not None:
            first = next(iter(results.values())).detach()
            other = same_as(**operands)
            require(torch.allclose(first, other, rtol=1e-12, atol=1e-13), f"{self.name} {case}")

    def write(self, out: pathlib.Path) -> None:
        save_file(
            {key: np.ascontiguousarray(value) for key, value in self.tensors.items()},
            out / f"op_{self.name}.safetensors",
            metadata={"reference": json.dumps({"cases": self.cases})},
        )


def rms_norm() -> Op:
    op, eps = Op("rms_norm", 101), 1e-5
    x = op.normal(2, 5, 7)
    x[0, 1] *= 1e-3  # mean square below eps
    x[0, 2] = 0.0
    x[1, 3] *= 1e3
    x = f32(x)
    op.case(
        "plain",
        lambda x, gamma: {"y": model.rms_norm(x, gamma, eps)},
        {"x": x, "gamma": op.normal(7)},
        same_as=lambda x, gamma: F.rms_norm(x, (7,), gamma, eps),
        eps=eps,
    )
    return op


def layer_norm() -> Op:
    op, eps = Op("layer_norm", 102), 1e-5

    def function(x, gamma, beta=None):
        centred = x - x.sum(-1, keepdim=True) / x.shape[-1]
        variance = (centred * centred).sum(-1, keepdim=True) / x.shape[-1]  # not T-1
        y = centred / torch.sqrt(variance + eps) * gamma
        return {"y": y if beta is None else y + beta}

    def theirs(x, gamma, beta=None):
        return F.layer_norm(x, (9,), gamma, beta, eps)

    x = op.normal(2, 5, 9) + 0.5
    x[0, 1] = 3.0 + 1e-3 * (x[0, 1] - 0.5)  # variance below eps
    x = f32(x)
    gamma = f32(1 + op.normal(9, std=0.3))
    op.case("with_beta", function, {"x": x, "gamma": gamma, "beta": op.normal(9)}, theirs, eps=eps)
    op.case("no_beta", function, {"x": x, "gamma": gamma}, theirs, eps=eps)
    return op


def activations() -> Op:
    op = Op("activations", 103)

    def gelu_tanh(x):
        return {"y": x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))}

    def gelu_erf(x):
        return {"y": x / 2 * (1 + torch.erf(x / math.sqrt(2)))}

    points = torch.cat([
        torch.linspace(-8, 8, 33, dtype=torch.float64),
        torch.tensor([-80, -30, -12.5, -1e-3, 1e-6, 12.5, 30, 80], dtype=torch.float64),
    ])
    points = f32(points)
    op.case("gelu_tanh", gelu_tanh, {"x": points}, lambda x: F.gelu(x, approximate="tanh"))
    op.case("gelu_erf", gelu_erf, {"x": points}, lambda x: F.gelu(x))
    op.case("silu", lambda x: {"y": model.silu(x)}, {"x": points}, lambda x: F.silu(x))
    op.case(
        "swiglu",
        lambda gate, up: {"y": model.silu(gate) * up},
        {"gate": op.normal(3, 11, std=2), "up": op.normal(3, 11)},
    )
    return op


def rope() -> Op:
    op = Op("rope", 104)
    for name, base, d, inverse in (
        ("base_10000", 1e4, 6, False),
        ("base_500", 500.0, 8, False),
        ("inverse", 1e4, 6, True),
    ):

        def function(x, base=base, inverse=inverse):
            if not inverse:
                return {"y": model.rope(x, base)}
            half = x.shape[-1] // 2  # a rotation by the opposite angle: sines change sign
            flip = torch.cat([torch.ones(half), -torch.ones(half)]).double()
            return {"y": model.rope(x * flip, base) * flip}

        op.case(name, function, {"x": op.normal(1, 7, 2, d)}, base=base, inverse=inverse)
    x = op.normal(1, 40, 1, 6)
    turned = model.rope(x, 1e4)
    require(torch.allclose(turned.norm(dim=-1), x.norm(dim=-1)), "rope keeps norms")
    op.case("long", lambda x: {"y": model.rope(x, 1e4)}, {"x": x}, base=1e4, inverse=False)
    return op


def softmax() -> Op:
    op = Op("softmax", 105)
    x = op.normal(2, 6, 7, std=2)
    x[0, 1] += 1000.0  # overflows without the maximum
    x[0, 2] -= 1000.0
    x[0, 3, 2:4] = -math.inf
    x[1, 0] = 0.0
    x[1, 1, 4] = 60.0  # saturated
    x = f32(x)
    op.case(
        "softmax",
        lambda x: {"y": model.normalise(x, "softmax")[0]},
        {"x": x},
        lambda x: F.softmax(x, -1),
    )
    op.case(
        "softmax_1",
        lambda x: {"y": model.normalise(x, "softmax-1")[0]},
        {"x": x},
        lambda x: F.softmax(F.pad(x, (0, 1)), -1)[..., :-1],
    )
    return op


def cross_entropy() -> Op:
    op = Op("cross_entropy", 106)
    logits = op.normal(12, 7, std=2)
    logits[3] += 500.0
    logits[5, 1] = 90.0
    logits = f32(logits)
    targets = torch.from_numpy(op.rng.integers(0, 7, 12))
    targets[5] = 0  # a loss near 90
    for name, ignored in (("all_valid", []), ("some_ignored", [0, 4, 11]), ("one_valid", range(11))):
        chosen = targets.clone()
        chosen[list(ignored)] = -1
        op.case(
            name,
            lambda logits, targets: {"loss": model.cross_entropy(logits, targets)},
            {"logits": logits, "targets": chosen},
            lambda logits, targets: F.cross_entropy(logits, targets, ignore_index=-1),
            valid=int((chosen >= 0).sum()),
        )
    return op


def attention_op(name: str, seed: int):
    """The op and what runs a case of it.

    out [B,T,H,d]; lse [B,H,T]; statistics of the weights a[B,H,T,S], none of them differentiated.

    column_sum, column_square [B,H,S]; entropy (nats), sink_column a[:,:,:,sink], row_max, row_sum
    [B,H,T]; those before row_sum are of a / row_sum but for softmax, and of zeros in a row of zeros.
    lse is the log of what numerators are divided by; `other` [B,H,T], where there is one, the score
    of one more key.
    """
    op = Op(name, seed)
    statistics = (
        "lse", "pattern", "column_sum", "column_square", "entropy", "sink_column", "row_max", "row_sum",
    )

    def run(name, B, T, S, H, K, d, causal, normaliser="softmax", sink=0, std=1.0, shift=0.0):
        def function(q, k, v, other=None):
            scores = model.attention_scores(q, k, causal)
            pattern, lse = model.normalise(scores, normaliser, other)
            row_sum = pattern.sum(-1)
            a = pattern
            if normaliser != "softmax":
                a = pattern / torch.where(row_sum == 0, 1.0, row_sum)[..., None]
            log_a = torch.log(torch.where(a > 0, a, 1.0))
            return {
                "out": model.attention_mix(pattern, v),
                "lse": lse,
                "pattern": pattern,
                "column_sum": a.sum(2),
                "column_square": (a * a).sum(2),
                "entropy": -(a * log_a).sum(-1),
                "sink_column": a[:, :, :, sink],
                "row_max": a.amax(-1),
                "row_sum": row_sum,
            }

        def theirs(q, k, v):
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
            return y.transpose(1, 2)

        q, k = op.normal(B, T, H, d, std=std), op.normal(B, S, K, d, std=std)
        if shift:  # added to every score
            q[..., 0], k[..., 0] = 1.0, shift * math.sqrt(d)
        operands = {"q": f32(q), "k": f32(k), "v": op.normal(B, S, K, d)}
        if normaliser in ("sink-logit", "kv-bias"):
            operands["other"] = op.normal(B, H, T, std=2.0)
        op.case(
            name,
            function,
            operands,
            theirs if normaliser == "softmax" else None,
            causal=causal,
            scale=1 / math.sqrt(d),
            normaliser=normaliser,
            sink=sink,
            no_gradient=statistics,
        )

    return op, run


def attention() -> Op:
    op, run = attention_op("attention", 107)
    run("causal", 2, 7, 7, 4, 2, 3, True)
    run("causal_peaked", 1, 9, 9, 3, 1, 6, True, sink=2, std=4.0)
    run("bidirectional", 1, 5, 5, 2, 2, 3, False)
    run("cross", 1, 4, 9, 4, 2, 4, False)
    run("one_token", 2, 1, 1, 2, 1, 4, True)
    run("softmax_1", 1, 5, 5, 4, 2, 4, True, normaliser="softmax-1")
    run("softmax_1_off", 1, 5, 5, 2, 1, 4, True, normaliser="softmax-1", sink=1, shift=-9.0)
    run("softmax_1_saturated", 1, 5, 5, 2, 1, 4, False, normaliser="softmax-1", shift=9.0)
    return op


def attention_normalisers() -> Op:
    """The normalisers beside softmax and softmax-1; the keys of `_large` all have large scores."""
    op, run = attention_op("attention_normalisers", 112)
    for normaliser in ("softpick", "relu", "sigmoid", "sink-logit"):
        case = normaliser.replace("-", "_")
        run(case, 2, 6, 6, 4, 2, 4, True, normaliser=normaliser, std=1.5)
        run(f"{case}_bidirectional", 1, 4, 7, 2, 1, 3, False, normaliser=normaliser, sink=2)
        run(f"{case}_negative", 1, 5, 5, 2, 1, 4, True, normaliser=normaliser, shift=-9.0)
        run(f"{case}_large", 1, 5, 5, 2, 1, 4, True, normaliser=normaliser, shift=40.0)
    return op


def v_scale() -> Op:
    """v [B,T,K,d]; C = constant * exp(theta[K]) where there is a theta, else constant."""
    op, constant = Op("v_scale", 108), 0.05
    v = op.normal(2, 5, 3, 4, std=0.15)  # ||v||^2 around C
    v[0, 1, 0] = 0.0
    v[0, 2, 1] *= 1e-3
    v[1, 3, 2] *= 100
    v = f32(v)
    for variant, internal in (
        ("full", "full"), ("backward", "backward-only"), ("forward", "forward-only"),
    ):
        op.case(
            variant,
            lambda v, internal=internal: {"y": model.v_scale(v, internal, constant)},
            {"v": v},
            variant=variant,
            c=constant,
        )
    op.case(
        "learned",
        lambda v, theta: {"y": model.v_scale(v, "learned", constant, theta)},
        {"v": v, "theta": op.normal(3)},
        variant="full",
        c=constant,
    )
    return op


def embedding() -> Op:
    op = Op("embedding", 109)
    ids = torch.tensor([[3, 0, 3, 10], [3, 7, 0, 10], [10, 10, 10, 1]])
    op.case(
        "repeated",
        lambda table, ids: {"y": table[ids]},
        {"table": op.normal(11, 5), "ids": ids},
        lambda table, ids: F.embedding(ids, table),
    )
    return op


def adamw() -> Op:
    """One step from moments in mid-training; the gradient is multiplied by `factor` first."""
    op, beta1, beta2, eps = Op("adamw", 110), 0.9, 0.95, 1e-8
    for name, step, rate, decay, factor in (
        ("first_step", 1, 1e-2, 0.1, 1.0),
        ("later_clipped", 37, 3e-4, 0.1, 0.25),
        ("no_decay", 5, 1e-2, 0.0, 1.0),
    ):
        p, g = op.normal(3, 7), op.normal(3, 7, std=0.1)
        g[0, 2] = 0.0
        m, v = torch.zeros_like(p), torch.zeros_like(p)
        if step > 1:
            m, v = op.normal(3, 7, std=0.1), f32(op.normal(3, 7, std=0.1) ** 2)

        def function(p, g, m, v, step=step, rate=rate, decay=decay, factor=factor):
            g = g * factor
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g * g
            m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
            p = p * (1 - rate * decay) - rate * m_hat / (torch.sqrt(v_hat) + eps)
            return {"p": p, "m": m, "v": v}

        def theirs(p, g, m, v, step=step, rate=rate, decay=decay, factor=factor):
            parameter = torch.nn.Parameter(p.clone())
            parameter.grad = g * factor
            optimiser = torch.optim.AdamW(
                [parameter], lr=rate, betas=(beta1, beta2), eps=eps, weight_decay=decay
            )
            optimiser.state[parameter] = {
                "step": torch.tensor(float(step - 1)), "exp_avg": m.clone(), "exp_avg_sq": v.clone()
            }
            optimiser.step()
            return parameter.detach()

        op.case(
            name, function, {"p": p, "g": g, "m": m, "v": v}, theirs,
            beta1=beta1, beta2=beta2, eps=eps, step=step, rate=rate, weight_decay=decay,
            factor=factor, no_gradient=("p", "m", "v"),
        )
    return op


def muon() -> Op:
    """One step of Muon from a momentum in mid-training. The iteration is done on singular values,
    s -> a s + b s^3 + c s^5 five times, which an implementation by products has to come to; theirs
    is PyTorch's, in f64 instead of bf16."""
    op, momentum, scale = Op("muon", 112), 0.95, 0.2
    for name, shape, rate, decay, factor in (
        ("wide", (3, 7), 1e-2, 0.1, 1.0),
        ("tall_clipped", (9, 4), 3e-3, 0.1, 0.25),
        ("square_no_decay", (5, 5), 1e-2, 0.0, 1.0),
        ("one_row", (1, 6), 1e-2, 0.1, 1.0),
    ):
        p, g, m = op.normal(*shape), op.normal(*shape, std=0.1), op.normal(*shape, std=0.1)

        def function(p, g, m, rate=rate, decay=decay, factor=factor):
            g = g * factor
            m = momentum * m + (1 - momentum) * g
            direction = momentum * m + (1 - momentum) * g
            u, s, vh = torch.linalg.svd(direction, full_matrices=False)
            s = s / torch.clamp(torch.sqrt((direction * direction).sum()), min=1e-7)
            for _ in range(5):
                s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
            step = rate * scale * math.sqrt(max(p.shape)) * (u @ torch.diag(s) @ vh)
            return {"p": p - rate * decay * p - step, "m": m}

        def theirs(p, g, m, rate=rate, decay=decay, factor=factor):
            parameter = torch.nn.Parameter(p.clone())
            parameter.grad = g * factor
            optimiser = torch.optim.Muon(
                [parameter], lr=rate, momentum=momentum, weight_decay=decay,
                adjust_lr_fn="match_rms_adamw",
            )
            optimiser.state[parameter] = {"momentum_buffer": m.clone()}
            with mock.patch.object(torch, "bfloat16", torch.float64):
                optimiser.step()
            return parameter.detach()

        op.case(
            name, function, {"p": p, "g": g, "m": m}, theirs,
            momentum=momentum, rate=rate, weight_decay=decay, scale=scale, factor=factor,
            no_gradient=("p", "m"),
        )
    return op


def clip() -> Op:
    """One norm over all gradients together; factor = min(1, clip / norm)."""
    op = Op("clip", 111)
    for name, limit, std in (("active", 1.0, 1.0), ("inactive", 1.0, 0.05)):
        def function(a, b, c, limit=limit):
            norm = torch.sqrt(sum((x * x).sum() for x in (a, b, c)))
            return {"norm": norm, "factor": torch.clamp(limit / norm, max=1.0)}

        operands = {
            "a": op.normal(3, 5, std=std), "b": op.normal(7, std=std), "c": op.normal(1, std=std)
        }
        op.case(name, function, operands, clip=limit, no_gradient=("norm", "factor"))
    return op


OPS = (
    rms_norm, layer_norm, activations, rope, softmax, cross_entropy, attention,
    attention_normalisers, v_scale, embedding, adamw, muon, clip,
)


def main() -> None:
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for make in OPS:
        op = make()
        op.write(out)
        print(f"op_{op.name}: {', '.join(op.cases)}")


if __name__ == "__main__":
    main()
