"""Writes `dials.json`: what `weir dial` has to find on models of the other files, in f64.

    python dials.py [OUT_DIR]

Every setting of a dial is a plain forward and backward pass of `llama_model.py` in which one value
of one layer is edited, as section "The dials" of docs/dial.md words it: nothing is cut out of the
model, and scores and weights are arrays [B,H,T,T]. The gradient at the value of a key by the queries
behind it comes from autograd too. Weights and tokens are those of `llama_NAME.safetensors`, which
llama_reference.py and attention_reference.py write.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import sys

import numpy as np
import torch
from safetensors import safe_open

from llama_model import Config, Trace, forward, to_f64
from measure_record import plain

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "reference"
EPS_SHARE = 1000  # of the norm dial: settings with mean x^2 above this times eps are in the fit


@dataclasses.dataclass(frozen=True)
class Case:
    """One sweep; `values` are numbers, or for the mask dial lists of keys."""

    model: str
    dial: str
    values: tuple
    form: str = ""
    branch: str = ""
    sink: int = 0
    heads: tuple[int, ...] = ()  # empty: all


CASES = (
    Case("llama_base", "mass", (-4, -0.5, 0, 1, 3), form="logit"),
    Case("llama_base", "mass", (-2, 0.75, 5), form="logit", sink=3, heads=(1, 2)),
    Case("llama_base", "mass", (0.125, 0.5, 1, 3), form="multiply"),
    Case("llama_base", "norm", (0.25, 1, 8), form="branch", branch="attn"),
    Case("llama_base", "norm", (0.25, 1, 8), form="branch", branch="mlp", sink=5),
    Case("llama_base", "norm", (0.25, 1, 8), form="stream", branch="attn", sink=2),
    Case("llama_base", "norm", (0.25, 1, 8), form="stream", branch="mlp"),
    Case("llama_base", "value", (0, 0.5, 1, 4)),
    Case("llama_base", "value", (0, 2), sink=1, heads=(3,)),
    Case("llama_base", "position", (0, 1, 4, 11)),
    Case("llama_base", "position", (1, 5, 9), sink=4, heads=(0, 2)),
    Case("llama_base", "mask", ((0,), (6,), (8, 9, 10, 11), (2,))),
    # Rows that do not sum to one, values that V-scale has scaled, gates and QK-norm.
    Case("llama_softmax_1", "mass", (-1, 2), form="logit"),
    Case("llama_v_scale_full", "value", (0.5, 3)),
    Case("llama_v_scale_full", "mass", (0.5, 2), form="multiply"),
    Case("llama_sink_logit", "mass", (-3, 1), form="logit", sink=1),
    Case("llama_sink_logit", "mask", ((0,), (1, 4))),
    Case("llama_softpick", "position", (1, 3, 5)),
    Case("llama_sigmoid", "value", (0, 2)),
    Case("llama_relu", "norm", (0.5, 4), form="stream", branch="attn"),
)


@dataclasses.dataclass(frozen=True)
class Model:
    config: Config
    weights: dict[str, torch.Tensor]
    tokens: torch.Tensor

    def run(self, edit=None) -> tuple[float, Trace]:
        for weight in self.weights.values():
            weight.grad = None
        _, loss, trace = forward(self.config, self.weights, self.tokens, edit)
        loss.backward()
        return loss.item(), trace


def read_model(name: str) -> Model:
    with safe_open(DATA / f"{name}.safetensors", framework="numpy") as file:
        config = json.loads(file.metadata()["reference"])["config"]
        fields = {field.name for field in dataclasses.fields(Config)}
        weights = {key: file.get_tensor(key) for key in file.keys() if is_weight(key)}
        tokens = torch.from_numpy(file.get_tensor("tokens").astype(np.int64))
    sizes = Config(**{key: value for key, value in config.items() if key in fields})
    return Model(sizes, to_f64(weights), tokens)


def is_weight(name: str) -> bool:
    return name.startswith("model.") or name == "lm_head.weight"


def edit_of(case: Case, config: Config, layer: int, value):
    """The edit that turns the dial to one value."""
    heads = torch.zeros(config.num_attention_heads, dtype=torch.bool)
    heads[list(case.heads or range(config.num_attention_heads))] = True
    s = case.sink

    def behind(x: torch.Tensor, key: int) -> torch.Tensor:
        """Of scores or weights [B,H,T,S]: the column of a key, for later queries of the heads."""
        mask = torch.zeros(x.shape, dtype=torch.bool)
        mask[:, heads, key + 1 :, key] = True
        return mask

    def exchanged(scores: torch.Tensor, p: int) -> torch.Tensor:
        order = list(range(scores.shape[-1]))
        order[s], order[p] = p, s
        later = torch.zeros(scores.shape, dtype=torch.bool)
        later[:, heads, max(s, p) + 1 :, :] = True
        return torch.where(later, scores[..., order], scores)

    def scaled_row(x: torch.Tensor) -> torch.Tensor:  # of [B,T,...]
        factor = torch.ones(x.shape[1], dtype=x.dtype)
        factor[s] = value
        return x * factor.reshape(1, -1, *[1] * (x.dim() - 2))

    def edited(name: str, x: torch.Tensor) -> torch.Tensor:
        if case.dial == "mass" and case.form == "logit" and name == "scores":
            return torch.where(behind(x, s), x + value, x)
        if case.dial == "mass" and case.form == "multiply" and name == "pattern":
            return torch.where(behind(x, s), x * value, x)
        if case.dial == "mask" and name == "scores":
            for key in value:
                x = x.masked_fill(behind(x, key), -math.inf)
            return x
        if case.dial == "position" and name == "scores":
            return exchanged(x, value)
        if case.dial == "value" and name == ("v" if config.v_scale == "none" else "v_scaled"):
            by_head = x.repeat_interleave(config.num_attention_heads // x.shape[2], dim=2)
            return torch.where(heads[:, None], scaled_row(by_head), by_head)
        if case.dial == "norm":
            scaled = {
                ("branch", "attn"): "attn_branch",
                ("branch", "mlp"): "mlp_branch",
                ("stream", "attn"): "resid_pre",
                ("stream", "mlp"): "resid_mid",
            }[case.form, case.branch]
            return scaled_row(x) if name == scaled else x
        return x

    return lambda at, name, x: edited(name, x) if at == layer else x


def norms(x: torch.Tensor) -> torch.Tensor:
    return torch.sqrt((x * x).sum(-1))


def attention_point(
    pattern: torch.Tensor, g: torch.Tensor, values: torch.Tensor, key: int, heads: list[int]
) -> dict:
    """M, S, E, the curves and the bounds of queries behind the key: [head], means over sequences.

    pattern [B,H,T,S]; g [B,T,H,d]; values [B,S,K,d], of which only the shape matters.
    """
    behind = g.clone()
    behind[:, : key + 1] = 0
    v = values.repeat_interleave(pattern.shape[1] // values.shape[2], dim=2).requires_grad_()
    z = torch.einsum("bhts,bshd->bthd", pattern, v)
    (dv,) = torch.autograd.grad(z, v, behind)

    a = pattern[:, :, key + 1 :, key]  # [B,H,R]
    g = g[:, key + 1 :].transpose(1, 2)  # [B,H,R,d]
    rows = max(1, g.shape[2])
    mean = g.sum(2) / rows  # [B,H,d]
    noise = ((g - mean[:, :, None]) ** 2).sum((-1, -2)) / rows
    mass, moment, left = a.sum(-1), (a * a).sum(-1), norms(dv[:, key])  # [B,H]
    largest = norms(g).amax(-1) if g.shape[2] else torch.zeros_like(mass)
    right = {
        "sum": (a * norms(g)).sum(-1),
        "mass": mass * largest,
        "moment": torch.sqrt(moment) * torch.sqrt((g * g).sum((-1, -2))),
    }

    def tightness(bound: torch.Tensor) -> list[float]:
        ratio = torch.where(left == 0, 0.0, left / torch.where(left == 0, 1.0, bound))
        return ratio.amax(0)[heads].tolist()

    line = mass**2 * (mean * mean).sum(-1)
    means = {
        "mass": mass,
        "second_moment": moment,
        "energy": left**2,
        "mean_curve": line,
        "noise_curve": line + noise * moment,
    }
    point = {name: x.mean(0)[heads].tolist() for name, x in means.items()}
    return point | {"tightness": {name: tightness(bound) for name, bound in right.items()}}


def norm_point(case: Case, x: torch.Tensor, dx: torch.Tensor, dn: torch.Tensor) -> dict:
    """Of [B,T,D]: what the norm read, the gradient at it, and that at what the norm gave."""
    x, dx, dn = (rows[:, case.sink] for rows in (x, dx, dn))

    def root_mean(rows: torch.Tensor) -> float:
        return math.sqrt((rows * rows).sum(-1).mean().item())

    return {
        "norm": root_mean(x),
        "compress": root_mean(dx) / root_mean(dn),
        "mean_square": (x * x).mean(-1).min().item(),
    }


def exponent(x: list[float], y: list[float]) -> dict:
    """The slope of log y over log x by least squares."""
    logs = np.array([(math.log(a), math.log(b)) for a, b in zip(x, y) if a > 0 and b > 0])
    dx, dy = (logs - logs.mean(0)).T
    return {"exponent": (dx @ dy) / (dx @ dx), "points": len(logs)}


def by_setting(points: list[dict]) -> dict:
    """The points of a sweep as the record has them: [setting] or [setting][head] of each name."""
    out = {}
    for name, first in points[0].items():
        inner = [point[name] for point in points]
        out[name] = by_setting(inner) if isinstance(first, dict) else inner
    return out


def sweep_json(case: Case, config: Config, points: list[dict]) -> dict:
    sweep = by_setting(points)
    if case.dial == "norm":
        far = [p for p in points if p["mean_square"] > EPS_SHARE * config.rms_norm_eps]
        return sweep | {"fit": exponent([p["norm"] for p in far], [p["compress"] for p in far])}
    if case.dial in ("mass", "position"):
        mass, energy = np.array(sweep["mass"]), np.array(sweep["energy"])
        sweep["fit"] = exponent(mass.mean(1), energy.mean(1))
        sweep["head_fits"] = [exponent(m, e) for m, e in zip(mass.T, energy.T)]
    return sweep


def frozen_norm_gradient(model: Model, case: Case, layer: int, trace: Trace, dn: torch.Tensor):
    """The gradient at the norm's edited input if that at its output is what it was."""
    gains = {"attn": "input_layernorm", "mlp": "post_attention_layernorm"}
    gain = model.weights[f"model.layers.{layer}.{gains[case.branch]}.weight"].detach()
    x = trace.value(layer, f"{case.branch}_branch").requires_grad_()
    mean_square = (x * x).mean(-1, keepdim=True)
    n = x / torch.sqrt(mean_square + model.config.rms_norm_eps) * gain
    return torch.autograd.grad(n, x, dn)[0]


def sweep_layer(model: Model, case: Case, layer: int, base: Trace) -> dict:
    """The layer's part of the record, without intervals."""
    config = model.config
    heads = list(case.heads or range(config.num_attention_heads))
    losses, frozen, again = [], [], []
    for value in case.values:
        loss, trace = model.run(edit_of(case, config, layer, value))
        losses.append(loss)
        if case.dial == "norm":
            x, n = f"{case.branch}_branch", f"{case.branch}_in"
            rows, dn = trace.value(layer, x), base.grad(layer, n)
            dx = frozen_norm_gradient(model, case, layer, trace, dn)
            frozen.append(norm_point(case, rows, dx, dn))
            again.append(norm_point(case, rows, trace.grad(layer, x), trace.grad(layer, n)))
        elif case.dial == "mask":
            a = base.value(layer, "pattern")
            mass = sum(a[:, :, key + 1 :, key].sum(-1) for key in value)
            again.append({"mass": mass.mean(0)[heads].tolist()})
        else:
            key = value if case.dial == "position" else case.sink
            a, v = trace.value(layer, "pattern"), base.value(layer, "v")
            frozen.append(attention_point(a, base.grad(layer, "mix"), v, key, heads))
            again.append(attention_point(a, trace.grad(layer, "mix"), v, key, heads))
    out = {"layer": layer}
    if case.dial == "norm":
        out["eps"] = config.rms_norm_eps
    if case.dial not in ("value", "mask"):
        out["frozen"] = sweep_json(case, config, frozen)
    return out | {"recomputed": {"loss": losses} | sweep_json(case, config, again)}


def case_json(case: Case) -> dict:
    model = read_model(case.model)
    loss, base = model.run()
    layers = [sweep_layer(model, case, n, base) for n in range(model.config.num_hidden_layers)]
    return {
        "model": case.model,
        "dial": case.dial,
        "form": case.form,
        "branch": case.branch,
        "sink_token": case.sink,
        "heads": list(case.heads),
        "values": list(case.values) if case.dial != "mask" else [list(k) for k in case.values],
        "record": plain({"loss": loss, "layers": layers}),
    }


def main() -> None:
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    lines = [json.dumps(case_json(case), separators=(",", ":"), allow_nan=False) for case in CASES]
    (out / "dials.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"dials.json: {len(lines)} sweeps")


if __name__ == "__main__":
    main()
