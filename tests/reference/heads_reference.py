"""Losses without single attention heads, computed a second time in PyTorch f64 (docs/heads.md).

    python heads_reference.py RECORD.json --model MODEL.gguf --tokens IDS.npy --heads 10

RECORD is that of `weir heads --model MODEL.gguf --tokens IDS.npy --json RECORD`. Of each of so many
heads, chosen evenly, z is set to 0 (or its mean over the tokens) in a whole forward pass. Prints
both losses and exits with 1 where they differ by more than --bound. Needs numpy, torch and gguf.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

import numpy as np
import torch

from llama_model import Config, attention_mix, attention_scores, normalise, rms_norm, rope, silu
from quantize_reference import read_gguf


def loss_without(
    config: Config, w: dict[str, torch.Tensor], tokens: torch.Tensor,
    place: tuple[int, int] | None, ablation: str,
) -> float:
    """Mean -log p over all targets of tokens [B,T+1], without the head at (layer, head)."""
    c = config
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    B, T = inputs.shape
    H, K, d = c.num_attention_heads, c.num_key_value_heads, c.head_dim
    x = w["model.embed_tokens.weight"][inputs]
    for layer in range(c.num_hidden_layers):
        p = f"model.layers.{layer}."
        n = rms_norm(x, w[p + "input_layernorm.weight"], c.rms_norm_eps)
        q, k, v = (n @ w[f"{p}self_attn.{part}_proj.weight"].T for part in "qkv")
        q, k = rope(q.reshape(B, T, H, d), c.rope_theta), rope(k.reshape(B, T, K, d), c.rope_theta)
        pattern, _ = normalise(attention_scores(q, k, causal=True), "softmax")
        z = attention_mix(pattern, v.reshape(B, T, K, d))
        if place is not None and place[0] == layer:
            head = z[:, :, place[1]]
            z[:, :, place[1]] = 0 if ablation == "zero" else head.mean((0, 1))
        x = x + z.reshape(B, T, H * d) @ w[p + "self_attn.o_proj.weight"].T
        m = rms_norm(x, w[p + "post_attention_layernorm.weight"], c.rms_norm_eps)
        gate, up = (m @ w[f"{p}mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        x = x + (silu(gate) * up) @ w[p + "mlp.down_proj.weight"].T
    output = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    logits = rms_norm(x, w["model.norm.weight"], c.rms_norm_eps) @ output.T
    chosen = logits.gather(-1, targets[..., None])[..., 0]
    return (torch.logsumexp(logits, -1) - chosen).mean().item()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("record", type=pathlib.Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", required=True)
    parser.add_argument("--heads", type=int, default=10)
    parser.add_argument("--bound", type=float, default=1e-5)
    options = parser.parse_args()
    record = json.loads(options.record.read_text())
    config, weights = read_gguf(options.model, torch.float64)
    tokens = torch.from_numpy(np.load(options.tokens)).long()[: record["tokens"]["batch"]]
    heads = record["model"]["heads"]
    count = record["model"]["layers"] * heads
    wrong = 0
    with torch.no_grad():
        loss = loss_without(config, weights, tokens, None, "")
        print(f"unchanged {record['loss']:.7f} {loss:.7f} {record['loss'] - loss:+.1e}")
        wrong += abs(record["loss"] - loss) > options.bound
        for index in np.linspace(0, count - 1, options.heads).astype(int).tolist():
            layer, head = divmod(index, heads)
            for ablation in record["settings"]["ablations"]:
                ours = record["layers"][layer]["heads"][head][ablation]["loss"]
                loss = loss_without(config, weights, tokens, (layer, head), ablation)
                print(f"{layer}.{head} {ablation} {ours:.7f} {loss:.7f} {ours - loss:+.1e}", flush=True)
                wrong += abs(ours - loss) > options.bound
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
