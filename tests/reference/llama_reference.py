"""Writes the model cases: `llama_NAME.safetensors` and `llama_NAME.json` for each row of CASES.

    python llama_reference.py [OUT_DIR]

README.md beside this file says what the tensors are. Every case is checked before it is written:
the identities of `identities.py`, and that no threshold or sort order is so close that an f32
engine could fall on the other side.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

import identities
import measure_record
from llama_model import Config, forward, random_weights, to_f64

DEFAULT_OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "reference"

ADAMW = {
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-8,
    "weight_decay": 0.1,
    "clip": 1.0,
    "learning_rates": [1e-2, 4e-3],
}


@dataclasses.dataclass(frozen=True)
class Case:
    config: Config
    batch: int
    length: int
    seed: int
    sinks: tuple[int, ...] = (0,)  # the first one's record has no suffix
    massive: bool = False
    adamw: bool = False


def sizes(L: int, D: int, H: int, K: int, F: int, V: int, **variant) -> Config:
    return Config(D, F, L, H, K, V, **variant)


CASES = {
    # Grouped queries, two layers, everything else plain.
    "base": Case(sizes(2, 16, 4, 2, 24, 37), batch=3, length=12, seed=1),
    # Long enough for the windows 64 and 31 to cut something off.
    "long": Case(sizes(1, 8, 1, 1, 12, 23), batch=2, length=70, seed=2),
    # Sizes that fit no vector register; one kv head for all; tied output; also another sink token.
    "odd": Case(
        sizes(1, 18, 3, 1, 17, 29, tie_word_embeddings=True),
        batch=5, length=13, seed=3, sinks=(0, 3),
    ),
    # One token: empty means, no query but the first.
    "single": Case(sizes(1, 8, 2, 1, 10, 11), batch=2, length=1, seed=4),
    # Three layers of massive activations, more of them than are listed.
    "massive": Case(sizes(3, 8, 2, 1, 12, 37), batch=3, length=12, seed=5, massive=True),
    "v_scale_full": Case(
        sizes(2, 16, 4, 2, 10, 17, v_scale="full"), batch=2, length=9, seed=6
    ),
    "v_scale_learned": Case(
        sizes(2, 8, 4, 2, 10, 17, v_scale="learned"), batch=2, length=9, seed=13, adamw=True
    ),
    "v_scale_backward_only": Case(
        sizes(2, 8, 4, 2, 10, 17, v_scale="backward-only"), batch=2, length=9, seed=8
    ),
    "v_scale_forward_only": Case(
        sizes(2, 8, 4, 2, 10, 17, v_scale="forward-only"), batch=2, length=9, seed=8
    ),
    "softmax_1": Case(
        sizes(2, 8, 2, 1, 10, 17, attention="softmax-1"), batch=2, length=9, seed=9
    ),
}


def make_massive(case: Case, weights: dict, tokens: np.ndarray, rng: np.random.Generator) -> None:
    """Gives 20 tokens, each occurring once, one huge feature of a size and sign of its own."""
    B, T = case.batch, case.length
    embedding = weights["model.embed_tokens.weight"]
    embedding *= np.float32(0.1)
    tokens[:, :T] = rng.integers(20, case.config.vocab_size, (B, T))
    for token, place in enumerate(rng.permutation(B * T)[:20]):
        tokens[place // T, place % T] = token
        size = 120.0 + 45.0 * token
        embedding[token, rng.integers(case.config.hidden_size)] = size if token % 3 else -size


def make_inputs(case: Case) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(case.seed)
    weights = random_weights(case.config, rng)
    shape = (case.batch, case.length + 1)
    tokens = rng.integers(0, case.config.vocab_size, shape).astype(np.int32)
    if case.massive:
        make_massive(case, weights, tokens, rng)
    return weights, tokens


def decays(name: str) -> bool:
    """Matrices and embeddings decay; gains and theta do not."""
    return name.endswith("proj.weight") or name in ("model.embed_tokens.weight", "lm_head.weight")


def adamw_steps(config: Config, weights: dict[str, np.ndarray], tokens: torch.Tensor) -> dict:
    """Two steps on the same batch: clip by global norm, decoupled decay, then the update."""
    current = to_f64(weights)
    first = {name: torch.zeros_like(w) for name, w in current.items()}
    second = {name: torch.zeros_like(w) for name, w in current.items()}
    out, losses, norms = {}, [], []
    for step, rate in enumerate(ADAMW["learning_rates"], start=1):
        _, loss, _ = forward(config, current, tokens)
        loss.backward()
        total = torch.sqrt(sum((w.grad**2).sum() for w in current.values()))
        losses.append(loss.item())
        norms.append(total.item())
        factor = min(1.0, ADAMW["clip"] / total.item())
        updated = {}
        for name, w in current.items():
            g, p = w.grad * factor, w.detach()
            smallest = (g[g != 0].abs().min() / total).item() if (g != 0).any() else 1.0
            identities.require(smallest > 1e-6, f"{name}: a gradient too small for f32's sign")
            if decays(name):
                p = p * (1.0 - rate * ADAMW["weight_decay"])
            first[name] = ADAMW["beta1"] * first[name] + (1 - ADAMW["beta1"]) * g
            second[name] = ADAMW["beta2"] * second[name] + (1 - ADAMW["beta2"]) * g * g
            m_hat = first[name] / (1 - ADAMW["beta1"] ** step)
            v_hat = second[name] / (1 - ADAMW["beta2"] ** step)
            p = p - rate * m_hat / (torch.sqrt(v_hat) + ADAMW["eps"])
            updated[name] = p.clone().requires_grad_()
            out[f"adamw.step{step}.{name}"] = p.numpy()
        current = updated
    identities.require(norms[0] > 1.05 * ADAMW["clip"], "the first step must clip")
    return out | {"adamw.loss": np.array(losses), "adamw.grad_norm": np.array(norms)}


def check_margins(case: Case, name: str, record: dict, trace) -> None:
    """No decision of the record may hang on the last digits."""
    for layer in range(case.config.num_hidden_layers):
        a = trace.value(layer, "pattern")
        a = a / a.sum(-1, keepdim=True)
        for sink in case.sinks:
            alpha = a[:, :, sink:, sink][:, :, : measure_record.SINK_WINDOW].mean(-1)
            near = (alpha - measure_record.SINK_THRESHOLD).abs().min().item()
            identities.require(near > 1e-3, f"{name}: a sink score within {near:.2g} of 0.3")
        x = trace.value(layer, "resid_post").abs().flatten().sort().values
        for limit in (100.0, 1000.0 * x.median().item()):
            gap = ((x - limit).abs() / limit).min().item()
            identities.require(gap > 1e-3, f"{name}: an activation within {gap:.2g} of {limit}")
    if case.massive:
        counts = [len(layer["massive_activations"]) for layer in record["layers"]]
        identities.require(max(counts) == measure_record.MASSIVE_LISTED, f"{name}: {counts}")
        identities.require(0 < min(counts) < measure_record.MASSIVE_LISTED, f"{name}: {counts}")


def disagreements(actual, expected, rtol: float, path: str = "") -> list[str]:
    """Where two records differ: |a-b| > rtol max(|b|, 1e-3 max|array|); other values exactly."""
    if isinstance(expected, dict):
        if actual.keys() != expected.keys():
            return [f"{path}: keys {sorted(actual)} against {sorted(expected)}"]
        pairs = [(f"{path}.{key}", actual[key], expected[key]) for key in expected]
    elif isinstance(expected, list) and not (
        expected and all(isinstance(item, float) for item in expected)
    ):
        if len(actual) != len(expected):
            return [f"{path}: {len(actual)} entries against {len(expected)}"]
        pairs = [(f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(actual, expected))]
    elif isinstance(expected, (float, list)):
        a, b = np.atleast_1d(actual), np.atleast_1d(expected)
        allowed = rtol * np.maximum(np.abs(b), 1e-3 * np.abs(b).max())
        if path.endswith("kurtosis"):  # an excess is a difference from 3
            allowed = np.maximum(allowed, rtol)
        return [f"{path}: {actual} against {expected}"] if (np.abs(a - b) > allowed).any() else []
    else:
        return [] if actual == expected else [f"{path}: {actual} against {expected}"]
    return [problem for item in pairs for problem in disagreements(item[1], item[2], rtol, item[0])]


def check_f32(name: str, case: Case, weights: dict, ids: torch.Tensor, record: dict) -> None:
    """The same formulas in f32 give the same record within 1e-4: the case is well conditioned."""
    single = {key: torch.from_numpy(value).requires_grad_() for key, value in weights.items()}
    _, loss, trace = forward(case.config, single, ids)
    loss.backward()
    count = sum(w.size for w in weights.values())
    again = measure_record.measure(name, case.config, count, loss.item(), trace)
    again, record = measure_record.plain(again), measure_record.plain(record)
    problems = disagreements(again, record, rtol=1e-4)
    identities.require(not problems, f"{name} in f32:\n" + "\n".join(problems))


def write_case(name: str, case: Case, out: pathlib.Path) -> None:
    weights, tokens = make_inputs(case)
    parameters, ids = to_f64(weights), torch.from_numpy(tokens.astype(np.int64))
    logits, loss, trace = forward(case.config, parameters, ids)
    loss.backward()
    identities.check_all(case.config, parameters, ids, trace)

    count = sum(w.size for w in weights.values())
    for sink in case.sinks:
        record = measure_record.measure(name, case.config, count, loss.item(), trace, sink)
        if sink == case.sinks[0]:
            check_margins(case, name, record, trace)
            check_f32(name, case, weights, ids, record)
        suffix = "" if sink == case.sinks[0] else f"_sink{sink}"
        text = json.dumps(measure_record.plain(record), separators=(",", ":"), allow_nan=False)
        (out / f"llama_{name}{suffix}.json").write_text(text + "\n")

    tensors = dict(weights)
    tensors["tokens"] = tokens
    tensors["expected.logits"] = logits.detach().numpy()
    tensors["expected.loss"] = np.array(loss.item())
    tensors |= {f"grad.{weight}": w.grad.numpy() for weight, w in parameters.items()}
    metadata = {"config": case.config.to_json()}
    if case.adamw:
        tensors |= adamw_steps(case.config, weights, ids)
        metadata["adamw"] = ADAMW
    # One key: the order of several is not fixed in a safetensors file.
    save_file(
        {key: np.ascontiguousarray(value) for key, value in tensors.items()},
        out / f"llama_{name}.safetensors",
        metadata={"reference": json.dumps(metadata)},
    )


def check_variants(cases: dict[str, Case]) -> None:
    """Backward-only V-scale leaves the forward pass as it is without, to the bit."""
    case = cases["v_scale_backward_only"]
    weights, tokens = make_inputs(case)
    ids, w = torch.from_numpy(tokens.astype(np.int64)), to_f64(weights)
    plain = dataclasses.replace(case.config, v_scale="none")
    same = torch.equal(forward(case.config, w, ids)[0], forward(plain, w, ids)[0])
    identities.require(same, "backward-only V-scale changes the logits")


def main() -> None:
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    check_variants(CASES)
    for name, case in CASES.items():
        write_case(name, case, out)
        print(f"llama_{name}: identities hold, written")


if __name__ == "__main__":
    main()
