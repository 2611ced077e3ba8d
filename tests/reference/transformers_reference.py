"""Writes tiny random models of every architecture with what `transformers` computes from them.

    python transformers_reference.py [OUT_DIR [CASE ...]]

Each row of CASES becomes a folder as Hugging Face publishes models (config.json, safetensors), with
reference.safetensors (tokens, logits, loss, gradients at hooks, in f64) and a record `weir.measure/1`
per variant. Every record is checked before it is written: the library in f32, its norms, rotary
tables and softmax unpatched but for the traced attention, gives the same within 1e-4, and its own
eager attention gives the same logits.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import shutil
import sys

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

import identities
import measure_record
from llama_reference import check_margins, disagreements
from transformers_trace import inverse_frequencies, load, run, sizes_of

DEFAULT_OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "models"

# Names of the trace and the hooks whose gradients are kept.
HOOKS = {
    "q": "attn.hook_rot_q",
    "k": "attn.hook_rot_k",
    "v": "attn.hook_v",
    "scores": "attn.hook_attn_scores",
    "z": "attn.hook_z",
    "attn_branch": "ln1.hook_in",
    "attn_in": "ln1.hook_normalized",
    "mlp_in": "ln2.hook_normalized",
    "resid_pre": "hook_resid_pre",
    "mlp_out": "hook_mlp_out",
}


@dataclasses.dataclass(frozen=True)
class Case:
    config: PretrainedConfig
    seed: int
    batch: int = 2
    length: int = 9
    dtype: torch.dtype = torch.float32
    shard: str = "1GB"
    variants: tuple[tuple[str, str], ...] = ()  # (v_scale, attention) besides the plain one
    gguf: bool = False  # also as NAME.gguf, with the tensors of the safetensors
    headless: bool = False  # saved as the base model, whose names have no prefix


VARIANTS = tuple((v, "softmax") for v in ("full", "learned", "backward-only", "forward-only"))


def decoder(config_class, heads, kv_heads, head_dim, **more) -> PretrainedConfig:
    return config_class(
        vocab_size=more.pop("vocab_size", 29),
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
        **more,
    )


def gpt2(**more) -> PretrainedConfig:
    return GPT2Config(
        vocab_size=31, n_positions=16, n_embd=12, n_layer=2, n_head=3,
        bos_token_id=None, eos_token_id=None, **more,
    )


LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 50.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}

LINEAR = {"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0}
YARN = {
    "rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 16,
    "beta_fast": 4.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 0.5,
}

CASES = {
    # Heads wider than d_model / heads; grouped queries; every V-scale and softmax-1.
    "llama": Case(
        decoder(LlamaConfig, 4, 2, 6, rms_norm_eps=1e-5), seed=1,
        variants=VARIANTS + (("none", "softmax-1"), ("full", "softmax-1")),
    ),
    # Scaled rotary frequencies of all three kinds, tied output, bf16.
    "llama3": Case(
        decoder(LlamaConfig, 2, 1, 12, rope_parameters=LLAMA3, tie_word_embeddings=True),
        seed=2, length=12, dtype=torch.bfloat16, gguf=True,
    ),
    # A sliding window that is wider than the sequences; f16; three shards.
    "mistral": Case(
        decoder(MistralConfig, 4, 4, 4, sliding_window=16, vocab_size=23), seed=3,
        dtype=torch.float16, shard="3KB", gguf=True,
    ),
    # Biases everywhere, and positions that are divided.
    "llama_bias": Case(
        decoder(
            LlamaConfig, 4, 2, 4, rope_parameters=LINEAR, attention_bias=True, mlp_bias=True,
        ),
        seed=9, length=12, gguf=True,
    ),
    # YaRN with an amplitude of its own; biases without those of the MLP.
    "qwen3_yarn": Case(
        decoder(Qwen3Config, 4, 2, 8, rope_parameters=YARN, attention_bias=True, vocab_size=23),
        seed=10, length=14, dtype=torch.bfloat16,
    ),
    # YaRN where GGUF says all of it.
    "qwen2_yarn": Case(
        decoder(
            Qwen2Config, 2, 1, 8, tie_word_embeddings=True, vocab_size=19,
            rope_parameters={
                "rope_type": "yarn", "rope_theta": 50.0, "factor": 2.0,
                "original_max_position_embeddings": 32,
            },
        ),
        seed=11, length=12, dtype=torch.float16, gguf=True,
    ),
    # Biases on q, k and v.
    "qwen2": Case(
        decoder(Qwen2Config, 4, 2, 4, tie_word_embeddings=True, vocab_size=37), seed=4,
        gguf=True,
    ),
    # RMSNorm of each query and key head, before the rotation.
    "qwen3": Case(
        decoder(Qwen3Config, 4, 1, 8), seed=5, variants=VARIANTS[:1], dtype=torch.float16, gguf=True
    ),
    # Soft caps that bend and that saturate, scores scaled by another width than that of a head, biases;
    # layers with a window of 16 in turn with layers without one.
    "gemma2": Case(
        decoder(
            Gemma2Config, 4, 2, 6, query_pre_attn_scalar=9, attn_logit_softcapping=1.5, sliding_window=16,
            final_logit_softcapping=None, attention_bias=True, tie_word_embeddings=False,
        ),
        seed=12, variants=VARIANTS[:1] + (("none", "softmax-1"),),
    ),
    "gemma2_capped": Case(
        decoder(
            Gemma2Config, 2, 1, 8, query_pre_attn_scalar=8, attn_logit_softcapping=3.0, sliding_window=32,
            final_logit_softcapping=2.0, vocab_size=23,
        ),
        seed=13, length=12, dtype=torch.bfloat16, gguf=True,
    ),
    "gpt2": Case(gpt2(), seed=6, batch=3, variants=VARIANTS[:1] + (("none", "softmax-1"),)),
    # An MLP of odd width, an output projection of its own, f16; as many tokens as positions.
    "gpt2_untied": Case(
        gpt2(n_inner=19, tie_word_embeddings=False), seed=7, batch=1, length=16, dtype=torch.float16,
    ),
    "gpt2_headless": Case(gpt2(), seed=8, length=5, dtype=torch.bfloat16, headless=True, gguf=True),
}


def randomise(model: torch.nn.Module, rng: np.random.Generator) -> None:
    """Weights far larger than an initialiser's: attention is peaked, and an error anywhere shows.

    Values are small, which puts their norms near the constant of V-scale.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            random = torch.from_numpy(rng.standard_normal(tuple(weight.shape)))
            scale, shift = 1.2 / math.sqrt(weight.shape[-1]), 0.0
            gemma = model.config.model_type == "gemma2"
            if name.endswith(("norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight")):
                scale, shift = 0.25, 0.0 if gemma else 1.0  # its gains are 1 + weight
            elif name.endswith("bias"):
                scale = 0.05 if "v_proj" in name else 0.3
            elif "embed_tokens" in name or "wte" in name:
                scale = 0.6 / math.sqrt(weight.shape[1]) if gemma else 0.6  # it multiplies it again
            elif "wpe" in name:
                scale = 0.4
            elif "v_proj" in name:
                scale = 0.03
            elif "o_proj" in name or "attn.c_proj" in name:
                scale = 1.5
            elif weight.dim() == 2 and ".c_" in name:  # stored [in, out]
                scale = 1.2 / math.sqrt(weight.shape[0])
            weight.copy_(random * scale + shift)
            if "attn.c_attn" in name:  # the last third makes the values
                weight[..., -weight.shape[-1] // 3 :] *= 0.05


def save_model(case: Case, folder: pathlib.Path, rng: np.random.Generator) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(case.config)
    randomise(model, rng)
    model.to(case.dtype)
    saved = model.base_model if case.headless else model
    saved.save_pretrained(folder, max_shard_size=case.shard)
    (folder / "generation_config.json").unlink(missing_ok=True)


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm",
    "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}


# What a Llama calls post_attention_layernorm stands before the MLP.
GEMMA2_NAMES = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def gguf_tensor(config, name: str, weight: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Name and layout as llama.cpp's converter gives them: the rows of q and k of Llama interleaved
    for rotation of neighbours, the matrices of GPT-2 as [out, in]."""
    stem, kind = name.rsplit(".", 1)
    layer = None
    for prefix in ("model.layers.", "transformer.h."):
        if stem.startswith(prefix):
            layer, stem = stem.removeprefix(prefix).split(".", 1)
    names = GGUF_NAMES | (GEMMA2_NAMES if config.model_type == "gemma2" else {})
    stem = names[stem.removeprefix("transformer.")]
    if config.model_type == "gemma2" and stem.endswith("norm"):
        weight = weight + 1
    if stem in ("attn_q", "attn_k") and config.model_type in ("llama", "mistral"):
        heads = config.num_attention_heads if stem == "attn_q" else config.num_key_value_heads
        shape = weight.shape
        weight = weight.reshape(heads, 2, -1, *shape[1:]).swapaxes(1, 2).reshape(shape)
    if config.model_type == "gpt2" and weight.dim() == 2 and stem.startswith(("attn", "ffn")):
        weight = weight.T
    return (f"{stem}.{kind}" if layer is None else f"blk.{layer}.{stem}.{kind}"), weight


def write_gguf(case: Case, model, path: pathlib.Path) -> None:
    """The saved model as GGUF; floats as stored, gains and biases in f32, as converters do it."""
    c = case.config
    sizes = sizes_of(c)
    arch = {"mistral": "llama"}.get(c.model_type, c.model_type)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(path.stem)
    writer.add_block_count(sizes.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(sizes.hidden_size)
    writer.add_feed_forward_length(sizes.intermediate_size)
    writer.add_head_count(sizes.num_attention_heads)
    if arch == "gpt2":
        writer.add_layer_norm_eps(c.layer_norm_epsilon)
    else:
        writer.add_head_count_kv(sizes.num_key_value_heads)
        writer.add_key_length(sizes.head_dim)
        writer.add_value_length(sizes.head_dim)
        writer.add_layer_norm_rms_eps(c.rms_norm_eps)
        writer.add_rope_freq_base(c.rope_parameters["rope_theta"])
        writer.add_rope_dimension_count(sizes.head_dim)
        if arch == "gemma2":
            writer.add_attn_logit_softcapping(c.attn_logit_softcapping)
            writer.add_final_logit_softcapping(c.final_logit_softcapping)
            writer.add_sliding_window(c.sliding_window)
        kind = c.rope_parameters["rope_type"]
        if kind in ("linear", "yarn"):
            writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
            writer.add_rope_scaling_factor(c.rope_parameters["factor"])
        if kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(c.rope_parameters["original_max_position_embeddings"])
        if kind == "llama3":
            plain = dict(c.rope_parameters, rope_type="default")
            divisors = inverse_frequencies(Frequencies(plain, sizes.head_dim))
            divisors = divisors / inverse_frequencies(Frequencies(c.rope_parameters, sizes.head_dim))
            writer.add_tensor("rope_freqs.weight", divisors.float().numpy())
    kinds = {
        torch.float32: gguf.GGMLQuantizationType.F32,
        torch.float16: gguf.GGMLQuantizationType.F16,
        torch.bfloat16: gguf.GGMLQuantizationType.BF16,
    }
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and c.tie_word_embeddings:
            continue
        target, weight = gguf_tensor(c, name, weight.float())
        kind = kinds[case.dtype if weight.dim() == 2 else torch.float32]
        data = gguf.quants.quantize(np.ascontiguousarray(weight.numpy()), kind)
        writer.add_tensor(target, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@dataclasses.dataclass(frozen=True)
class Frequencies:
    """The part of a configuration that rotary frequencies depend on."""

    rope_parameters: dict
    head_dim: int


def check_margins_of(case: Case, sizes, name: str, record: dict, trace) -> None:
    @dataclasses.dataclass
    class Margins:
        config: object
        sinks: tuple[int, ...] = (0,)
        massive: bool = False

    check_margins(Margins(sizes), name, record, trace)


def record_name(v_scale: str, attention: str) -> str:
    words = ["record"] + ([f"v_scale_{v_scale}"] if v_scale != "none" else [])
    words += [attention] if attention != "softmax" else []
    return "_".join(words).replace("-", "_") + ".json"


def write_record(case: Case, name: str, folder, models, ids, v_scale: str, attention: str):
    sizes = sizes_of(case.config, v_scale=v_scale, attention=attention)
    results = {}
    for dtype, model in models.items():
        count = sum(w.numel() for w in model.parameters())
        if v_scale == "learned":
            count += sizes.num_key_value_heads * sizes.num_hidden_layers
        logits, loss, trace = run(model, ids, sizes)
        record = measure_record.measure(name, sizes, count, loss, trace)
        results[dtype] = (logits, loss, trace, measure_record.plain(record))
    logits, loss, trace, record = results[torch.float64]
    problems = disagreements(results[torch.float32][3], record, rtol=1e-4)
    identities.require(not problems, f"{name} in f32:\n" + "\n".join(problems))
    check_margins_of(case, sizes, name, record, trace)
    text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    (folder / record_name(v_scale, attention)).write_text(text + "\n")
    return logits, loss, trace


def check_own_attention(case: Case, model, ids: torch.Tensor, logits: torch.Tensor) -> None:
    """The library's own eager attention in f32, with the library's masks."""
    model.config._attn_implementation = "eager"
    own = model(input_ids=ids[:, :-1], use_cache=False).logits.double()
    torch.testing.assert_close(own, logits, rtol=1e-4, atol=1e-4 * logits.abs().max().item())


def write_case(name: str, case: Case, out: pathlib.Path) -> None:
    rng = np.random.default_rng(case.seed)
    folder = out / name
    save_model(case, folder, rng)
    shape = (case.batch, case.length + 1)
    tokens = rng.integers(0, case.config.vocab_size, shape).astype(np.int32)
    ids = torch.from_numpy(tokens.astype(np.int64))
    if case.gguf:
        write_gguf(case, load(folder, torch.float32), folder / f"{name}.gguf")
    models = {dtype: load(folder, dtype) for dtype in (torch.float32, torch.float64)}
    logits, loss, trace = write_record(case, name, folder, models, ids, "none", "softmax")
    check_own_attention(case, models[torch.float32], ids, logits)

    tensors = {"tokens": tokens, "logits": logits.numpy(), "loss": np.array(loss)}
    for layer in range(case.config.num_hidden_layers):
        for key, hook in HOOKS.items():
            if key == "scores":  # no gradient flows to it in Weir; its value is not implied by others
                tensors[f"blocks.{layer}.{hook}"] = trace.value(layer, key).numpy()
            else:
                tensors[f"blocks.{layer}.{hook}.grad"] = trace.grad(layer, key).numpy()
    save_file(
        {key: np.ascontiguousarray(value) for key, value in tensors.items()},
        folder / "reference.safetensors",
    )
    for v_scale, attention in case.variants:
        write_record(case, name, folder, models, ids, v_scale, attention)
    print(f"{name}: written, {sum(f.stat().st_size for f in folder.iterdir())} bytes")


def main() -> None:
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    chosen = sys.argv[2:] or CASES
    for name in chosen:
        write_case(name, CASES[name], out)


if __name__ == "__main__":
    main()
