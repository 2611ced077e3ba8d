"""From the folders of runs to the small files of docs/results/data, of which RESULTS.md is made.

A collected file holds numbers and where they come from, no path and no time: the same runs give the
same bytes. Lists are by seed where not said otherwise.
"""

import json
import math
import struct
from pathlib import Path

from experiments import EXPERIMENTS, command_lines, named
from paper import newest
from spread import number, rounded, rounded_all

EVENTS = ("sink", "value_drain", "gradient_sink", "norm_growth")
QUANTITIES = ("loss", "sink_score", "sink_score_max", "sink_mass", "gradient_sink_ratio",
              "norm_ratio", "sink_norm", "value_ratio", "mlp_out_norm", "max_activation")
CURVES = ("loss", "sink_score", "value_ratio", "gradient_sink_ratio", "norm_ratio")
TOKENS = 32  # of which gradients by token are kept
OTHERS = slice(1, 16)  # the tokens that the sink is compared with
TOKEN_GROUPS = (slice(0, 1), slice(1, 2), slice(2, 4), slice(4, 8), slice(8, 16))


def read(path):
    return json.loads(Path(path).read_text())


def last_line(path):
    with open(path, "rb") as file:
        lines = file.read().splitlines()
    return json.loads(lines[-1]) if lines else None


def ratio(sink, other):
    sink, other = number(sink), number(other)
    return sink / other if other else float("nan")


def mean_of(values):
    values = [number(v) for v in values]
    return sum(values) / len(values) if values else float("nan")


def layer_numbers(layer, sink=0):
    """What the tables and profiles have of one layer of a record `weir.measure/1`."""
    norm, others, most = layer["norm"], layer["others"], layer["sink_token_max"]
    return {
        "sink_score": mean_of(layer["sink_score"]),
        "sink_score_max": max(number(v) for v in layer["sink_score"]),
        "sink_mass": mean_of(layer["sink_mass"]),
        "sink_rate": layer["sink_rate"],
        "gradient_sink_ratio": layer["gradient_sink_ratio"],
        "norm_in": norm["resid_pre"][sink],
        "norm_in_ratio": ratio(norm["resid_pre"][sink], others["resid_pre"]["mean"]),
        "norm_out": norm["resid_post"][sink],
        "norm_out_max": most["resid_post"],
        "norm_out_others": others["resid_post"]["mean"],
        "norm_out_ratio": ratio(norm["resid_post"][sink], others["resid_post"]["mean"]),
        "mlp_out": norm["mlp_out"][sink],
        "mlp_out_max": most["mlp_out"],
        "attn_out": norm["attn_out"][sink],
        "value": norm["value"][sink],
        "value_others": mean_of(norm["value"][OTHERS]),
        "value_ratio": ratio(norm["value"][sink], mean_of(norm["value"][OTHERS])),
        "max_activation": layer["resid_post_max_abs"],
    }


def profile_of(record):
    """{quantity: [layer]}."""
    layers = [layer_numbers(layer, record["settings"]["sink_token"]) for layer in record["layers"]]
    return {key: rounded_all([layer[key] for layer in layers], 4) for key in layers[0]}


def path_gradients(record):
    """Norms of the gradients of queries, keys and values by token, mean over layers."""
    paths = {}
    for path in ("q", "k", "v"):
        by_layer = [layer["grad_norm"][path][:TOKENS] for layer in record["layers"]]
        paths[path] = [rounded(mean_of(at), 3) for at in zip(*by_layer)]
    return paths


def geometric_mean(values):
    values = [number(v) for v in values]
    if not values or not all(v > 0 for v in values):
        return math.nan
    return math.exp(mean_of(math.log(v) for v in values))


def branch_ratios(record):
    """Bloat, change and compress of both branches and the norm of the branch's input, by layer and
    group of tokens, of which it is the geometric mean."""
    def grouped(values):
        return [rounded(geometric_mean(values[tokens]), 3) for tokens in TOKEN_GROUPS]
    found = {}
    for branch, stream in (("attn", "resid_pre"), ("mlp", "resid_mid")):
        found[branch] = {"norm": [grouped(layer["norm"][stream])
                                  for layer in record["layers"]]}
        for name in ("bloat", "change", "compress"):
            found[branch][name] = [grouped(layer[f"{name}_{branch}"])
                                   for layer in record["layers"]]
    return found


def safetensors(path, ending):
    """Tensors of f32 whose name has this ending: {name: list}."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        found = {}
        for name, entry in sorted(header.items()):
            if not name.endswith(ending) or entry.get("dtype") != "F32":
                continue
            begin, end = entry["data_offsets"]
            file.seek(8 + size + begin)
            found[name] = list(struct.unpack(f"<{(end - begin) // 4}f", file.read(end - begin)))
        return found


def thetas(run):
    """Learned theta of V-scale in the newest checkpoint, [layer][head]; None without it."""
    folder = newest(run)
    if folder is None or not (folder / "model.safetensors").is_file():
        return None
    by_layer = {}
    for name, values in safetensors(folder / "model.safetensors", "v_scale.theta").items():
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        by_layer[numbers[0] if numbers else 0] = rounded_all(values, 4)
    return [by_layer[layer] for layer in sorted(by_layer)] or None


class Versions:
    """Which versions and processors a file's numbers come from."""

    def __init__(self):
        self.versions, self.targets = [], []

    def add(self, provenance):
        versions = provenance.get("versions", {})
        name = " ".join(filter(None, (versions.get("weir"), versions.get("revision"))))
        # "host (AMD EPYC): x86-64-v4+avx512vnni, 32 ...": bits depend on the level.
        target = provenance.get("target", "").split(",")[0].split(": ")[-1]
        for value, values in ((name, self.versions), (target, self.targets)):
            if value and value not in values:
                values.append(value)

    def json(self):
        return {"weir": sorted(self.versions), "targets": sorted(self.targets)}


def plain_base(base):
    """Keys of a sweep, of files their names alone."""
    def plain(value):
        if isinstance(value, str) and "/" in value:
            return Path(value).name
        if isinstance(value, list):
            return [plain(v) for v in value]
        return value
    return {key: plain(value) for key, value in base.items()}


def first_above(replicate, key, bound):
    """The first measured step at which a quantity is above a bound; null if none is."""
    for step, value in zip(replicate["steps"], replicate["values"][key]):
        if number(value) > bound:
            return step
    return None


class Sweep:
    """Everything of one sweep's folder: groups by arm and grid point."""

    def __init__(self, folder, experiment, notes):
        self.folder, self.experiment, self.notes = folder, experiment, notes
        self.plan = read(folder / "sweep.json")
        self.rows = read(folder / "results.json")["rows"]
        self.origin = Versions()
        self.model = None

    def collect(self):
        groups = {}
        for row in self.rows:
            if row["state"] == "done":
                groups.setdefault((row["arm"], json.dumps(row["grid"])), []).append(row)
        compared = self.compared()
        collected = [self.group(rows, compared) for rows in groups.values()]
        done = sum(len(rows) for rows in groups.values())
        failed = sum(row["state"] == "failed" for row in self.rows)
        if done < len(self.plan["entries"]):
            self.notes.append(f"{done} of {len(self.plan['entries'])} runs are done" +
                              (f", {failed} have failed" if failed else ""))
        data = {"experiment": self.experiment.name, "commands": command_lines(self.experiment),
                "provenance": self.origin.json(), "entries": len(self.plan["entries"]),
                "done": done, "base": plain_base(self.plan["base"]), "arms": self.plan["arms"],
                "seeds": self.plan["seeds"], "grid": self.plan["grid"], "model": self.model,
                "onset": compared.get("onset"), "groups": collected}
        return data

    def group(self, rows, compared):
        profiles, theta, quantized = [], [], []
        for row in rows:
            run = self.folder / "runs" / row["run"]
            self.origin.add(read(run / "run.json"))
            record = last_line(run / "run" / "metrics.jsonl")
            profiles.append(profile_of(record) if record else None)
            theta.append(thetas(run))
            quantized.append(quantize_arms(self.folder / "quantized" / f"{row['run']}.json"))
            if record and row is rows[0]:
                first = record
                self.model = self.model or record["model"]
        group = {"arm": rows[0]["arm"], "grid": rows[0]["grid"],
                 "seeds": [row["seed"] for row in rows],
                 "steps": rows[0]["steps"], "tokens": rows[0]["tokens"],
                 "final_loss": [rounded(row["final_loss"]) for row in rows],
                 "validation_loss": [rounded(row["validation_loss"]) for row in rows],
                 "recalled": [rounded(row.get("validation_recalled")) for row in rows],
                 "last": {key: [rounded((row["measured"] or {}).get(key), 4) for row in rows]
                          for key in ("sink_score", "sink_mass", "gradient_sink_ratio",
                                      "value_ratio", "norm_ratio")}}
        if all(value is None for value in group["recalled"]):
            del group["recalled"]
        if all(profiles):
            group["profile"] = {key: [p[key] for p in profiles] for key in profiles[0]}
            if rows[0]["arm"] == "baseline" and not rows[0]["grid"]:
                group["path_gradients"] = path_gradients(first)
                group["branches"] = branch_ratios(first)
        if any(theta):
            group["theta"] = theta
        if any(quantized):
            group["quantize"] = quantized
        group.update(compared.get((group["arm"], json.dumps(group["grid"])), {}))
        return group

    def compared(self):
        """What is taken of the record of `weir compare`: {(arm, grid): {...}}."""
        path = self.folder / "compare.json"
        if not self.experiment.commands:
            return {}
        if not path.is_file():
            self.notes.append(f"{path.name} is missing (weir compare): no onsets, no curves")
            return {}
        if path.stat().st_mtime < (self.folder / "results.json").stat().st_mtime:
            self.notes.append(f"{path.name} is older than results.json; make it again")
        record = read(path)
        found = {"onset": record["settings"]["onset"]}
        for point in record["points"]:
            for arm in point["arms"]:
                key = (arm["arm"], json.dumps(point["grid"]))
                found[key] = self.compared_arm(arm)
        for one in record["left_out"]:
            if "finished" not in one["why"] and "begun" not in one["why"]:
                self.notes.append(f"left out of the comparison: {one['arm']}, {one['why']}")
        return found

    def compared_arm(self, arm):
        onsets = {event: [one["step"] if one["state"] == "reached" else one["state"]
                          for one in arm["onsets"][event]["seeds"]] for event in EVENTS}
        result = {"compared_seeds": arm["seeds"], "onsets": onsets, "first": arm["first"],
                  "half": [first_above(one, "sink_score", 0.5) for one in arm["replicates"]]}
        difference = arm["difference"]
        if difference and "onsets" in difference:
            result["changes"] = {
                event: {key: value for key, value in difference["onsets"][event].items()
                        if isinstance(value, int) and value} for event in EVENTS}
            result["differences"] = {
                key: {end: rounded(value[end], 4) for end in ("median", "low", "high")}
                for key, value in difference["equal_tokens"].items() if key in QUANTITIES}
            result["enough_seeds"] = difference["enough_seeds"]
        wanted = self.experiment.arms_with_curves
        if not wanted or arm["arm"] in wanted:
            per_step = arm["curve"]["tokens"][-1] / max(arm["replicates"][0]["steps"][-1], 1)
            curve = arm["curve"]
            result["curve"] = {"steps": [round(t / per_step) for t in curve["tokens"]]}
            for key in CURVES:
                result["curve"][key] = {end: rounded_all(curve[key][end], 4) for end in
                                        ("median", "low_quartile", "high_quartile")}
        return result


def plain_name(corpus):
    """The name of a text without its folder and kind."""
    return Path(corpus).name.split(".")[0]


def quantize_arms(path):
    """Of a record `weir.quantize/1` what tables need; None without one."""
    if not Path(path).is_file():
        return None
    record = read(path)
    corpora = [{key: rounded(value) if isinstance(value, float) else plain_name(value)
                for key, value in corpus.items()
                if key in ("name", "loss", "perplexity", "recalled")}
               for corpus in record["corpora"]]
    arms = []
    for arm in record["arms"]:
        found = []
        for corpus in arm["corpora"]:
            one = {}
            for key in ("loss", "perplexity", "ratio", "recalled", "recalled_sink_exact"):
                if key in corpus:
                    one[key] = rounded(corpus[key])
            for key in ("difference", "loss_difference", "sink_damage"):
                if key in corpus:
                    one[key] = {end: rounded(value, 4) for end, value in corpus[key].items()}
            one["destroyed"] = corpus["destroyed"]
            found.append(one)
        arms.append({"name": arm["name"], "corpora": found,
                     "annihilated": len(arm["annihilated"])})
    return {"corpora": corpora, "arms": arms}


def quantize_data(record, path):
    data = quantize_arms(path)
    settings = record["settings"]
    data["settings"] = {key: settings[key] for key in ("sink_token", "draws", "draw_tokens",
                                                       "confidence", "attention", "v_scale")}
    data["sequences"] = {key: record["tokens"][key] for key in ("batch", "length")}
    data["dispersion"] = [{"layer": site["layer"], "part": site["part"],
                           "mlp_down": site["mlp_down"],
                           "dispersion": rounded_all(site["dispersion"], 4)}
                          for site in record["sites"]]
    data["ranking"] = record["ranking"]
    return data


def measure_data(record):
    return {"loss": rounded(record["loss"]), "profile": profile_of(record),
            "summary": {key: rounded_all(value, 4) for key, value in record["summary"].items()},
            "path_gradients": path_gradients(record), "branches": branch_ratios(record),
            "massive": sum(len(layer["massive_activations"]) for layer in record["layers"])}


def check_data(record):
    """By identity: places compared, failures, the largest error or the tightness."""
    identities = []
    for identity in record["identities"]:
        one = {key: identity[key] for key in ("id", "number", "kind", "name", "left", "right")}
        places = failures = 0
        errors, largest, medians = [], [], []
        for site in record["sites"]:
            found = site["identities"].get(identity["id"])
            if not found or "not_applicable" in found:
                continue
            places += found["places"]
            failures += found["failures"]
            errors += found.get("error", [])
            largest += found.get("largest", [])
            medians += found.get("median", [])
        one.update(places=places, failures=failures, error=rounded(max(map(number, errors)), 3)
                   if errors else None, largest=rounded(max(map(number, largest)), 4)
                   if largest else None, medians=rounded_all(sorted(medians), 3)
                   if len(medians) < 4 else [rounded(quart, 3) for quart in quartiles(medians)])
        if places:
            identities.append(one)
    inside = heads = 0
    for site in record["sites"]:
        noise = site.get("mean_and_noise")
        if noise:
            for low, energy, high in zip(noise["lower"], noise["energy"], noise["upper"]):
                heads += 1
                inside += number(low) <= number(energy) <= number(high)
    return {"identities": identities, "tolerance": record["settings"]["tolerance"],
            "failures": len(record["failures"]), "mean_noise": {"inside": inside, "heads": heads}}


def quartiles(values):
    from spread import quantile
    return [quantile(values, share) for share in (0.25, 0.5, 0.75)]


def dial_data(record):
    """Fitted exponents by layer."""
    layers = []
    for layer in record["layers"]:
        one = {"layer": layer["layer"]}
        for kind in ("frozen", "recomputed"):
            if kind not in layer or "fit" not in layer[kind]:
                continue
            fit = layer[kind]["fit"]
            one[kind] = {key: rounded(fit[key], 5) for key in ("exponent", "low", "high",
                                                               "r_squared", "points")}
            heads = [rounded(f["exponent"], 4) for f in layer[kind].get("head_fits", [])]
            if heads:
                one[kind]["heads"] = heads
        layers.append(one)
    checks = [{"name": c["name"], "holds": c["holds"], "worst": rounded(c["worst"], 3),
               "limit": c["limit"]} for c in record.get("checks", [])]
    return {"settings": {key: record["settings"].get(key) for key in ("dial", "form", "branch")},
            "layers": layers, "checks": checks}


RECORDS = {"measure": measure_data, "check": check_data, "mass": dial_data, "norm": dial_data}


def collect_records(folder, experiment, notes):
    """The records of an experiment without a sweep; None if there is none."""
    origin, found = Versions(), {}
    for name in ("measure", "check", "mass", "norm", "quantize"):
        if not any(f"/{name}.json" in line for line in experiment.commands):
            continue
        path = folder / f"{name}.json"
        if not path.is_file():
            notes.append(f"{name}.json is missing")
            continue
        record = read(path)
        origin.add(record["provenance"])
        found[name] = (quantize_data(record, path) if name == "quantize"
                       else RECORDS[name](record))
        found[name]["tokens"] = {key: record["tokens"][key] for key in ("batch", "length")}
        model = record["model"]
    if not found:
        return None
    return {"experiment": experiment.name, "commands": command_lines(experiment),
            "provenance": origin.json(), "model": model, **found}


def write(path, data):
    """One line a member, of lists of objects one a line: small, and good to compare."""
    lines = []
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n  ".join(json.dumps(v, separators=(",", ":")) for v in value)
            lines.append(f"{json.dumps(key)}:[\n  {rows}]")
        else:
            lines.append(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}")
    path.write_text("{" + ",\n".join(lines) + "}\n")


def collect_bench(path, folder):
    """The figures of `make bench`, as it wrote them."""
    if not path.is_file():
        return f"no {path}: `make bench` writes it"
    summary = read(path)
    write(folder / "bench.json", {"experiment": "bench", "summary": {
        key: rounded(value, 4) for key, value in summary.items()
        if isinstance(value, (int, float))}})
    return "collected"


def collect(options):
    folder = Path(options.data)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [named(name) for name in options.names] or EXPERIMENTS
    for experiment in chosen:
        source, notes = Path(options.runs) / experiment.name, []
        target = folder / f"{experiment.name}.json"
        kept = "committed data are kept" if target.is_file() else "not run yet"
        try:
            if experiment.sweep:
                there = (source / "results.json").is_file()
                data = Sweep(source, experiment, notes).collect() if there else None
                if data and not data["done"]:
                    data = None
            else:
                data = collect_records(source, experiment, notes)
        except (KeyError, ValueError, OSError, IndexError) as error:
            print(f"{experiment.name}: cannot be read, {kept} ({type(error).__name__}: {error})")
            continue
        if data is None:
            print(f"{experiment.name}: nothing in {source}, {kept}")
            continue
        write(target, data)
        said = "; ".join(notes) or "everything is there"
        print(f"{experiment.name}: collected, {target.stat().st_size / 1024:.0f} KiB; {said}")
    if not options.names:
        print(f"bench: {collect_bench(Path(options.bench), folder)}")
    return 0
