"""The Llama-like model in f64, every formula written out.

Only matrix products, elementwise functions and sums of PyTorch are used, so that nothing is cast to
f32 on the way (Hugging Face's f64 model still casts RMSNorm, RoPE and softmax). Gradients come from
PyTorch's autograd on these primitives; `identities.py` checks them against closed forms and
finite differences.

Shapes: B sequences, T tokens, D model width, H query heads, K key/value heads, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch

V_SCALE_VARIANTS = ("none", "full", "learned", "backward-only", "forward-only")
NORMALISERS = ("softmax", "softmax-1", "softpick", "relu", "sigmoid", "sink-logit", "kv-bias", "bayes-softmax")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and variants of a model; keys are those of a Hugging Face Llama configuration."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False
    v_scale: str = "none"
    v_scale_sigma: float = 0.02
    attention: str = "softmax"

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def v_scale_constant(self) -> float:
        """C at lambda = 1: d_model * d_head * sigma^2."""
        return self.hidden_size * self.head_dim * self.v_scale_sigma**2

    def to_json(self) -> dict:
        return dataclasses.asdict(self) | {"head_dim": self.head_dim}


def random_weights(config: Config, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights in f32, by Hugging Face name.

    Far larger than an initialiser's 0.02, so that attention is peaked, gains differ from 1, and an
    error in any path shows; only the value projection is small, which puts ||v||^2 near V-scale's C.
    """
    D, F, V = config.hidden_size, config.intermediate_size, config.vocab_size
    d_kv = config.num_key_value_heads * config.head_dim

    def normal(*shape: int, std: float) -> np.ndarray:
        return (std * rng.standard_normal(shape)).astype(np.float32)

    def gain() -> np.ndarray:
        return (1.0 + 0.25 * rng.standard_normal(D)).astype(np.float32)

    weights = {"model.embed_tokens.weight": normal(V, D, std=0.6)}
    for layer in range(config.num_hidden_layers):
        p = f"model.layers.{layer}."
        weights[p + "input_layernorm.weight"] = gain()
        weights[p + "self_attn.q_proj.weight"] = normal(D, D, std=1.2 / math.sqrt(D))
        weights[p + "self_attn.k_proj.weight"] = normal(d_kv, D, std=1.2 / math.sqrt(D))
        weights[p + "self_attn.v_proj.weight"] = normal(d_kv, D, std=0.03)
        weights[p + "self_attn.o_proj.weight"] = normal(D, D, std=1.5)
        weights[p + "post_attention_layernorm.weight"] = gain()
        weights[p + "mlp.gate_proj.weight"] = normal(F, D, std=0.8 / math.sqrt(D))
        weights[p + "mlp.up_proj.weight"] = normal(F, D, std=0.8 / math.sqrt(D))
        weights[p + "mlp.down_proj.weight"] = normal(D, F, std=0.8 / math.sqrt(F))
        if config.v_scale == "learned":
            weights[p + "self_attn.v_scale.theta"] = normal(config.num_key_value_heads, std=0.7)
    weights["model.norm.weight"] = gain()
    if not config.tie_word_embeddings:
        weights["lm_head.weight"] = normal(V, D, std=1.0 / math.sqrt(D))
    return weights


def rms_norm(x: torch.Tensor, gain: torch.Tensor, eps: float) -> torch.Tensor:
    mean_square = (x * x).sum(-1, keepdim=True) / x.shape[-1]
    return x / torch.sqrt(mean_square + eps) * gain


def rope(x: torch.Tensor, base: float) -> torch.Tensor:
    """Rotates x [B,T,heads,d]: feature i < d/2 pairs with feature i + d/2 (half-split layout)."""
    T, half = x.shape[1], x.shape[-1] // 2
    frequency = torch.tensor([base ** (-2.0 * i / x.shape[-1]) for i in range(half)], dtype=x.dtype)
    angle = torch.arange(T, dtype=x.dtype)[:, None] * frequency  # [T, d/2]
    cos, sin = torch.cos(angle)[:, None, :], torch.sin(angle)[:, None, :]
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def normalise(
    scores: torch.Tensor, normaliser: str, other: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and the log of the denominator, over the last axis; -inf marks a masked entry.

    softmax-1 has one more logit of zero in the denominator: e^x / (1 + sum e^x); sink-logit and
    kv-bias have the logits `other` [..., T], one a row. The rest is written as it is defined, with n
    the number of entries that are not masked:

        softpick  relu(e^x - 1) / (sum |e^x - 1| + 1e-8)
        relu      relu(x) / n
        sigmoid   sigmoid(x - log n)
    """
    visible = ~torch.isneginf(scores)
    n = visible.sum(-1, keepdim=True).to(scores.dtype)
    if normaliser == "softpick":
        excess = torch.where(visible, torch.expm1(scores), 0.0)
        denominator = excess.abs().sum(-1, keepdim=True) + 1e-8
        return torch.relu(excess) / denominator, torch.log(denominator)[..., 0]
    if normaliser == "relu":
        return torch.relu(scores) / n, torch.log(n)[..., 0]
    if normaliser == "sigmoid":
        return torch.sigmoid(scores - torch.log(n)), torch.zeros_like(n)[..., 0]
    if normaliser in ("sink-logit", "kv-bias"):
        if other is None:
            raise ValueError(f"{normaliser} needs the other logits")
        both = torch.cat([scores, other[..., None]], dim=-1)
        return torch.softmax(both, dim=-1)[..., :-1], torch.logsumexp(both, dim=-1)
    top = scores.detach().amax(-1, keepdim=True)
    if normaliser == "softmax-1":
        top = torch.clamp(top, min=0.0)
    e = torch.exp(scores - top)
    denominator = e.sum(-1, keepdim=True)
    if normaliser == "softmax-1":
        denominator = denominator + torch.exp(-top)
    return e / denominator, (top + torch.log(denominator))[..., 0]


def bayes_softmax(scores: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """H e^(s - b) over the sum of e^(s - b) over the keys of all H heads; scores [B,H,T,S], b [H]."""
    B, H, T, S = scores.shape
    lowered = scores - bias[None, :, None, None]
    together = lowered.transpose(1, 2).reshape(B, T, H * S)
    weights = H * torch.softmax(together, dim=-1)
    return weights.reshape(B, T, H, S).transpose(1, 2)


def attention_scores(q: torch.Tensor, k: torch.Tensor, causal: bool) -> torch.Tensor:
    """q [B,T,H,d] and k [B,S,K,d] to scaled, masked scores [B,H,T,S]; head h reads k head h*K//H."""
    k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)
    scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
    if causal:
        hidden = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    return scores


def attention_mix(pattern: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """pattern [B,H,T,S] and v [B,S,K,d] to [B,T,H,d]."""
    v = v.repeat_interleave(pattern.shape[1] // v.shape[2], dim=2)
    return torch.einsum("bhts,bshd->bthd", pattern, v)


def v_scale(
    v: torch.Tensor, variant: str, constant: float, theta: torch.Tensor | None = None
) -> torch.Tensor:
    """V-scale of v [B,T,K,d]: v * r/(r + C), r = ||v||^2, C = constant * exp(theta[K])."""
    c = torch.tensor(constant, dtype=v.dtype)
    if variant == "learned":
        c = (constant * torch.exp(theta))[:, None]
    r = (v * v).sum(-1, keepdim=True)
    scaled = v * (r / (r + c))
    if variant in ("full", "learned"):
        return scaled
    if variant == "backward-only":  # the added term is exactly zero, its gradient is not
        return v.detach() + (scaled - scaled.detach())
    if variant == "forward-only":
        return scaled.detach() + (v - v.detach())
    raise ValueError(variant)


def silu(x: torch.Tensor) -> torch.Tensor:
    return x / (1.0 + torch.exp(-x))


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over targets >= 0 of -log softmax(logits)[target]; -1 is ignored."""
    logits, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    _, log_denominator = normalise(logits, "softmax")
    valid = targets >= 0
    chosen = logits.gather(1, targets.clamp(min=0)[:, None])[:, 0]
    return ((log_denominator - chosen) * valid).sum() / valid.sum()


# What further weights of a layer change. They are known by their names.


def queries_and_gate(w: dict, n: torch.Tensor, H: int, K: int, d: int) -> tuple:
    """q [B,T,H,d] and the gate's logits [B,T,H,1 or d], or None.

    The gate is a weight of its own, or its logits are packed in q_proj as qiuzh20/gated_attention has
    it: for each key head the queries of its group, then their logits.
    """
    B, T, _ = n.shape
    q = n @ w["self_attn.q_proj.weight"].T
    packed = q.shape[-1] - H * d
    if packed:
        q, gate = q.reshape(B, T, K, -1).split([H // K * d, packed // K], dim=-1)
        return q.reshape(B, T, H, d), gate.reshape(B, T, H, -1)
    gate = None
    if "self_attn.output_gate.weight" in w:
        gate = (n @ w["self_attn.output_gate.weight"].T).reshape(B, T, H, -1)
    return q.reshape(B, T, H, d), gate


def qk_norm(w: dict, q: torch.Tensor, k: torch.Tensor, eps: float) -> tuple:
    for names in (("qk_norm.query", "qk_norm.key"), ("q_norm.weight", "k_norm.weight")):
        of_q, of_k = (w.get(f"self_attn.{name}") for name in names)
        if of_q is not None:
            return rms_norm(q, of_q, eps), rms_norm(k, of_k, eps)
    return q, k


def with_learned_key(w: dict, q: torch.Tensor, scores: torch.Tensor) -> tuple:
    """Softmax over scores [B,H,T,S] and one more, of a learned key that is not rotated: the weights
    of the tokens, and what the learned key's value adds [B,T,H,d]."""
    group = q.shape[2] // w["self_attn.kv_bias.key"].shape[0]
    key, value = (
        w[f"self_attn.kv_bias.{part}"].repeat_interleave(group, dim=0) for part in ("key", "value")
    )
    first = torch.einsum("bthd,hd->bht", q, key)[..., None] / math.sqrt(q.shape[-1])
    a = torch.softmax(torch.cat([first, scores], dim=-1), dim=-1)
    return a[..., 1:], torch.einsum("bht,hd->bthd", a[..., 0], value)


class Trace:
    """Values of one forward pass by (layer, name), each able to keep its gradient."""

    def __init__(self) -> None:
        self.values: dict[tuple[int, str], torch.Tensor] = {}

    def keep(self, layer: int, name: str, value: torch.Tensor) -> torch.Tensor:
        if value.requires_grad:
            value.retain_grad()
        self.values[layer, name] = value
        return value

    def value(self, layer: int, name: str) -> torch.Tensor:
        return self.values[layer, name].detach()

    def grad(self, layer: int, name: str) -> torch.Tensor:
        return self.values[layer, name].grad

    def has(self, layer: int, name: str) -> bool:
        return (layer, name) in self.values


def forward(
    config: Config,
    weights: dict[str, torch.Tensor],
    tokens: torch.Tensor,
    edit: Callable[[int, str, torch.Tensor], torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, Trace]:
    """tokens [B,T+1] to logits [B,T,V], the loss over all B*T targets, and the trace.

    `attn_branch` and `mlp_branch` are copies of the residual stream that only the branch reads:
    their gradients are the branch's own part, which `compress` needs. `edit` puts another value in
    the place of one that is kept, for all that reads it.
    """
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    B, T = inputs.shape
    H, K, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    trace = Trace()
    embedding = weights["model.embed_tokens.weight"]
    x = embedding[inputs]
    for layer in range(config.num_hidden_layers):
        w = {
            name.removeprefix(f"model.layers.{layer}."): value
            for name, value in weights.items()
            if name.startswith(f"model.layers.{layer}.")
        }

        def keep(name: str, value: torch.Tensor, layer: int = layer) -> torch.Tensor:
            return trace.keep(layer, name, edit(layer, name, value) if edit else value)

        x = keep("resid_pre", x)
        branch = keep("attn_branch", x * 1.0)
        n = keep("attn_in", rms_norm(branch, w["input_layernorm.weight"], config.rms_norm_eps))
        q, gate = queries_and_gate(w, n, H, K, d)
        k = (n @ w["self_attn.k_proj.weight"].T).reshape(B, T, K, d)
        q, k = qk_norm(w, q, k, config.rms_norm_eps)
        v = keep("v", (n @ w["self_attn.v_proj.weight"].T).reshape(B, T, K, d))
        q, k = keep("q", rope(q, config.rope_theta)), keep("k", rope(k, config.rope_theta))
        if config.v_scale != "none":
            theta = w.get("self_attn.v_scale.theta")
            v = keep("v_scaled", v_scale(v, config.v_scale, config.v_scale_constant, theta))
        scores = keep("scores", attention_scores(q, k, causal=True))
        if config.attention == "kv-bias":
            pattern, learned = with_learned_key(w, q, scores)
            z = attention_mix(keep("pattern", pattern), v) + learned
        elif config.attention == "bayes-softmax":
            pattern = bayes_softmax(scores, w["self_attn.bayes_softmax.bias"])
            z = attention_mix(keep("pattern", pattern), v)
        else:
            sinks = w.get("self_attn.sinks")
            other = None if sinks is None else sinks[None, :, None].expand(B, H, T)
            pattern, _ = normalise(scores, config.attention, other)
            z = attention_mix(keep("pattern", pattern), v)
        z = keep("mix", z)
        z = keep("z", z if gate is None else z * torch.sigmoid(gate))
        attn_out = keep("attn_out", z.reshape(B, T, H * d) @ w["self_attn.o_proj.weight"].T)
        x = keep("resid_mid", x + attn_out)
        branch = keep("mlp_branch", x * 1.0)
        m = keep("mlp_in", rms_norm(branch, w["post_attention_layernorm.weight"], config.rms_norm_eps))
        gated = silu(m @ w["mlp.gate_proj.weight"].T) * (m @ w["mlp.up_proj.weight"].T)
        gated = keep("mlp_post", gated)
        mlp_out = keep("mlp_out", gated @ w["mlp.down_proj.weight"].T)
        x = keep("resid_post", x + mlp_out)
    head = embedding if config.tie_word_embeddings else weights["lm_head.weight"]
    logits = rms_norm(x, weights["model.norm.weight"], config.rms_norm_eps) @ head.T
    return logits, cross_entropy(logits, targets), trace


def to_f64(weights: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(value.astype(np.float64)).requires_grad_()
        for name, value in weights.items()
    }
