"""Writes model cases whose attention differs: `llama_NAME.safetensors`, `qwen3_gate_NAME.safetensors`.

    python attention_reference.py [OUT_DIR]

The files are those of llama_reference.py without a record. A llama case has the normaliser, gate and
QK-norm of its row, with their weights; a qwen3 case has the weights of qiuzh20/gated_attention, whose
gates are packed in q_proj, and that model's configuration in the metadata.
"""

from __future__ import annotations

import json
import math
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

from llama_model import Config, forward, random_weights, to_f64

DEFAULT_OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "reference"
BATCH, LENGTH = 2, 7

# Normaliser: the gate, whether there is QK-norm, V-scale.
LLAMA = {
    "softpick": ("head", False, "none"),
    "relu": ("none", True, "none"),
    "sigmoid": ("element", False, "none"),
    "sink-logit": ("head", True, "none"),
    "kv-bias": ("element", True, "full"),
    "bayes-softmax": ("head", True, "none"),
}


def added_weights(config: Config, gate: str, norm: bool, rng: np.random.Generator) -> dict:
    H, K, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    added = {}
    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}.self_attn."
        if config.attention == "sink-logit":
            added[at + "sinks"] = rng.standard_normal(H)
        if config.attention == "bayes-softmax":
            added[at + "bayes_softmax.bias"] = rng.standard_normal(H)
        if config.attention == "kv-bias":
            added[at + "kv_bias.key"] = rng.standard_normal((K, d))
            added[at + "kv_bias.value"] = 0.5 * rng.standard_normal((K, d))
        if norm:
            for part in ("query", "key"):
                added[at + f"qk_norm.{part}"] = 1.0 + 0.3 * rng.standard_normal(d)
        if gate != "none":
            rows = H if gate == "head" else H * d
            shape = (rows, config.hidden_size)
            added[at + "output_gate.weight"] = 1.5 / math.sqrt(shape[1]) * rng.standard_normal(shape)
    return {name: np.asarray(value, dtype=np.float32) for name, value in added.items()}


def write(name: str, config: Config, metadata: dict, weights: dict, seed: int, out) -> None:
    tokens = np.random.default_rng(seed).integers(0, config.vocab_size, (BATCH, LENGTH + 1))
    parameters = to_f64(weights)
    logits, loss, _ = forward(config, parameters, torch.from_numpy(tokens))
    loss.backward()
    tensors = dict(weights)
    tensors["tokens"] = tokens.astype(np.int32)
    tensors["expected.logits"] = logits.detach().numpy()
    tensors["expected.loss"] = np.array(loss.item())
    tensors |= {f"grad.{weight}": w.grad.numpy() for weight, w in parameters.items()}
    save_file(
        {key: np.ascontiguousarray(value) for key, value in tensors.items()},
        out / f"{name}.safetensors",
        metadata={"reference": json.dumps({"config": metadata})},
    )
    print(name, f"loss {loss.item():.6f}")


def llama(out: pathlib.Path) -> None:
    for seed, (normaliser, (gate, norm, v_scale)) in enumerate(LLAMA.items(), start=31):
        config = Config(8, 10, 2, 4, 2, 17, attention=normaliser, v_scale=v_scale)
        rng = np.random.default_rng(seed)
        weights = random_weights(config, rng) | added_weights(config, gate, norm, rng)
        write(f"llama_{normaliser.replace('-', '_')}", config, config.to_json(), weights, seed, out)


def qwen3(out: pathlib.Path) -> None:
    for seed, gate in enumerate(("head", "element"), start=41):
        config = Config(16, 10, 2, 4, 2, 17)
        H, d, D = config.num_attention_heads, config.head_dim, config.hidden_size
        rng = np.random.default_rng(seed)
        weights = random_weights(config, rng)
        for layer in range(config.num_hidden_layers):
            at = f"model.layers.{layer}.self_attn."
            rows = H * d + (H if gate == "head" else H * d)
            packed = 1.5 / math.sqrt(D) * rng.standard_normal((rows, D))
            weights[at + "q_proj.weight"] = packed.astype(np.float32)
            for head in ("q", "k"):
                gain = 1.0 + 0.3 * rng.standard_normal(d)
                weights[at + f"{head}_norm.weight"] = gain.astype(np.float32)
        keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                "num_key_value_heads", "vocab_size", "rms_norm_eps", "rope_theta")
        metadata = {key: config.to_json()[key] for key in keys} | {
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": d,
            "attention_bias": False, "qkv_bias": False, "use_qk_norm": True,
            "tie_word_embeddings": False, "headwise_attn_output_gate": gate == "head",
            "elementwise_attn_output_gate": gate == "element", "max_position_embeddings": 64,
        }
        write(f"qwen3_gate_{gate}", config, metadata, weights, seed, out)


def main() -> None:
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    llama(out)
    qwen3(out)


if __name__ == "__main__":
    main()
