"""Checks of the reference on itself: closed forms, bounds and finite differences in f64."""

from __future__ import annotations

import math

import numpy as np
import torch

from llama_model import Config, Trace, forward

TOLERANCE = 1e-12  # of the forward-error scale


def norm(x: torch.Tensor) -> torch.Tensor:
    return torch.sqrt((x * x).sum(-1))


def require(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def close(actual: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor, what: str) -> None:
    """|actual - expected| <= TOLERANCE * scale, elementwise over what broadcasting gives."""
    excess = ((actual - expected).abs() - TOLERANCE * scale).max().item()
    require(excess <= 0, f"{what}: off by {excess:.3g} beyond the tolerance")


def check_attention(config: Config, trace: Trace, layer: int) -> None:
    """Identities 1 to 5, per query head; gradients of k and v are sums over a group of heads."""
    group = config.num_attention_heads // config.num_key_value_heads
    where = f"layer {layer}, identity "
    v_name = "v_scaled" if trace.has(layer, "v_scaled") else "v"

    def by_head(x: torch.Tensor) -> torch.Tensor:  # [B,T,heads,d] to [B,H,T,d]
        return x.repeat_interleave(config.num_attention_heads // x.shape[2], dim=2).transpose(1, 2)

    def to_groups(x: torch.Tensor) -> torch.Tensor:  # [B,H,T,d] to [B,T,K,d]
        return x.unflatten(1, (-1, group)).sum(2).transpose(1, 2)

    a = trace.value(layer, "pattern")
    q, k, v = (by_head(trace.value(layer, name)) for name in ("q", "k", v_name))
    g, y = by_head(trace.grad(layer, "z")), by_head(trace.value(layer, "z"))
    beta = torch.einsum("bhtd,bhsd->bhts", g, v) - (g * y).sum(-1, keepdim=True)
    root = math.sqrt(config.head_dim)

    dv = torch.einsum("bhts,bhtd->bhsd", a, g)
    scale_v = torch.einsum("bhts,bht->bhs", a, norm(g))[..., None]
    close(trace.grad(layer, v_name), to_groups(dv), to_groups(scale_v), where + "1 (dL/dv)")

    size = a * norm(g)[..., None] * (norm(v)[:, :, None, :] + norm(y)[..., None])  # [B,H,T,S]
    dk = torch.einsum("bhts,bhtd->bhsd", a * beta, q) / root
    scale_k = torch.einsum("bhts,bht->bhs", size, norm(q))[..., None] / root
    close(trace.grad(layer, "k"), to_groups(dk), to_groups(scale_k), where + "2 (dL/dk)")

    dq = torch.einsum("bhts,bhsd->bhtd", a * beta, k) / root
    scale_q = torch.einsum("bhts,bhs->bht", size, norm(k))[..., None] / root
    close(by_head(trace.grad(layer, "q")), dq, scale_q, where + "3 (dL/dq)")
    if config.attention == "softmax":
        require(bool((trace.grad(layer, "q")[:, 0] == 0).all()), where + "3: dL/dq_0 is not 0")

    row = (1 - a.sum(-1)) * (g * y).sum(-1)
    close(trace.grad(layer, "scores").sum(-1), row, size.sum(-1), where + "4 (row sums)")

    slack = 1 + 1e-12
    mass, second = a.sum(2), (a * a).sum(2)  # [B,H,S]
    middle = torch.einsum("bhts,bht->bhs", a, norm(g))
    require(bool((norm(dv) <= slack * middle).all()), where + "5 (sum of a |g|)")
    require(bool((middle <= slack * mass * norm(g).amax(-1)[..., None]).all()), where + "5 (mass)")
    energy = torch.sqrt((g * g).sum((-1, -2)))[..., None]
    require(bool((middle <= slack * torch.sqrt(second) * energy).all()), where + "5 (moment)")


def check_norms(config: Config, weights: dict, trace: Trace, layer: int) -> None:
    """Identity 7, for both RMSNorms of a layer."""
    for branch, inside, gain_name in (
        ("attn_branch", "attn_in", "input_layernorm"),
        ("mlp_branch", "mlp_in", "post_attention_layernorm"),
    ):
        gain = weights[f"model.layers.{layer}.{gain_name}.weight"].detach().abs().max()
        x, dx, dn = trace.value(layer, branch), trace.grad(layer, branch), trace.grad(layer, inside)
        rms = torch.sqrt((x * x).mean(-1) + config.rms_norm_eps)
        slack = 1 + 1e-12
        bound = slack * gain / rms * norm(dn)
        require(bool((norm(dx) <= bound).all()), f"layer {layer}, identity 7 ({inside})")
        summed = norm(dx.sum(0)) <= bound.sum(0)
        require(bool(summed.all()), f"layer {layer}, identity 7 summed ({inside})")


def check_v_scale(config: Config, weights: dict, trace: Trace, layer: int) -> None:
    """The stated Jacobian phi I + 2C/(r+C)^2 v v^T, and the stated gradient of theta."""
    v, g_hat = trace.value(layer, "v"), trace.grad(layer, "v_scaled")
    v_hat, dv = trace.value(layer, "v_scaled"), trace.grad(layer, "v")
    theta = weights.get(f"model.layers.{layer}.self_attn.v_scale.theta")
    c = torch.full((config.num_key_value_heads, 1), config.v_scale_constant, dtype=v.dtype)
    if theta is not None:
        c = c * torch.exp(theta.detach())[:, None]
    r = (v * v).sum(-1, keepdim=True)
    dot = (g_hat * v).sum(-1, keepdim=True)
    jacobian = r / (r + c) * g_hat + 2 * c / (r + c) ** 2 * dot * v
    scale = norm(g_hat)[..., None]
    if config.v_scale == "backward-only":
        require(torch.equal(v_hat, v), "backward-only V-scale changes the forward pass")
    else:
        close(v_hat, r / (r + c) * v, norm(v)[..., None], "V-scale, forward")
    expected = g_hat if config.v_scale == "forward-only" else jacobian
    close(dv, expected, 10 * scale, "V-scale, Jacobian")
    if theta is not None:
        terms = dot * (-c * r / (r + c) ** 2)
        stated = terms.sum((0, 1, 3))
        close(theta.grad, stated, 10 * terms.abs().sum((0, 1, 3)), "V-scale, theta")


def check_finite_differences(config: Config, weights: dict, tokens: torch.Tensor) -> None:
    """Central differences of the loss along one random direction a weight.

    Not for the two variants whose backward pass is not the derivative of their forward pass.
    """
    if config.v_scale in ("backward-only", "forward-only"):
        return
    rng, step = np.random.default_rng(7), 1e-6
    for name, weight in weights.items():
        direction = torch.from_numpy(rng.standard_normal(tuple(weight.shape)))
        losses = []
        with torch.no_grad():
            for sign in (1, -1):
                moved = weights | {name: weight + sign * step * direction}
                losses.append(forward(config, moved, tokens)[1].item())
        slope, stated = (losses[0] - losses[1]) / (2 * step), (weight.grad * direction).sum().item()
        require(
            abs(slope - stated) <= 1e-6 * max(1.0, abs(stated)),
            f"finite difference of {name}: {slope} against {stated}",
        )


def check_all(config: Config, weights: dict, tokens: torch.Tensor, trace: Trace) -> None:
    for layer in range(config.num_hidden_layers):
        check_attention(config, trace, layer)
        check_norms(config, weights, trace, layer)
        if config.v_scale != "none":
            check_v_scale(config, weights, trace, layer)
    check_finite_differences(config, weights, tokens)
