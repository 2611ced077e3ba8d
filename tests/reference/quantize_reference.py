"""Quantised models as `weir quantize` defines them (docs/quantize.md), written a second time in PyTorch.

    python quantize_reference.py                   writes tests/data/reference/quantize.safetensors, .json
    python quantize_reference.py --compare RECORD.json --model MODEL.gguf --tokens A.npy --tokens2 B.npy
                                 [--arms per-token,static] [--batch 4] [--json OUT.json]
                                 [--dtype f64] [--scales f64] [--perturb order]
    python quantize_reference.py --between A.json B.json

The first form makes a small model in f64 whose first token has an outlier, and the losses of every arm by
sequence, with and without the sink token in the scales. The second computes arms of a Llama checkpoint and
prints the differences to a record, in nats a target; A.npy has the calibration rows behind those that are
evaluated. The third prints the differences between two files, records or what --json wrote.

--scales f64 leaves the scales that are not given to a program in f64, as `weir quantize --interpret` has
them; it goes with --dtype f64. --perturb changes the last bits and nothing else: `order` sorts the features
of the residual stream and of the MLP differently, so that sums run over them in another order
(not for arms with groups, which are of neighbours); `ulp` multiplies embeddings by 1 or 1 + 2^-23 at random.

Levels are rounded from values and scales by torch.round, which takes halves to even; sums of products of
levels are exact.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib

import numpy as np
import torch

from llama_model import Config, attention_mix, attention_scores, normalise, random_weights
from llama_model import rms_norm, rope, silu

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "reference"
DRAWS = 5
SMOOTH_ALPHA = AWARE_ALPHA = 0.5


@dataclasses.dataclass(frozen=True)
class Arm:
    bits: int = 8
    group: int = 0
    aware: bool = False
    activations: str = "none"
    down_only: bool = False
    smooth: bool = False


def all_arms() -> dict[str, Arm]:
    arms = {}
    for bits in (8, 4):
        for group in (0, 128, 32):
            for aware in (False, True):
                name = f"weights-{bits}" + (f"-g{group}" if group else "") + "-aware" * aware
                arms[name] = Arm(bits, group, aware)
    arms["per-token"] = Arm(activations="token")
    arms["dynamic"] = Arm(activations="tensor")
    arms["static"] = Arm(activations="static")
    arms["static-down"] = Arm(activations="static", down_only=True)
    arms["smooth-static"] = Arm(activations="static", smooth=True)
    arms["smooth-per-token"] = Arm(activations="token", smooth=True)
    return arms


EXACT_PRODUCTS = 1024  # of levels: their sum stays below 2^24, so that f32 holds it


def f32(x: torch.Tensor) -> torch.Tensor:
    """Scales are kept in f32, whatever the rest is computed in."""
    return x.float().to(x.dtype)


def scale_of(most: torch.Tensor, limit: int, exact: bool = False) -> torch.Tensor:
    """most / limit as f32 divides, whatever the rest is computed in; `exact`: as dtype divides."""
    return most / limit if exact else (most.float() / limit).to(most.dtype)


def exact_product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x w^T of levels: sums of whole numbers, rounded once."""
    if x.dtype == torch.float64:
        return x @ w.T
    parts = zip(x.split(EXACT_PRODUCTS, -1), w.split(EXACT_PRODUCTS, -1), strict=True)
    return sum((a @ b.T).double() for a, b in parts).to(x.dtype)


def levels(x: torch.Tensor, scale: torch.Tensor, limit: int) -> torch.Tensor:
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    return torch.round(x / safe).clamp(-limit - 1, limit)


def weight_levels(
    w: torch.Tensor, limit: int, group: int, exact: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """w [N,K] to levels and their scales, [N,K] or [N,1]; the last group may be shorter."""
    if not group:
        scale = scale_of(w.abs().amax(1, keepdim=True), limit, exact)
        return levels(w, scale, limit), scale
    size = group
    q, s = torch.empty_like(w), torch.empty_like(w)
    for begin in range(0, w.shape[1], size):
        part = w[:, begin : begin + size]
        scale = scale_of(part.abs().amax(1, keepdim=True), limit, exact)
        q[:, begin : begin + size] = levels(part, scale, limit)
        s[:, begin : begin + size] = scale
    return q, s


class Ranges:
    """Of one activation over calibration sequences, by feature."""

    def __init__(self) -> None:
        self.sink = self.others = self.mean = None
        self.sequences = 0

    def add(self, x: torch.Tensor, sink: int) -> None:
        keep = torch.ones(x.shape[1], dtype=torch.bool)
        keep[sink] = False
        s, o = x[:, sink].abs().amax(0), x[:, keep].abs().amax((0, 1))
        mean = x.abs().mean(1).double().sum(0)
        first = self.sink is None
        self.sink = s if first else torch.maximum(self.sink, s)
        self.others = o if first else torch.maximum(self.others, o)
        self.mean = mean if first else self.mean + mean
        self.sequences += x.shape[0]

    def maxima(self, with_sink: bool) -> torch.Tensor:
        return torch.maximum(self.sink, self.others) if with_sink else self.others


class Quantised:
    """The products of one arm; without an arm those of the model, with ranges collected if asked for."""

    def __init__(self, model: "Model", arm: Arm | None = None, exact_sink: int | None = None) -> None:
        self.model, self.arm, self.exact_sink = model, arm, exact_sink
        self.collect = False
        self.cache: dict[tuple, tuple] = {}

    def smoothing(self, site: str, names: list[str]) -> torch.Tensor | None:
        if not (self.arm.smooth or self.arm.aware):
            return None
        ranges = self.model.ranges[site]
        if self.arm.smooth:
            x = ranges.maxima(self.exact_sink is None).double()
            w = torch.stack([self.model.weight_range(n) for n in names]).amax(0).double()
            s = (x**SMOOTH_ALPHA / w ** (1 - SMOOTH_ALPHA)).clamp(min=1e-5)
            s = torch.where((x > 0) & (w > 0), s, torch.ones_like(s))
        else:
            s = ((ranges.mean / ranges.sequences) ** AWARE_ALPHA).clamp(min=1e-4)
            s = s / torch.sqrt(s.max() * s.min())
        return f32(s).to(self.model.dtype)

    def prepared(self, name: str, s: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        # Without smoothing arms of the same weights share them.
        cache = self.cache if s is not None else self.model.levels
        key = name, self.arm.bits, self.arm.group
        if key not in cache:
            w = self.model.weights[name]
            limit = 127 if self.arm.bits == 8 else 7
            cache[key] = weight_levels(
                w if s is None else w * s, limit, self.arm.group, self.model.exact_scales
            )
        return cache[key]

    def products(self, x: torch.Tensor, site: str, names: list[str]) -> list[torch.Tensor]:
        """x [B,T,K] times each weight."""
        if self.collect:
            self.model.ranges.setdefault(site, Ranges()).add(x, self.model.sink)
        if self.arm is None:
            return [x @ self.model.weights[name].T for name in names]
        s = self.smoothing(site, names)
        quantised = self.arm.activations != "none" and (
            not self.arm.down_only or site.endswith("down")
        )
        if not quantised:
            made = [self.prepared(name, s) for name in names]
            return [x @ (q * sw / (1 if s is None else s)).T for q, sw in made]
        xs = x if s is None else x / s
        sx = self.scale(xs, site, s)
        qx = levels(xs, sx, 127)
        results = []
        for name in names:
            q, sw = self.prepared(name, s)
            y = exact_product(qx, q) * sx * sw[:, 0]
            if self.exact_sink is not None:
                y[:, self.exact_sink] = xs[:, self.exact_sink] @ (q * sw).T
            results.append(y)
        return results

    def scale(self, xs: torch.Tensor, site: str, s: torch.Tensor | None) -> torch.Tensor:
        exact = self.model.exact_scales
        if self.arm.activations == "token":
            return scale_of(xs.abs().amax(-1, keepdim=True), 127, exact)
        if self.arm.activations == "tensor":
            rows = xs.abs().amax(-1)
            if self.exact_sink is not None:
                rows[:, self.exact_sink] = 0
            return scale_of(rows.max(), 127, exact)
        # An input of the program: f32 in every arithmetic.
        most = self.model.ranges[site].maxima(self.exact_sink is None).float()
        return scale_of((most if s is None else most / s.float()).max(), 127).to(xs.dtype)


class Model:
    def __init__(
        self,
        config: Config,
        weights: dict[str, torch.Tensor],
        sink: int = 0,
        exact_scales: bool = False,
    ) -> None:
        self.config, self.weights, self.sink = config, weights, sink
        self.exact_scales = exact_scales
        self.dtype = weights["model.embed_tokens.weight"].dtype
        self.ranges: dict[str, Ranges] = {}
        self.levels: dict[tuple, tuple] = {}
        self.weight_ranges: dict[str, torch.Tensor] = {}

    def weight_range(self, name: str) -> torch.Tensor:
        if name not in self.weight_ranges:
            self.weight_ranges[name] = self.weights[name].abs().amax(0)
        return self.weight_ranges[name]

    def losses(self, tokens: torch.Tensor, linear: Quantised) -> torch.Tensor:
        """tokens [B,T+1] to the sum of -log p over the targets of each sequence."""
        c, w = self.config, self.weights
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        B, T = inputs.shape
        H, K, d = c.num_attention_heads, c.num_key_value_heads, c.head_dim
        x = w["model.embed_tokens.weight"][inputs]
        for layer in range(c.num_hidden_layers):
            at, p = f"{layer}.", f"model.layers.{layer}."

            def names(*parts: str, p: str = p) -> list[str]:
                return [f"{p}{part}_proj.weight" for part in parts]

            n = rms_norm(x, w[p + "input_layernorm.weight"], c.rms_norm_eps)
            q, k, v = linear.products(
                n, at + "qkv", names("self_attn.q", "self_attn.k", "self_attn.v")
            )
            q, k = rope(q.reshape(B, T, H, d), c.rope_theta), rope(k.reshape(B, T, K, d), c.rope_theta)
            pattern, _ = normalise(attention_scores(q, k, causal=True), "softmax")
            z = attention_mix(pattern, v.reshape(B, T, K, d)).reshape(B, T, H * d)
            x = x + linear.products(z, at + "o", names("self_attn.o"))[0]
            m = rms_norm(x, w[p + "post_attention_layernorm.weight"], c.rms_norm_eps)
            gate, up = linear.products(m, at + "gate_up", names("mlp.gate", "mlp.up"))
            x = x + linear.products(silu(gate) * up, at + "down", names("mlp.down"))[0]
        head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
        logits = rms_norm(x, w["model.norm.weight"], c.rms_norm_eps) @ head.T
        logits = logits.double()
        chosen = logits.gather(-1, targets[..., None])[..., 0]
        return (torch.logsumexp(logits, -1) - chosen).sum(-1)

    def evaluate(self, tokens: torch.Tensor, linear: Quantised, batch: int = 0) -> list[float]:
        parts = tokens.split(batch or len(tokens))
        with torch.no_grad():
            return torch.cat([self.losses(part, linear) for part in parts]).tolist()

    def calibrate(self, tokens: torch.Tensor, batch: int = 0) -> None:
        linear = Quantised(self)
        linear.collect = True
        self.evaluate(tokens, linear, batch)


# ---- the small model ----

BATCH, LENGTH = 4, 9


def small_model() -> tuple[Config, dict[str, np.ndarray], np.ndarray]:
    """Token 0 begins every sequence. It alone has feature 5, which a hidden unit of the first MLP turns
    into a massive activation at the input of W_down."""
    config = Config(32, 144, 2, 4, 2, 29)
    # A seed without numbers so close to the middle of two levels that the last bit of f32 decides:
    # losses in f32 and in f64 differ by at most 5e-6, whatever the order of sums.
    rng = np.random.default_rng(100)
    weights = random_weights(config, rng)
    weights["model.embed_tokens.weight"][1:, 5] *= 0.05
    weights["model.embed_tokens.weight"][0, 5] = 12
    first = "model.layers.0."
    weights[first + "self_attn.o_proj.weight"][5] *= 0.02
    weights[first + "mlp.gate_proj.weight"][7, 5] = weights[first + "mlp.up_proj.weight"][7, 5] = 4
    weights[first + "mlp.down_proj.weight"][:, 7] *= 0.02
    tokens = rng.integers(1, config.vocab_size, (BATCH + DRAWS, LENGTH + 1))
    tokens[:, 0] = 0
    return config, weights, tokens.astype(np.int32)


def write_small() -> None:
    from safetensors.numpy import save_file

    config, arrays, ids = small_model()
    model = Model(config, {name: torch.from_numpy(a).double() for name, a in arrays.items()})
    tokens = torch.from_numpy(ids).long()
    model.calibrate(tokens[BATCH:])
    text = tokens[:BATCH]
    arms = {}
    for name, arm in all_arms().items():
        arms[name] = {"sequence_loss": model.evaluate(text, Quantised(model, arm))}
        if arm.activations != "none":
            exact = Quantised(model, arm, exact_sink=0)
            arms[name]["sequence_loss_sink_exact"] = model.evaluate(text, exact)
    reference = {"sequence_loss": model.evaluate(text, Quantised(model)), "arms": arms}
    save_file(
        arrays | {"tokens": ids},
        OUT / "quantize.safetensors",
        metadata={"reference": json.dumps({"config": config.to_json(), "batch": BATCH})},
    )
    (OUT / "quantize.json").write_text(json.dumps(reference, indent=1) + "\n")
    for name, arm in arms.items():
        exact = arm.get("sequence_loss_sink_exact", arm["sequence_loss"])
        damage, sink = (sum(arm["sequence_loss"]) - sum(other) for other in (
            reference["sequence_loss"], exact))
        count = BATCH * LENGTH
        print(f"{name:20} {damage / count:+.5f} nats, sink damage {sink / count:+.5f}")


# ---- a checkpoint ----


def read_gguf(path: str, dtype: torch.dtype) -> tuple[Config, dict[str, torch.Tensor]]:
    import gguf

    reader = gguf.GGUFReader(path)

    def field(name: str):
        return reader.fields["llama." + name].contents()

    heads, kv_heads = field("attention.head_count"), field("attention.head_count_kv")
    parts = {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    whole = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    weights = {}
    for tensor in reader.tensors:
        words = tensor.name.removesuffix(".weight").split(".")
        name = whole.get(words[0]) or f"model.layers.{words[1]}.{parts[words[2]]}"
        array = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        for part, count in (("attn_q", heads), ("attn_k", kv_heads)):
            if words[-1] == part:  # its rows are interleaved for another form of rotary embedding
                n, k = array.shape
                array = array.reshape(count, n // count // 2, 2, k).transpose(1, 2).reshape(n, k)
        weights[name + ".weight"] = array.to(dtype)
    vocabulary, d_model = weights["model.embed_tokens.weight"].shape
    config = Config(
        d_model, field("feed_forward_length"), field("block_count"), heads, kv_heads, vocabulary,
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_theta=field("rope.freq_base"),
        tie_word_embeddings="lm_head.weight" not in weights,
    )
    return config, weights


def perturbed(
    config: Config, weights: dict[str, torch.Tensor], kind: str
) -> dict[str, torch.Tensor]:
    """The same model but for the last bits of what is computed."""
    draw = torch.Generator().manual_seed(1)
    embedding = weights["model.embed_tokens.weight"]
    if kind == "ulp":
        bits = torch.randint(2, embedding.shape, generator=draw)
        return weights | {"model.embed_tokens.weight": embedding * (1 + bits * 2.0**-23).to(embedding)}
    stream = torch.randperm(config.hidden_size, generator=draw)
    hidden = torch.randperm(config.intermediate_size, generator=draw)
    made = {}
    for name, w in weights.items():
        part = name.split(".")[-2]
        if part in ("o_proj", "down_proj"):  # they write the stream; all else reads it
            w = w[stream]
        elif w.dim() == 1:
            w = w[stream]
        else:
            w = w[:, stream]
        if part in ("gate_proj", "up_proj"):
            w = w[hidden]
        elif part == "down_proj":
            w = w[:, hidden]
        made[name] = w.contiguous()
    return made


def show(name: str, a: list[float], b: list[float], targets: list[float]) -> None:
    count = sum(targets)
    worst = max(abs(x - y) / t for x, y, t in zip(a, b, targets, strict=True))
    print(
        f"{name:32} {sum(a) / count:.6f} {sum(b) / count:.6f}  "
        f"difference {(sum(b) - sum(a)) / count:+.1e}  largest of a sequence {worst:.1e}",
        flush=True,
    )


def losses_of(record: dict) -> dict[str, tuple[list[float], list[float]]]:
    """Nats and targets by sequence, of every text and arm."""
    found = {}
    for c, corpus in enumerate(record["corpora"]):
        targets = corpus["sequence_targets"]
        found[f"{c + 1} unquantised"] = corpus["sequence_loss"], targets
        for arm in record["arms"]:
            outcome, name = arm["corpora"][c], f"{c + 1} {arm['name']}"
            found[name] = outcome["sequence_loss"], targets
            if "sequence_loss_sink_exact" in outcome:
                found[name + ", sink exact"] = outcome["sequence_loss_sink_exact"], targets
    return found


def read_record(path: str) -> dict:
    return json.loads(pathlib.Path(path).read_text())


def between(paths: list[str]) -> None:
    a, b = (losses_of(read_record(path)) for path in paths)
    for name in a:
        if name in b:
            show(name, a[name][0], b[name][0], a[name][1])


def compare(options: argparse.Namespace) -> None:
    record = read_record(options.compare)
    wanted = losses_of(record)
    torch.set_num_threads(options.threads)
    config, weights = read_gguf(
        options.model, torch.float64 if options.dtype == "f64" else torch.float32
    )
    if options.perturb:
        weights = perturbed(config, weights, options.perturb)
    sink, batch = record["settings"]["sink_token"], record["tokens"]["batch"]
    model = Model(config, weights, sink, options.scales == "f64")
    first = torch.from_numpy(np.load(options.tokens)).long()
    texts = [first[:batch]]
    if options.tokens2:
        texts.append(torch.from_numpy(np.load(options.tokens2)).long()[:batch])
    model.calibrate(first[batch:], options.batch)
    chosen = options.arms.split(",") if options.arms else [arm["name"] for arm in record["arms"]]
    made = {"settings": record["settings"], "tokens": record["tokens"], "corpora": [],
            "arms": [{"name": name, "corpora": []} for name in chosen]}

    def evaluate(name: str, text: torch.Tensor, linear: Quantised, part: int) -> list[float]:
        got = model.evaluate(text, linear, part)
        show(name, got, *wanted[name])
        return got

    for c, text in enumerate(texts):
        plain = evaluate(f"{c + 1} unquantised", text, Quantised(model), options.batch)
        targets = record["corpora"][c]["sequence_targets"]
        made["corpora"].append({"sequence_loss": plain, "sequence_targets": targets})
        for arm in made["arms"]:
            definition, name = all_arms()[arm["name"]], f"{c + 1} {arm['name']}"
            # One scale a tensor is that of the sequences which Weir had together.
            part = record["settings"]["rows"] if definition.activations == "tensor" else options.batch
            arm["corpora"].append(
                {"sequence_loss": evaluate(name, text, Quantised(model, definition), part)}
            )
            if definition.activations != "none":
                exact = Quantised(model, definition, exact_sink=sink)
                arm["corpora"][-1]["sequence_loss_sink_exact"] = evaluate(
                    name + ", sink exact", text, exact, part
                )
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for option in ("--compare", "--model", "--tokens", "--tokens2", "--arms", "--json"):
        parser.add_argument(option)
    parser.add_argument("--between", nargs=2)
    parser.add_argument("--dtype", choices=("f32", "f64"), default="f32")
    parser.add_argument("--scales", choices=("f32", "f64"), default="f32")
    parser.add_argument("--perturb", choices=("order", "ulp"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.between:
        between(arguments.between)
    elif arguments.compare:
        compare(arguments)
    else:
        write_small()
