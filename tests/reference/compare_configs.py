#!/usr/bin/env python3
"""`weir measure` against `transformers` on random variations of configurations.

    compare_configs.py --weir build/weir [--count 200] [--seed 0] [--only llama,...] [--keep DIR]

For each supported model type: a tiny random model is written by save_pretrained; then keys of its
config.json are left out, doubled in older and other spellings, set to null, given in another order, or
changed (heads, sizes of heads, windows, layer types, biases, rotary scaling, activations, epsilons, ties),
and the library loads the folder again and computes the loss in f64 (norms and rotary tables, too). Weir
measures the same folder. The outcomes, of which the last three are reported one by one and make the exit
status 1:

    equal      both load it, losses within 1e-5 relative
    refused    Weir refuses with a message
    both       both refuse
    library    the library refuses, Weir computes (listed with the library's reason)
    DIFFERENT  both compute, and disagree
    BARE       Weir fails without a message of its own
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import math
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from transformers_reference import randomise
from transformers_trace import patch_to_f64

CLASSES = {
    "llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config, "gemma2": Gemma2Config,
    "gpt2": GPT2Config,
}
LENGTH = 20


def rope(rng: random.Random, *others: str) -> dict | None:
    kind = rng.choice(["none", "default", "linear", "llama3", "yarn", "yarn", *others])
    if kind == "none":
        return None
    scaling = {"rope_type": kind, "rope_theta": rng.choice([50.0, 1e4, 5e5])}
    if kind in ("linear", "dynamic", "yarn", "llama3"):
        scaling["factor"] = rng.choice([1.0, 1.5, 2, 4.0, 8.0])
    if kind in ("llama3", "yarn"):
        scaling["original_max_position_embeddings"] = rng.choice([8, 16, 32, 64])
    if kind == "llama3":
        scaling |= {"low_freq_factor": 1.0, "high_freq_factor": rng.choice([2.0, 4.0])}
    if kind == "longrope":
        scaling |= {"short_factor": [1.0] * 2, "long_factor": [2.0] * 2}
    if kind == "yarn":
        for key, values in {
            "beta_fast": [32, 4.0, None, 2], "beta_slow": [1, 0.5, None], "attention_factor": [1.25, 0.8, None],
            "mscale": [1.0, 0.7, 0], "mscale_all_dim": [1.0, 0.5], "truncate": [True, False],
        }.items():
            if rng.random() < 0.35:
                scaling[key] = rng.choice(values)
    return scaling


def sizes(kind: str, rng: random.Random) -> dict:
    """What the model is built with; the rest of a variation changes how the file says it."""
    heads = rng.choice([1, 2, 4])
    if kind == "gpt2":
        return {
            "vocab_size": 29, "n_embd": 4 * heads, "n_layer": rng.choice([1, 2]), "n_head": heads,
            "n_positions": rng.choice([20, 32]), "n_inner": rng.choice([None, 12, 19]),
            "layer_norm_epsilon": rng.choice([1e-5, 1e-6, 1e-3]), "tie_word_embeddings": rng.random() < 0.7,
        }
    size = {
        "vocab_size": 29, "hidden_size": 8 * heads, "intermediate_size": 20, "num_hidden_layers": rng.choice([1, 2]),
        "num_attention_heads": heads, "num_key_value_heads": rng.choice([h for h in (1, 2, 4) if heads % h == 0]),
        "max_position_embeddings": rng.choice([16, 32, 64]), "rms_norm_eps": rng.choice([1e-6, 1e-5, 1e-3]),
        "tie_word_embeddings": rng.random() < 0.4, "head_dim": rng.choice([4, 6, 8]),
    }
    if kind in ("llama", "qwen3", "gemma2"):
        size["attention_bias"] = rng.random() < 0.4
    if kind == "llama":
        size["mlp_bias"] = rng.random() < 0.4
    if kind == "gemma2":
        size |= {
            "sliding_window": rng.choice([None, 8, 20, 64]), "query_pre_attn_scalar": rng.choice([4, 6, 9]),
            "attn_logit_softcapping": rng.choice([None, 0.5, 3.0]),
            "final_logit_softcapping": rng.choice([None, 1.0, 5.0]),
        }
    if kind == "mistral":
        size["sliding_window"] = rng.choice([None, 8, 20, 64, 4096])
    if kind.startswith("qwen"):
        size |= {
            "use_sliding_window": rng.random() < 0.3, "sliding_window": rng.choice([8, 20, 64]),
            "max_window_layers": rng.choice([0, 1, 2, 28]),
        }
    if kind == "qwen2":
        del size["head_dim"]
    if scaling := rope(rng):
        size["rope_parameters"] = scaling
    return size


HARMLESS = {
    "use_mrope": [False], "_num_labels": [1, 2], "auto_map": [{"AutoModel": "m.M"}], "pretraining_tp": [1, 2],
    "unsloth_version": ["2025"], "rope_interleaved": [False], "_name_or_path": ["x"], "torch_dtype": ["bfloat16"],
    "use_cache": [False], "attention_dropout": [0.1], "task_specific_params": [{}], "is_decoder": [True],
    "temperature": [0.5], "transformers.js_config": [{}], "num_labels": [3], "eos_token_id": [1, [1, 2], None],
    "some_unknown_key": [3, None],
}
OWN = {
    "llama": ["rms_norm_eps", "max_position_embeddings", "num_key_value_heads", "head_dim", "tie_word_embeddings",
              "rope_parameters", "attention_bias", "mlp_bias", "hidden_act", "initializer_range"],
    "mistral": ["rms_norm_eps", "max_position_embeddings", "num_key_value_heads", "head_dim", "sliding_window",
                "tie_word_embeddings", "rope_parameters", "hidden_act"],
    "qwen2": ["rms_norm_eps", "max_position_embeddings", "num_key_value_heads", "use_sliding_window", "sliding_window",
              "max_window_layers", "layer_types", "tie_word_embeddings", "rope_parameters", "hidden_act"],
    "gpt2": ["n_positions", "n_inner", "layer_norm_epsilon", "activation_function", "tie_word_embeddings", "n_head",
             "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"],
}
OWN["gemma2"] = OWN["mistral"] + ["layer_types", "attention_bias", "query_pre_attn_scalar", "attn_logit_softcapping",
                                  "final_logit_softcapping", "hidden_activation", "use_bidirectional_attention"]
OWN["qwen3"] = OWN["qwen2"] + ["head_dim", "attention_bias"]
VALUES = {
    "query_pre_attn_scalar": [1, 5, 256], "attn_logit_softcapping": [2.0, 50.0], "final_logit_softcapping": [2.0, 30.0],
    "hidden_activation": ["gelu_pytorch_tanh", "gelu", "silu"], "use_bidirectional_attention": [True, False],
    "rms_norm_eps": [1e-4, 0.01], "layer_norm_epsilon": [1e-4, 0.01], "hidden_act": ["silu", "swish", "gelu", "relu"],
    "activation_function": ["gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu", "relu"], "attention_bias": [True, False],
    "mlp_bias": [True, False], "tie_word_embeddings": [True, False], "sliding_window": [None, 7, 20, 4096],
    "use_sliding_window": [True, False], "max_window_layers": [0, 1, 5], "num_key_value_heads": [1, 2, 4],
    "head_dim": [2, 4, 8], "n_head": [1, 2, 4], "n_inner": [None], "scale_attn_weights": [True, False],
    "scale_attn_by_inverse_layer_idx": [True, False], "reorder_and_upcast_attn": [True, False],
    "max_position_embeddings": [8, 16, 64], "n_positions": [20, 32], "initializer_range": [0.5],
}


def change(kind: str, config: dict, rng: random.Random) -> list[str]:
    """Changes the file's keys; returns what was done."""
    done = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        action = rng.choice(["absent", "null", "value", "value", "harmless", "rope", "rope", "alias", "layers", "order"])
        key = rng.choice(OWN[kind])
        if action == "absent" and key in config:
            del config[key]
        elif action == "null":
            config[key] = None
        elif action == "value" and key in VALUES:
            config[key] = rng.choice(VALUES[key])
        elif action == "harmless":
            key = rng.choice(list(HARMLESS))
            config[key] = rng.choice(HARMLESS[key])
        elif action == "rope" and kind != "gpt2":
            key = rng.choice(["rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings",
                              "partial_rotary_factor", "older"])
            if key == "older":  # as versions before 5 write it
                scaling = config.pop("rope_parameters", None) or {}
                config["rope_theta"] = scaling.pop("rope_theta", 1e4)
                if "rope_type" in scaling:
                    scaling["type"] = scaling.pop("rope_type")
                config["rope_scaling"] = scaling or None
            elif key.endswith("theta"):
                config[key] = rng.choice([50.0, 1e4, None])
            elif key.endswith("embeddings"):
                config[key] = rng.choice([8, 32])
            elif key.endswith("factor"):
                config[key] = rng.choice([1.0, 0.5, None])
            else:
                scaling = rope(rng, "dynamic", "longrope")
                if scaling and rng.random() < 0.4:
                    scaling.pop("rope_theta")
                if scaling and rng.random() < 0.2:
                    scaling["type"] = rng.choice(["linear", "default"])
                if scaling and rng.random() < 0.2:
                    scaling.pop("factor", None)
                config[key] = scaling
        elif action == "alias" and kind == "gpt2":
            key, alias = rng.choice([("n_embd", "hidden_size"), ("n_head", "num_attention_heads"),
                                     ("n_layer", "num_hidden_layers"), ("n_positions", "max_position_embeddings")])
            config[alias] = config[key]
            if rng.random() < 0.5:
                del config[key]
            elif key == "n_head" and rng.random() < 0.5:
                config[key] = rng.choice([1, 2])
        elif action == "layers" and kind != "gpt2":
            key = "layer_types"
            config[key] = [rng.choice(["full_attention", "sliding_attention"]) for _ in range(rng.choice([1, 2]) if rng.random() < 0.2 else config["num_hidden_layers"])]
        elif action == "order":
            items = list(config.items())
            rng.shuffle(items)
            config.clear()
            config.update(items)
        else:
            continue
        done.append(f"{action} {key}={json.dumps(config.get(key, '-'))}")
    return done


def library_loss(folder: pathlib.Path, tokens: torch.Tensor) -> float:
    config = AutoConfig.from_pretrained(folder)
    # The other attention passes soft caps over.
    attention = "eager" if config.model_type == "gemma2" else "sdpa"
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float64, output_loading_info=True, attn_implementation=attention
    )
    if missing := report["missing_keys"]:  # which the library fills with random numbers
        raise ValueError(f"missing {sorted(missing)[:3]}")
    if unexpected := report["unexpected_keys"]:
        raise ValueError(f"unexpected {sorted(unexpected)[:3]}")
    model.eval()
    patch_to_f64(model)
    with torch.no_grad():
        logits = model(tokens[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()


def weir_loss(weir: pathlib.Path, folder: pathlib.Path, scratch: pathlib.Path) -> tuple[float | None, str]:
    record = scratch / "record.json"
    record.unlink(missing_ok=True)
    command = [weir, "measure", "--model", folder, "--tokens", scratch / "tokens.npy", "--interpret",
               "--no-report", "--json", record]
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    if run.returncode == 0:
        return json.loads(record.read_text())["loss"], run.stderr
    return None, run.stderr


def compare(kind: str, index: int, options, scratch: pathlib.Path) -> tuple[str, str]:
    rng = random.Random(f"{options.seed} {kind} {index}")
    folder = scratch / f"{kind}{index}"
    model = AutoModelForCausalLM.from_config(CLASSES[kind](bos_token_id=None, eos_token_id=None, **sizes(kind, rng)))
    randomise(model, np.random.default_rng(index))
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    done = change(kind, config, rng)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    tokens = np.random.default_rng(index).integers(0, 29, (2, LENGTH + 1)).astype(np.int32)
    np.save(scratch / "tokens.npy", tokens)
    reason, expected = "", None
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            expected = library_loss(folder, torch.from_numpy(tokens.astype(np.int64)))
    except Exception as error:  # whatever the library raises is its refusal
        reason = f"{type(error).__name__}: {str(error).splitlines()[-1] if str(error) else ''}"
    got, message = weir_loss(options.weir, folder, scratch)
    what = f"{kind} {index}: {'; '.join(done) or 'as saved'}"
    if not options.keep:
        shutil.rmtree(folder)
    if got is None and not re.search(r"\[[a-z.]+\] ", message):
        return "BARE", f"{what}\n    {message.strip()[-300:]}"
    if got is None:
        lines = [line for line in message.splitlines() if "warning" not in line]
        return ("both" if expected is None else "refused"), f"{what}\n    {' '.join(lines)[:400]}"
    if expected is None:
        return "library", f"{what}\n    {reason[:200]}"
    if not math.isclose(float(got), expected, rel_tol=1e-5):
        return "DIFFERENT", f"{what}\n    transformers {expected:.8f}, weir {float(got):.8f}"
    return "equal", what


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weir", required=True, type=pathlib.Path)
    parser.add_argument("--count", type=int, default=200, help="variations of each model type")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(CLASSES))
    parser.add_argument("--keep", type=pathlib.Path, help="leave the folders here")
    parser.add_argument("--all", action="store_true", help="list what both refuse, too")
    parser.add_argument("--first", type=int, default=0, help="number of the first variation")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["WEIR_THREADS"] = "1"
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"transformers {transformers.__version__}")
    bad = False
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.keep or pathlib.Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        for kind in options.only.split(","):
            outcomes = collections.defaultdict(list)
            for index in range(options.first, options.first + options.count):
                outcome, text = compare(kind, index, options, scratch)
                outcomes[outcome].append(text)
            print(f"{kind}: " + ", ".join(f"{len(texts)} {name}" for name, texts in sorted(outcomes.items())))
            for name in ("DIFFERENT", "BARE", "library", "refused") + (("both",) if options.all else ()):
                for text in outcomes[name]:
                    print(f"  {name}  {text}")
            sys.stdout.flush()
            bad = bad or any(outcomes[name] for name in ("DIFFERENT", "BARE", "library"))
    sys.exit(bad)


if __name__ == "__main__":
    main()
