"""Runs a model of Hugging Face `transformers` and keeps what the record `weir.measure/1` needs.

The values come from hooks on the library's own modules and from an attention function registered
with it, so that architecture, weights and names are the library's. In f64 three things are replaced
that the library computes in f32 whatever the model's dtype: RMSNorm, the rotary tables, and the
softmax (by the registered function).
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from llama_model import Trace, attention_mix, attention_scores, cross_entropy, normalise, v_scale


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What measure_record asks of a configuration, from one of `transformers`."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    v_scale: str = "none"
    v_scale_sigma: float = 0.02
    attention: str = "softmax"

    @property
    def v_scale_constant(self) -> float:
        return self.hidden_size * self.head_dim * self.v_scale_sigma**2


def sizes_of(config, **variant) -> Sizes:
    heads = config.num_attention_heads
    inner = getattr(config, "n_inner", None) or 4 * config.hidden_size
    return Sizes(
        config.num_hidden_layers,
        config.hidden_size,
        heads,
        getattr(config, "num_key_value_heads", None) or heads,
        getattr(config, "head_dim", None) or config.hidden_size // heads,
        getattr(config, "intermediate_size", None) or inner,
        config.vocab_size,
        **variant,
    )


def rms_norm_forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    mean_square = (x * x).mean(-1, keepdim=True)
    if type(module).__name__.startswith("Gemma"):
        return (1.0 + module.weight) * (x / torch.sqrt(mean_square + module.eps))
    return module.weight * (x / torch.sqrt(mean_square + module.variance_epsilon))


def yarn_frequencies(rope: dict, plain: torch.Tensor) -> torch.Tensor:
    """YaRN: pairs of features that turn often in the original context keep their frequency, those that turn
    seldom have it divided by the factor, and a ramp over the number of the pair leads from one to the other."""
    d = 2 * len(plain)

    def pair(turns: float) -> float:
        wavelength = rope["original_max_position_embeddings"] / turns
        return d * math.log(wavelength / (2 * math.pi)) / (2 * math.log(rope["rope_theta"]))

    begin, end = pair(rope.get("beta_fast") or 32), pair(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        begin, end = math.floor(begin), math.ceil(end)
    begin, end = max(begin, 0), min(end, d - 1)
    width = (end - begin) or 0.001
    ramp = ((torch.arange(d // 2, dtype=torch.float64) - begin) / width).clamp(0, 1)
    return plain / rope["factor"] * ramp + plain * (1 - ramp)


def attention_scaling(rope: dict) -> float:
    """What YaRN multiplies queries and keys by."""
    if rope["rope_type"] != "yarn":
        return 1.0
    if rope.get("attention_factor") is not None:
        return rope["attention_factor"]

    def scale(m: float) -> float:
        return 0.1 * m * math.log(rope["factor"]) + 1.0 if rope["factor"] > 1 else 1.0

    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return scale(rope["mscale"]) / scale(rope["mscale_all_dim"])
    return scale(1.0)


def inverse_frequencies(config) -> torch.Tensor:
    """The rotary frequencies in f64; `llama3` by its three cases of wavelengths."""
    rope = config.rope_parameters
    d = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, d, 2, dtype=torch.float64) / d)
    if rope["rope_type"] == "default":
        return plain
    if rope["rope_type"] == "linear":
        return plain / rope["factor"]
    if rope["rope_type"] == "yarn":
        return yarn_frequencies(rope, plain)
    assert rope["rope_type"] == "llama3", rope
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    context = rope["original_max_position_embeddings"]
    scaled = []
    for frequency in plain.tolist():
        wavelength = 2.0 * math.pi / frequency
        if wavelength < context / high:
            scaled.append(frequency)
        elif wavelength > context / low:
            scaled.append(frequency / factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            scaled.append((1.0 - smooth) * frequency / factor + smooth * frequency)
    return torch.tensor(scaled, dtype=torch.float64)


def patch_to_f64(model: nn.Module) -> None:
    """Replaces what the library computes in f32, after checking it against the library's values."""
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            module.forward = rms_norm_forward.__get__(module)
        elif kind.endswith("RotaryEmbedding"):
            frequencies = inverse_frequencies(model.config)
            torch.testing.assert_close(module.inv_freq.double(), frequencies, rtol=1e-6, atol=0)
            scale = attention_scaling(model.config.rope_parameters)
            assert math.isclose(module.attention_scaling, scale, rel_tol=1e-12)

            def tables(x, position_ids, frequencies=frequencies, scale=scale):
                angle = position_ids[..., None].double() * frequencies
                angle = torch.cat((angle, angle), dim=-1)
                return angle.cos() * scale, angle.sin() * scale

            module.forward = tables


class Tracer:
    """Hooks on a model that fill `trace` on every forward pass."""

    def __init__(self, model: nn.Module, variant: Sizes) -> None:
        self.model, self.variant, self.trace = model, variant, Trace()
        model.config._attn_implementation = "traced"
        AttentionInterface.register("traced", self.attention)
        base = model.base_model
        self.handles = []
        for layer, block in enumerate(base.h if hasattr(base, "h") else base.layers):
            gpt2 = hasattr(block, "ln_1")
            sandwich = hasattr(block, "pre_feedforward_layernorm")
            norm1 = block.ln_1 if gpt2 else block.input_layernorm
            norm2 = block.ln_2 if gpt2 else block.post_attention_layernorm
            attention, mlp = block.attn if gpt2 else block.self_attn, block.mlp
            self.before(mlp.c_proj if gpt2 else mlp.down_proj, layer, "mlp_post")
            if sandwich:  # the branch ends with a norm of its own
                norm2 = block.pre_feedforward_layernorm
                attention, mlp = block.post_attention_layernorm, block.post_feedforward_layernorm
            self.before(block, layer, "resid_pre")
            self.branch(norm1, layer, "attn_branch", "attn_in")
            self.after(attention, layer, "attn_out")
            self.before(norm2, layer, "resid_mid")
            self.branch(norm2, layer, "mlp_branch", "mlp_in")
            self.after(mlp, layer, "mlp_out")
            self.after(block, layer, "resid_post")

    def before(self, module: nn.Module, layer: int, name: str) -> None:
        def hook(_, arguments, keywords):
            x = arguments[0] if arguments else keywords["hidden_states"]
            self.trace.keep(layer, name, x)

        self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(self, module: nn.Module, layer: int, name: str) -> None:
        def hook(_, __, output):
            self.trace.keep(layer, name, output[0] if isinstance(output, tuple) else output)

        self.handles.append(module.register_forward_hook(hook))

    def branch(self, norm: nn.Module, layer: int, inside: str, output: str) -> None:
        """The norm reads a copy of the stream, whose gradient is the branch's own."""

        def copy(_, arguments):
            return (self.trace.keep(layer, inside, arguments[0] * 1.0),)

        self.handles.append(norm.register_forward_pre_hook(copy))
        self.after(norm, layer, output)

    def attention(self, module, query, key, value, attention_mask, scaling, softcap=None, **_):
        """Causal attention of [B,heads,T,d]; the library's mask is that of a whole sequence."""
        layer, variant = module.layer_idx, self.variant
        # attention_scores divides by sqrt(d).
        factor = scaling * query.shape[-1] ** 0.5
        assert math.isclose(factor, 1.0) or softcap

        def keep(name, x):
            return self.trace.keep(layer, name, x)

        q, k = keep("q", query.transpose(1, 2)), keep("k", key.transpose(1, 2))
        v = keep("v", value.transpose(1, 2))
        if variant.v_scale != "none":
            theta = torch.zeros(variant.num_key_value_heads, dtype=v.dtype)
            v = keep("v_scaled", v_scale(v, variant.v_scale, variant.v_scale_constant, theta))
        scores = attention_scores(q, k, causal=True)
        if softcap:
            capped = softcap * torch.tanh(attention_scores(q, k, causal=False) * factor / softcap)
            scores = capped.masked_fill(scores == -math.inf, -math.inf)
        scores = keep("scores", scores)
        pattern, _ = normalise(scores, variant.attention)
        return keep("z", attention_mix(keep("pattern", pattern), v)), pattern

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def load(folder, dtype: torch.dtype) -> nn.Module:
    """The model of a folder in the given dtype, weights frozen."""
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=dtype)
    model.eval().requires_grad_(False)
    if dtype == torch.float64:
        patch_to_f64(model)
    return model


def run(model: nn.Module, tokens: torch.Tensor, variant: Sizes):
    """tokens [B,T+1] to logits [B,T,V], the mean loss, and the trace with its gradients."""
    tracer = Tracer(model, variant)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    embedded = model.get_input_embeddings()(inputs).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, use_cache=False).logits
    loss = cross_entropy(logits, targets)
    loss.backward()
    tracer.remove()
    return logits.detach(), loss.item(), tracer.trace
