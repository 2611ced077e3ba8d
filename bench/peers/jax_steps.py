"""One training step of JAX a line of stdin (line_protocol.py): the same model, sizes, loss, clipping and
AdamW as Weir's `step_bench`, f32, all of it one jitted function that donates its state.

    python jax_steps.py demo|text|llama-0.1b

Layers are unrolled rather than scanned, which compiles longer and runs faster; attention is
jax.nn.dot_product_attention.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from line_protocol import serve

SETTINGS = {
    "text": dict(layers=4, d_model=256, heads=4, d_ff=704, vocabulary=50257, length=256, batch=16),
    "llama-0.1b": dict(layers=16, d_model=512, heads=8, d_ff=1408, vocabulary=50257, length=1024,
                       batch=4),
    "demo": dict(layers=1, d_model=128, heads=1, d_ff=320, vocabulary=67, length=128, batch=32),
}  # fmt: skip
BETA1, BETA2, EPSILON, DECAY, RATE, CLIP = 0.9, 0.95, 1e-8, 0.1, 1e-3, 1.0


def initial(size: argparse.Namespace) -> dict:
    random = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> jnp.ndarray:
        return jnp.asarray(0.02 * random.standard_normal((rows, columns)), jnp.float32)

    D = size.d_model
    blocks = [
        {"attn_norm": jnp.ones(D), "qkv": matrix(D, 3 * D), "out": matrix(D, D),
         "mlp_norm": jnp.ones(D), "gate_up": matrix(D, 2 * size.d_ff), "down": matrix(size.d_ff, D)}
        for _ in range(size.layers)
    ]  # fmt: skip
    return {"embedding": matrix(size.vocabulary, D), "blocks": blocks, "norm": jnp.ones(D),
            "head": matrix(D, size.vocabulary)}  # fmt: skip


def rms_norm(x: jnp.ndarray, gain: jnp.ndarray) -> jnp.ndarray:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * gain


def loss_of(weights: dict, tokens: jnp.ndarray, targets: jnp.ndarray, size: argparse.Namespace):
    B, T = tokens.shape
    d = size.d_model // size.heads
    angle = jnp.outer(jnp.arange(T), 10000.0 ** (-jnp.arange(0, d, 2) / d))
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]

    def rotate(x: jnp.ndarray) -> jnp.ndarray:
        low, high = jnp.split(x, 2, -1)
        return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], -1)

    x = weights["embedding"][tokens]
    for block in weights["blocks"]:
        qkv = (rms_norm(x, block["attn_norm"]) @ block["qkv"]).reshape(B, T, 3, size.heads, d)
        q, k, v = rotate(qkv[:, :, 0]), rotate(qkv[:, :, 1]), qkv[:, :, 2]
        z = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + z.reshape(B, T, -1) @ block["out"]
        gate, up = jnp.split(rms_norm(x, block["mlp_norm"]) @ block["gate_up"], 2, -1)
        x = x + (jax.nn.silu(gate) * up) @ block["down"]
    logits = rms_norm(x, weights["norm"]) @ weights["head"]
    chosen = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(logits, -1) - chosen)


def make_step(size: argparse.Namespace):
    def step(state: dict, tokens: jnp.ndarray, targets: jnp.ndarray):
        weights, m, v, count = state["weights"], state["m"], state["v"], state["count"] + 1
        loss, gradients = jax.value_and_grad(loss_of)(weights, tokens, targets, size)
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradients)))
        factor = jnp.minimum(1.0, CLIP / (norm + 1e-6))
        gradients = jax.tree.map(lambda g: g * factor, gradients)
        m = jax.tree.map(lambda a, g: BETA1 * a + (1 - BETA1) * g, m, gradients)
        v = jax.tree.map(lambda a, g: BETA2 * a + (1 - BETA2) * g * g, v, gradients)
        bias1, bias2 = 1 - BETA1**count, 1 - BETA2**count

        def update(w, a, b):
            decayed = w * (1 - RATE * DECAY) if w.ndim == 2 else w
            return decayed - RATE * (a / bias1) / (jnp.sqrt(b / bias2) + EPSILON)

        weights = jax.tree.map(update, weights, m, v)
        return {"weights": weights, "m": m, "v": v, "count": count}, loss

    return jax.jit(step, donate_argnums=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("setting", choices=SETTINGS)
    size = argparse.Namespace(**SETTINGS[parser.parse_args().setting])
    weights = initial(size)
    state = {"weights": weights, "m": jax.tree.map(jnp.zeros_like, weights),
             "v": jax.tree.map(jnp.zeros_like, weights), "count": jnp.zeros(())}  # fmt: skip
    step = make_step(size)
    random = np.random.default_rng(1)

    def answer(_=None) -> dict:
        nonlocal state
        ids = random.integers(size.vocabulary, size=(size.batch, size.length + 1), dtype=np.int32)
        tokens, targets = jnp.asarray(ids[:, :-1]), jnp.asarray(ids[:, 1:])
        start = time.perf_counter()
        state, loss = step(state, tokens, targets)
        value = float(loss)
        jax.block_until_ready(state)
        return {"seconds": time.perf_counter() - start, "loss": value}

    start = time.perf_counter()
    answer()
    parameters = sum(w.size for w in jax.tree.leaves(weights))
    serve(answer, version=f"jax {jax.__version__}", parameters=parameters,
          warm_up_seconds=time.perf_counter() - start)  # fmt: skip


if __name__ == "__main__":
    main()
