"""The record `weir.measure/1` of one forward and backward pass, from a trace in f64."""

from __future__ import annotations

import math

import numpy as np
import torch

from llama_model import Config, Trace

NORM_KEYS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
MASSIVE_ABSOLUTE, MASSIVE_RATIO, MASSIVE_LISTED = 100.0, 1000.0, 16
SINK_WINDOW, SINK_THRESHOLD, GRADIENT_WINDOW = 64, 0.3, 31
RESIDUAL_SINK_TOP, RESIDUAL_SINK_SHARE = 3, 0.9
OUTLIER_TOKEN_RATIO, OUTLIER_TOKENS_LISTED = 64, 16
OTHERS = range(1, 16)  # tokens that the sink token is compared with


def mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan


def ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator != 0 else math.nan


def ratios(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.array([ratio(n, d) for n, d in zip(numerator, denominator, strict=True)])


def token_norms(value: torch.Tensor) -> np.ndarray:
    """[B,T,features] to [T]: norm over features, then mean over sequences."""
    return torch.sqrt((value * value).sum(-1)).mean(0).numpy()


def summed_norms(gradient: torch.Tensor) -> np.ndarray:
    """[B,T,...] to [T]: sum over sequences, then norm over everything else."""
    total = gradient.sum(0).flatten(1)
    return torch.sqrt((total * total).sum(-1)).numpy()


def window(config: Config, T: int, sink: int) -> dict:
    """The settings that were used, windows cut to the tokens that exist."""
    settings = {
        "sink_token": sink,
        "sink_window": min(SINK_WINDOW, T - sink),
        "sink_threshold": SINK_THRESHOLD,
        "gradient_window": min(GRADIENT_WINDOW, T - 1),
        "massive_absolute": MASSIVE_ABSOLUTE,
        "massive_ratio": MASSIVE_RATIO,
        "residual_sink_top": RESIDUAL_SINK_TOP,
        "residual_sink_share": RESIDUAL_SINK_SHARE,
        "outlier_token_ratio": OUTLIER_TOKEN_RATIO,
        "v_scale": config.v_scale,
        "attention": config.attention,
    }
    if config.v_scale == "none":
        return settings
    return settings | {
        "v_scale_lambda": 1.0,
        "v_scale_sigma": config.v_scale_sigma,
        "v_scale_layers": [],
        "v_scale_c": config.v_scale_constant,
    }


def attention_metrics(config: Config, pattern: torch.Tensor, settings: dict) -> dict:
    """Of pattern [B,H,T,T]; the rows of softmax-1 are first divided by their sums."""
    s, T = settings["sink_token"], pattern.shape[-1]
    row_sum = pattern.sum(-1, keepdim=True)
    a = pattern if config.attention == "softmax" else pattern / row_sum
    column = a[:, :, s:, s]  # [B,H,T-s]
    alpha = column[:, :, : settings["sink_window"]].mean(-1)
    entropy = -torch.where(a > 0, a * torch.log(torch.where(a > 0, a, 1.0)), 0.0).sum(-1)
    uniform = np.array([1.0 / (t + 1) for t in range(s, T)])
    gate = (1 - column).mean((0, 2)).numpy()
    share = gate / gate.sum() if gate.sum() > 0 else np.full_like(gate, math.nan)
    out = {
        "sink_score": alpha.mean(0).numpy(),
        "sink_rate": float((alpha > SINK_THRESHOLD).double().mean()),
        "sink_mass": column.sum(-1).mean(0).numpy(),
        "sink_second_moment": (column * column).sum(-1).mean(0).numpy(),
        "attention_entropy": entropy.mean((0, 2)).numpy(),
        "head_gate": gate,
        "head_gate_entropy": float(-sum(p * math.log(p) for p in share if p > 0))
        if gate.sum() > 0
        else math.nan,
        "sink_score_null": mean(uniform[: settings["sink_window"]]),
        "sink_mass_null": float(uniform.sum()),
        "sink_rate_null": int(mean(uniform[: settings["sink_window"]]) > SINK_THRESHOLD),
    }
    if config.attention != "softmax":
        out["row_sum"] = row_sum.mean((0, 2, 3)).numpy()
    return out


def outlier_metrics(resid_post: torch.Tensor) -> dict:
    """Largest and median magnitude, excess kurtosis (population moments), massive entries."""
    x = resid_post.numpy()
    magnitude = np.abs(x)
    centred = x - x.mean()
    median = float(np.median(magnitude))
    massive = np.argwhere((magnitude > MASSIVE_ABSOLUTE) & (magnitude > MASSIVE_RATIO * median))
    entries = [
        {"sequence": int(b), "token": int(t), "feature": int(f), "value": float(x[b, t, f])}
        for b, t, f in massive
    ]
    entries.sort(key=lambda entry: -abs(entry["value"]))
    tokens = x.reshape(-1, x.shape[-1])
    # Outlier-Safe Pre-Training: the fourth moment is not centred, the unbiased deviation is.
    deviation = tokens.std(-1, ddof=1) if x.shape[-1] > 1 else np.full(len(tokens), math.nan)
    by_token = np.maximum((tokens**4).mean(-1) / deviation**4 - 3.0, 0.0)
    largest = np.argsort(-np.abs(tokens), axis=-1, kind="stable")[:, :RESIDUAL_SINK_TOP]
    shares = [(largest == f).any(-1).mean() for f in range(x.shape[-1])]
    sinks = [
        {"feature": f, "share": float(share)}
        for f, share in enumerate(shares)
        if share > RESIDUAL_SINK_SHARE
    ]
    sinks.sort(key=lambda entry: -entry["share"])
    return {
        "resid_post_max_abs": float(magnitude.max()),
        "resid_post_median_abs": median,
        "resid_post_kurtosis": float((centred**4).mean() / (centred**2).mean() ** 2 - 3.0),
        "resid_post_token_kurtosis": float(by_token.mean()),
        "residual_sinks": sinks,
        "massive_activations": entries[:MASSIVE_LISTED],
    }


def outlier_tokens(mlp_post: torch.Tensor) -> dict:
    """Of the input of W_down (PrefixQuant): tokens whose largest size stands above the others'."""
    peaks = mlp_post.abs().amax(-1).numpy()
    over = peaks / np.median(peaks)
    places = [
        {"sequence": int(b), "token": int(t), "ratio": float(over[b, t])}
        for b, t in np.argwhere(over > OUTLIER_TOKEN_RATIO)
    ]
    places.sort(key=lambda place: -place["ratio"])
    return {
        "mlp_token_peak_ratio": float(over.max()),
        "outlier_token_count": len(places),
        "outlier_tokens": places[:OUTLIER_TOKENS_LISTED],
    }


def layer_record(config: Config, trace: Trace, layer: int, settings: dict) -> dict:
    def value(name: str) -> torch.Tensor:
        return trace.value(layer, name)

    def grad(name: str) -> torch.Tensor:
        return trace.grad(layer, name)

    s, T = settings["sink_token"], value("resid_pre").shape[1]
    others = [t for t in OTHERS if t < T and t != s]

    norm = {key: token_norms(value(key)) for key in NORM_KEYS}
    value_norm = torch.sqrt((value("v") ** 2).sum(-1)).mean(0)  # [T,K]
    norm["value"] = value_norm.mean(-1).numpy()
    grads = {
        key: summed_norms(grad(key))
        for key in ("attn_in", "q", "k", "v", "attn_out", "mlp_in", "mlp_out", "resid_pre")
        + ("resid_mid", "resid_post")
    }
    if trace.has(layer, "v_scaled"):
        norm["value_scaled"] = torch.sqrt((value("v_scaled") ** 2).sum(-1)).mean((0, 2)).numpy()
        grads["v_scaled"] = summed_norms(grad("v_scaled"))
    value_grad_norm = torch.sqrt((grad("v").sum(0) ** 2).sum(-1))  # [T,K]

    G = grads["attn_in"]
    near = [t for t in range(settings["gradient_window"] + 1) if t != s]
    record = {"layer": layer}
    record |= attention_metrics(config, value("pattern"), settings)
    record |= {
        "norm": norm,
        "value_norm_by_head": value_norm.T.numpy(),
        "value_grad_norm_by_head": value_grad_norm.T.numpy(),
        "sink_token_max": {
            key: float(torch.sqrt((value(key)[:, s] ** 2).sum(-1)).max()) for key in NORM_KEYS
        },
        "others": {
            key: {
                "mean": mean(norm[key][others]),
                "median": float(np.median(norm[key][others])) if others else math.nan,
                "max": float(norm[key][others].max()) if others else math.nan,
            }
            for key in NORM_KEYS
        },
        "grad_norm": grads,
        "gradient_sink_ratio": ratio(G[s], mean(G[near])),
        "bloat_attn": ratios(G, grads["attn_out"]),
        "compress_attn": ratios(summed_norms(grad("attn_branch")), G),
        "change_attn": ratios(grads["resid_pre"], grads["resid_mid"]),
        "bloat_mlp": ratios(grads["mlp_in"], grads["mlp_out"]),
        "compress_mlp": ratios(summed_norms(grad("mlp_branch")), grads["mlp_in"]),
        "change_mlp": ratios(grads["resid_mid"], grads["resid_post"]),
    }
    record |= outlier_metrics(value("resid_post"))
    return record | outlier_tokens(value("mlp_post")) if trace.has(layer, "mlp_post") else record


def measure(
    name: str, config: Config, parameters: int, loss: float, trace: Trace, sink: int = 0
) -> dict:
    """The record; `backward()` of the loss has already run."""
    B, T = trace.value(0, "resid_pre").shape[:2]
    settings = window(config, T, sink)
    layers = [layer_record(config, trace, n, settings) for n in range(config.num_hidden_layers)]
    gradient_ratios = [layer["gradient_sink_ratio"] for layer in layers]
    return {
        "format": "weir.measure/1",
        "model": {
            "name": name,
            "layers": config.num_hidden_layers,
            "d_model": config.hidden_size,
            "heads": config.num_attention_heads,
            "kv_heads": config.num_key_value_heads,
            "d_head": config.head_dim,
            "d_ff": config.intermediate_size,
            "vocabulary": config.vocab_size,
            "parameters": parameters,
        },
        "tokens": {"batch": B, "length": T},
        "settings": settings,
        "loss": loss,
        "layers": layers,
        "summary": {
            "sink_rate": mean(np.array([layer["sink_rate"] for layer in layers])),
            "gradient_sink_ratio_median": float(np.median(gradient_ratios)),
            "gradient_sink_ratio_quartiles": np.quantile(gradient_ratios, [0.25, 0.75]),
            "resid_post_norm_ratio_max": max(
                ratio(layer["norm"]["resid_post"][sink], layer["others"]["resid_post"]["mean"])
                for layer in layers
            ),
        },
    }


def plain(value):
    """JSON-ready form: arrays to lists, NaN and infinities to the strings the format names.

    13 significant digits, which is far below any tolerance and keeps the files small.
    """
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return float(f"{value:.13g}")
    return value
