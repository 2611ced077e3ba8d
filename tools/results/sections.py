"""What the sections of RESULTS.md show, computed from collected data: rows of tables, numbers in
sentences, verdicts, figures. The words are in RESULTS.md.jinja."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

from agreement import (above, all_at_one_layer, below, by, condition, largest, never, over_layers,
                       paired, step_of, verdict)
from spread import finite, fixed, median, number, signed, span, text

EVENT_NAMES = {"sink": "attention sink", "value_drain": "value drain",
               "gradient_sink": "gradient sink", "norm_growth": "norm growth"}
V_SCALE = ("v-scale-full", "v-scale-learned", "v-scale-backward")
NORMALISERS = ("softmax-1", "softpick", "relu", "sigmoid", "sink-logit", "kv-bias")


class Groups:
    """The groups of a sweep by arm."""

    def __init__(self, data):
        self.data = data
        self.all = [group for group in data["groups"] if "profile" in group]
        self.named = {group["arm"]: group for group in reversed(self.all)}

    def __contains__(self, arm):
        return arm in self.named

    def __getitem__(self, arm):
        return self.named[arm]

    def have(self, arms):
        return [arm for arm in arms if arm in self.named]

    @property
    def onsets(self):
        return any("onsets" in group for group in self.all)


def losses(group):
    """Validation loss where there is one, else the mean of the last steps."""
    validation = group["validation_loss"]
    return validation if len(finite(validation)) == len(validation) else group["final_loss"]


def state_of(data):
    """What a reader has to know of how much has been run."""
    if data["done"] < data["entries"]:
        return (f"So far {data['done']} of {data['entries']} runs are done; the table has those "
                "that are.")
    return ""


def profile_largest(group, key):
    return largest(group["profile"][key])


# The condition on V-scale, the same in all settings.

def v_scale_verdict(groups, arm="v-scale-full"):
    if arm not in groups or "baseline" not in groups:
        return verdict()
    own, base = groups[arm], groups["baseline"]
    def pairs(values):
        return paired(own, base, values(own), values(base))
    return verdict(
        condition("the sink stays: the sink score of the head that has most is above 0.3",
                  above(profile_largest(own, "sink_score_max"), 0.3)),
        condition("the gradient-sink ratio (median over layers) is lower than the baseline's",
                  [number(a) < number(b) for a, b in
                   pairs(lambda g: over_layers(g["profile"]["gradient_sink_ratio"]))]),
        condition("so is the norm of token 0 over that of others (largest over layers)",
                  [a < b for a, b in pairs(lambda g: profile_largest(g, "norm_out_ratio"))]),
        condition("and that of the MLP's output at token 0 (largest over layers)",
                  [a < b for a, b in pairs(lambda g: profile_largest(g, "mlp_out"))]),
        condition("the loss is at most 0.02 nats higher",
                  [number(a) <= number(b) + 0.02 for a, b in pairs(losses)]))


def v_scale_text(groups, arm="v-scale-full"):
    """The numbers of that verdict, of the baseline and of an arm."""
    if arm not in groups or "baseline" not in groups:
        return "No runs of this arm."
    def both(read, write=text):
        return " and ".join(write(median(read(groups[a]))) for a in ("baseline", arm))
    def top(key):
        return lambda group: profile_largest(group, key)
    def ratio(group):
        return over_layers(group["profile"]["gradient_sink_ratio"])
    return (f"Baseline and `{arm}`, medians over seeds: sink score of the largest head "
            f"{both(top('sink_score_max'))}; R_GS {both(ratio)}; norm ratio "
            f"{both(top('norm_out_ratio'))}; MLP output {both(top('mlp_out'))}; loss "
            f"{both(losses, fixed)}.")


# Bigram-Backcopy.

def between(values, write=text):
    values = finite(values)
    return f"{write(min(values))} to {write(max(values))}" if values else "-"


def str_of(step):
    return f"{step:g}"


def backcopy_rows(groups, arms):
    rows = []
    for arm in groups.have(arms):
        group = groups[arm]
        rows.append([f"`{arm}`", str(len(group["seeds"])), fixed(median(losses(group))),
                     span(group["last"]["sink_score"]), span(group["last"]["sink_mass"]),
                     span(over_layers(group["profile"]["gradient_sink_ratio"])),
                     span(group["last"]["value_ratio"]),
                     span(profile_largest(group, "norm_in_ratio")),
                     span(profile_largest(group, "norm_out_ratio"))])
    return rows


def first_rows(groups):
    """Of each arm, how many seeds have an onset first, alone or with others."""
    rows = []
    for group in groups.all:
        if "first" not in group:
            continue
        first = group["first"]
        cells = []
        for event in EVENT_NAMES:
            alone, together = first[event]["alone"], first[event]["together"]
            cells.append(f"{alone}" + (f" + {together}" if together else ""))
        rows.append([f"`{group['arm']}`", *cells, str(first["none"])])
    return rows


def change_rows(groups, arms):
    rows = []
    for arm in groups.have(arms):
        changes = groups[arm].get("changes")
        if changes:
            cells = [", ".join(f"{name} {count}" for name, count in changes[event].items()) or "-"
                     for event in EVENT_NAMES]
            rows.append([f"`{arm}`", *cells])
    return rows


def order_verdict(group):
    onsets = {event: [step_of(o) for o in group["onsets"][event]] for event in EVENT_NAMES}
    def not_later(first, then):
        return [a <= b and math.isfinite(a) for a, b in zip(onsets[first], onsets[then])]
    return verdict(
        condition("the attention sink is there not later than the value drain",
                  not_later("sink", "value_drain")),
        condition("the attention sink not later than the gradient sink",
                  not_later("sink", "gradient_sink")),
        condition("the gradient sink not later than the growth of the norm",
                  not_later("gradient_sink", "norm_growth")))


def order_text(group):
    """The events in the order of their median steps; those that most seeds never have are last."""
    def middle(event):
        return median(math.inf if isinstance(o, str) else o for o in group["onsets"][event])
    steps = {event: middle(event) for event in EVENT_NAMES}
    come = sorted((e for e in steps if math.isfinite(steps[e])), key=steps.get)
    absent = [e for e in steps if not math.isfinite(steps[e])]
    text_of = ", then ".join(f"{EVENT_NAMES[e]} ({steps[e]:g})" for e in come) or "none"
    return text_of + "".join(f"; {EVENT_NAMES[e]} not in most seeds" for e in absent)


def acceptance_a(group):
    return verdict(
        condition("the sink score is above 0.5 before step 400",
                  [step is not None and step < 400 for step in group.get("half", ())]),
        condition("and above 0.6 at the end", above(group["last"]["sink_score"], 0.6)))


def acceptance_c(groups):
    own, base = groups["relu"], groups["baseline"]
    return verdict(
        condition("with ReLU the sink score at the end is below 0.15, twice that of uniform "
                  "attention", below(own["last"]["sink_score"], 0.15)),
        condition("and the loss is within 0.01 nats of softmax's",
                  [abs(number(a) - number(b)) < 0.01
                   for a, b in paired(own, base, losses(own), losses(base))]))


def normaliser_verdict(groups):
    conditions = []
    for arm in groups.have(NORMALISERS):
        own, base = groups[arm], groups["baseline"]
        numbers = list(zip(losses(own), own["last"]["sink_score"]))
        conditions.append(condition(
            f"`{arm}`: loss within 0.01 nats of softmax's, sink score below 0.15",
            [abs(number(loss) - number(other)) < 0.01 and number(score) < 0.15
             for (loss, score), other in paired(own, base, numbers, losses(base))]))
    return verdict(*conditions)


def control_verdict(groups):
    conditions = []
    if "no-begin" in groups:
        conditions.append(condition("without a begin token the sink score is below 0.15",
                                    below(groups["no-begin"]["last"]["sink_score"], 0.15)))
    if "norm-jacobian" in groups:
        own, base = groups["norm-jacobian"], groups["baseline"]
        conditions.append(condition(
            "where the norm does not divide gradients by rms, the norm of token 0 that enters "
            "the block (over that of others) is smaller than the baseline's",
            [a < b for a, b in paired(own, base, profile_largest(own, "norm_in_ratio"),
                                      profile_largest(base, "norm_in_ratio"))]))
    if "value-gate" in groups:
        conditions.append(condition(
            "with a gate on values the value of token 0 is not drained (ratio above 0.5)",
            above(groups["value-gate"]["last"]["value_ratio"], 0.5)))
    return verdict(*conditions)


def backcopy(data, draw):
    groups = Groups(data)
    base = groups["baseline"] if "baseline" in groups else None
    if base is None:
        return None
    others = [arm for arm in (group["arm"] for group in groups.all)
              if arm not in ("baseline",) + V_SCALE + NORMALISERS +
              ("gate-head", "gate-element", "qk-norm")]
    found = SimpleNamespace(
        data=data, state=state_of(data), base=base, seeds=len(base["seeds"]),
        v_scale_rows=backcopy_rows(groups, ("baseline",) + V_SCALE),
        normaliser_rows=backcopy_rows(groups, ("baseline",) + NORMALISERS +
                                      ("gate-head", "gate-element", "qk-norm")),
        other_rows=backcopy_rows(groups, ["baseline"] + others),
        loss_range=between([median(losses(groups[a])) for a in groups.have(
            ("baseline",) + NORMALISERS)], fixed),
        v_scale=v_scale_verdict(groups), v_scale_text=v_scale_text(groups),
        control=control_verdict(groups),
        normalisers=normaliser_verdict(groups),
        relu=acceptance_c(groups) if "relu" in groups else verdict(), sink=acceptance_a(base),
        onsets=groups.onsets)
    found.base_sink = span(base["last"]["sink_score"])
    half = [step for step in base.get("half", ()) if step is not None]
    found.half = f"from step {span(half, str_of)}" if half else "at no measured step"
    found.relu_sink = span(groups["relu"]["last"]["sink_score"]) if "relu" in groups else "-"
    found.mass = {arm: span(groups[arm]["last"]["sink_mass"]) for arm in groups.have(NORMALISERS)}
    if groups.onsets:
        shown = [groups[arm] for arm in groups.have(("baseline",) + V_SCALE + ("relu", "sgd"))
                 if "curve" in groups[arm]]
        draw("backcopy-timeline", lambda f: f.timeline(shown, data["onset"]))
        draw("backcopy-onsets", lambda f: f.onsets(groups.all, base["steps"]))
        found.first_rows = first_rows(groups)
        found.change_rows = change_rows(groups, V_SCALE)
        found.order = order_verdict(base) if "onsets" in base else verdict()
        found.onset_steps = {event: onset_text(base["onsets"][event]) for event in EVENT_NAMES}
        found.order_text = order_text(base)
    return found


def onset_text(onsets):
    steps = [o for o in onsets if not isinstance(o, str)]
    rest = [f"{word} in {onsets.count(state)}" for state, word in
            (("never", "never"), ("uncertain", "not certain")) if state in onsets]
    return ", ".join([f"step {span(steps, str_of)}"] * bool(steps) + rest)


# Dose and response.

DOSE_ROWS = (("norm_in_ratio", "norm of token 0, entering", False),
             ("norm_out_ratio", "norm of token 0, leaving", False),
             ("value_ratio", "value of token 0", True), ("sink_score", "sink score", False),
             ("gradient_sink_ratio", "gradient-sink ratio", True))


def dose(data, draw):
    key = "sink_gradient.gain"
    points = sorted(((group["grid"].get(key, 1), group) for group in Groups(data).all),
                    key=lambda point: point[0])
    values = [(gain, {name: largest(group["profile"][name]) for name, _, _ in DOSE_ROWS} |
               {"loss": losses(group), "seeds": group["seeds"]}) for gain, group in points]
    draw("dose", lambda f: f.dose(values, DOSE_ROWS))
    by_gain = dict(values)
    def compare(name, low, high):
        if low not in by_gain or high not in by_gain:
            return []
        return [number(b) > number(a) for b, a in paired(by_gain[high], by_gain[low],
                                                         by_gain[high][name], by_gain[low][name])]
    by_seed = {}
    for one in by_gain.values():
        for seed, loss in zip(one["seeds"], one["loss"]):
            by_seed.setdefault(seed, []).append(number(loss))
    worst = max((max(v) - min(v) for v in by_seed.values()), default=math.nan)
    none = by_gain.get(0, {"sink_score": [], "gradient_sink_ratio": []})
    rows = [[f"{gain:g}", *(span(v[name]) for name, _, _ in DOSE_ROWS)] for gain, v in values]
    return SimpleNamespace(
        data=data, state=state_of(data), rows=rows, seeds=len(points[0][1]["seeds"]),
        loss_spread=text(worst, 2), by_gain=by_gain,
        entering={gain: text(median(v["norm_in_ratio"])) for gain, v in values},
        verdict=verdict(
            condition("the norm that enters the block (token 0 over others) is larger at kappa 1 "
                      "than at 0", compare("norm_in_ratio", 0, 1)),
            condition("and larger at 4 than at 1", compare("norm_in_ratio", 1, 4)),
            condition("the gradient-sink ratio at kappa 0 is below 5",
                      below(none["gradient_sink_ratio"], 5)),
            condition("the sink at kappa 0 is there all the same: score above 0.5",
                      above(none["sink_score"], 0.5))))


# Deeper models: the table of the paper, and profiles by layer.

def layer_table(groups):
    """loss; sink score mean (max); norm of token 0 mean (max); ratio; MLP output; R_GS: medians
    over seeds of means (maxima) over layers."""
    rows = []
    for group in groups.all:
        profile = group["profile"]
        def both(key, most=None):
            mean = median(over_layers(profile[key], lambda v: sum(map(number, v)) / len(v)))
            top = median(largest(profile[most or key]))
            return f"{text(mean)} ({text(top)})"
        rows.append([f"`{group['arm']}`", str(len(group["seeds"])), fixed(median(losses(group))),
                     both("sink_score", "sink_score_max"), both("norm_out", "norm_out_max"),
                     both("norm_out_ratio"), both("mlp_out", "mlp_out_max"),
                     span(over_layers(profile["gradient_sink_ratio"]))])
    return rows


def setting_verdict(base):
    return verdict(condition(
        "in some layer of the baseline a head has a sink score above 0.3, R_GS is above 5 and the "
        "norm of token 0 above 5 times that of the others",
        all_at_one_layer(base["profile"], {"sink_score_max": lambda v: v > 0.3,
                                           "gradient_sink_ratio": lambda v: v > 5,
                                           "norm_out_ratio": lambda v: v > 5})))


def optimiser_verdict(groups):
    """Acceptance shape (b): the norm at token 0 grows with Adam, not with SGD."""
    if "sgd" not in groups:
        return verdict()
    adam, sgd = groups["baseline"], groups["sgd"]
    return verdict(
        condition("with AdamW the norm of token 0 is above 3 times that of others in some layer",
                  above(profile_largest(adam, "norm_out_ratio"), 3)),
        condition("with SGD it is below 3 times in every layer",
                  below(profile_largest(sgd, "norm_out_ratio"), 3)),
        condition("SGD has learned the task as well: its loss is within 0.05 nats of AdamW's",
                  [number(a) <= number(b) + 0.05 for a, b in
                   paired(sgd, adam, losses(sgd), losses(adam))]))


def theta_verdict(group):
    """Positive in the first half of the layers, negative in the second."""
    early, late = [], []
    for seed in group["theta"]:
        layers = len(seed)
        early.append(median(v for heads in seed[:layers // 2] for v in heads) > 0)
        late.append(median(v for heads in seed[(layers + 1) // 2:] for v in heads) < 0)
    return verdict(condition("the median theta of the first half of the layers is positive", early),
                   condition("that of the second half is negative", late))


def path_verdict(paths):
    others = {key: paths[key][1:] for key in paths}
    return verdict(
        condition("the gradient of the query of token 0 is zero", [paths["q"][0] == 0]),
        condition("that of the value of token 0 is larger than that of its key",
                  [number(paths["v"][0]) > number(paths["k"][0])]),
        condition("both are larger than those of every later token shown",
                  [number(paths[key][0]) > max(map(number, others[key])) for key in ("v", "k")]))


def deep(name, data, draw, arms_in_figures=None):
    groups = Groups(data)
    if "baseline" not in groups:
        return None
    base = groups["baseline"]
    shown = [g for g in groups.all if not arms_in_figures or g["arm"] in arms_in_figures]
    draw(f"{name}-profile", lambda f: f.profiles([(g["arm"], g["profile"]) for g in shown]))
    found = SimpleNamespace(
        data=data, state=state_of(data), rows=layer_table(groups), base=base,
        layers=data["model"]["layers"], seeds=len(base["seeds"]), arms=list(groups.named),
        setting=setting_verdict(base), v_scale=v_scale_verdict(groups),
        v_scale_text=v_scale_text(groups), backward_text=v_scale_text(groups, "v-scale-backward"),
        backward=v_scale_verdict(groups, "v-scale-backward"), optimiser=optimiser_verdict(groups),
        has_sgd="sgd" in groups, has_backward="v-scale-backward" in groups,
        peak_ratio=span(profile_largest(base, "norm_out_ratio")),
        peak_gradient=span(profile_largest(base, "gradient_sink_ratio")),
        peak_sink=span(profile_largest(base, "sink_score_max")), theta=None, curves=False)
    if "sgd" in groups:
        found.sgd_ratio = span(profile_largest(groups["sgd"], "norm_out_ratio"))
        found.sgd_loss = fixed(median(losses(groups["sgd"])))
        found.base_loss = fixed(median(losses(base)))
    if "path_gradients" in base:
        paths = base["path_gradients"]
        draw(f"{name}-paths", lambda f: f.token_paths(paths))
        found.paths = path_verdict(paths)
        found.path_zero = {key: text(paths[key][0]) for key in paths}
    curves = [g for g in groups.all if "curve" in g]
    if curves:
        draw(f"{name}-loss", lambda f: f.loss_curves(curves))
        found.curves = True
    if groups.onsets and "onsets" in base:
        draw(f"{name}-timeline", lambda f: f.timeline(curves, data["onset"]))
        found.order = order_verdict(base)
        found.onset_steps = {event: onset_text(base["onsets"][event]) for event in EVENT_NAMES}
        found.order_text = order_text(base)
        found.change_rows = change_rows(groups, V_SCALE)
    learned = groups.named.get("v-scale-learned", {})
    if learned.get("theta"):
        draw(f"{name}-theta", lambda f: f.thetas(learned))
        found.theta = theta_verdict(learned)
        found.theta_range = span([v for seed in learned["theta"] for heads in seed for v in heads])
        found.theta_rows = [[str(layer), span([v for seed in learned["theta"]
                                               for v in seed[layer]])]
                            for layer in range(len(learned["theta"][0]))]
    return found


# SmolLM2.

def slope(points):
    """Of a line through logarithms, least squares."""
    points = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len(points) < 2:
        return math.nan
    mx = sum(x for x, _ in points) / len(points)
    my = sum(y for _, y in points) / len(points)
    square = sum((x - mx) ** 2 for x, _ in points)
    return sum((x - mx) * (y - my) for x, y in points) / square if square else math.nan


def smollm2_measured(record, draw):
    profile = {key: [values] for key, values in record["profile"].items()}
    draw("smollm2-profile", lambda f: f.profiles([("baseline", profile)]))
    draw("smollm2-paths", lambda f: f.token_paths(record["path_gradients"]))
    draw("smollm2-branches", lambda f: f.branches(record["branches"]))
    layers = record["profile"]
    attention, mlp = record["branches"]["attn"], record["branches"]["mlp"]
    slopes = {name: slope([(number(x), number(y)) for xs, ys in
                           zip(branch["norm"], branch["compress"]) for x, y in zip(xs, ys)])
              for name, branch in (("attention", attention), ("MLP", mlp))}
    return SimpleNamespace(
        record=record, sink_rate=text(record["summary"]["sink_rate"]),
        ratio=text(record["summary"]["gradient_sink_ratio_median"]),
        quartiles=[text(v) for v in record["summary"]["gradient_sink_ratio_quartiles"]],
        norm_ratio=text(record["summary"]["resid_post_norm_ratio_max"]),
        peak_layers=[i for i, v in enumerate(layers["norm_out_ratio"]) if number(v) > 5],
        value_ratio=span(layers["value_ratio"]), massive=record["massive"],
        path_zero={k: text(v[0]) for k, v in record["path_gradients"].items()},
        change_zero=span([layer[0] for layer in attention["change"]]),
        bloat_zero=span([layer[0] for layer in attention["bloat"]]),
        slopes={name: text(value) for name, value in slopes.items()},
        sink=verdict(
            condition("the median of R_GS over layers is between 10 and 100",
                      [10 <= number(record["summary"]["gradient_sink_ratio_median"]) <= 100]),
            condition("more than half of the heads sink (rate above 0.5)",
                      [number(record["summary"]["sink_rate"]) > 0.5])),
        drain=verdict(condition("the value of token 0 is smaller than that of others in the layer",
                                below(layers["value_ratio"], 1))),
        paths=path_verdict(record["path_gradients"]),
        branches=verdict(
            condition("in the layer, attention's bloat at token 0 is larger than that of all later "
                      "groups of tokens",
                      [number(v[0]) > max(map(number, v[1:])) for v in attention["bloat"]]),
            condition("attention's change at token 0 is between 1/2 and 2",
                      [0.5 < number(v[0]) < 2 for v in attention["change"]]),
            condition("compress falls as a power of the norm between -1.3 and -0.7 (both branches)",
                      [-1.3 < value < -0.7 for value in slopes.values()])))


def check_rows(record):
    rows = []
    for one in record["identities"]:
        if one["kind"] == "bound":
            shown = f"at most {text(one['largest'], 4)} of the bound"
        elif one["kind"] == "zero":
            shown = "zero to the bit" if not one["failures"] else "not zero"
        else:
            shown = f"error at most {text(one['error'], 2)} of its scale"
        sign = "<=" if one["kind"] == "bound" else "="
        rows.append([str(one["number"]), f"`{one['left']} {sign} {one['right']}`",
                     f"{one['places']:,}", str(one["failures"]), shown])
    return [[cell.replace("|", "\\|") for cell in row] for row in rows]


def dial_numbers(record, key="recomputed"):
    fits = [layer[key] for layer in record["layers"] if key in layer]
    heads = [h for fit in fits for h in fit.get("heads", ()) if h is not None]
    return SimpleNamespace(layers=span([f["exponent"] for f in fits]),
                           heads=span(heads) if heads else "-", fits=fits,
                           holds=all(c["holds"] for c in record["checks"]))


def smollm2(data, draw):
    found = SimpleNamespace(data=data, measured=None, check=None, mass=None, norm=None)
    if "measure" in data:
        found.measured = smollm2_measured(data["measure"], draw)
    if "check" in data:
        record = data["check"]
        found.check = SimpleNamespace(
            rows=check_rows(record), record=record,
            verdict=verdict(condition("the identity or bound holds at every place",
                                      [not one["failures"] for one in record["identities"]])))
    if "mass" in data or "norm" in data:
        draw("smollm2-dials", lambda f: f.dials(data.get("mass"), data.get("norm")))
    if "mass" in data:
        found.mass = dial_numbers(data["mass"])
        found.mass_frozen = dial_numbers(data["mass"], "frozen")
        found.mass_verdict = verdict(
            condition("the energy of the layer grows with the mass: exponent above 0",
                      [number(f["exponent"]) > 0 for f in found.mass_frozen.fits]),
            condition("and at most as its square: exponent at most 2",
                      [number(f["exponent"]) <= 2 for f in found.mass_frozen.fits]))
    if "norm" in data:
        found.norm = dial_numbers(data["norm"], "frozen")
        if not found.norm.fits:
            found.norm = dial_numbers(data["norm"])
        found.norm_verdict = verdict(condition(
            "the slope of compress in the layer is -1 within 0.001",
            [abs(number(f["exponent"]) + 1) <= 0.001 for f in found.norm.fits]))
    return found


def estimate(value, places=3):
    if not value:
        return "-"
    def write(v):
        shown = fixed(v, places)
        return shown if shown.startswith("-") else "+" + shown
    return f"{write(value['value'])} [{write(value['low'])}, {write(value['high'])}]"


def perplexity_change(corpus):
    if corpus["destroyed"]:
        return "destroyed"
    value = corpus["difference"]
    return f"{signed(value['value'], 2)} [{signed(value['low'], 2)}, {signed(value['high'], 2)}]"


def quantize(data, draw):
    record = data["quantize"]
    draw("smollm2-quantize", lambda f: f.quantize(record))
    arms = {arm["name"]: arm for arm in record["arms"]}
    texts = range(len(record["corpora"]))
    rows = [[f"`{arm['name']}`", *(cell for c in arm["corpora"] for cell in
             (perplexity_change(c), estimate(c.get("sink_damage"))))] for arm in record["arms"]]
    def loss(name, c):
        return number(arms[name]["corpora"][c]["loss_difference"]["value"])
    def damage(name, c):
        return number(arms[name]["corpora"][c]["sink_damage"]["value"])
    def each(names, test):
        return [test(c) for c in texts] if all(n in arms for n in names) else []
    down = [s["dispersion"][0] for s in record["dispersion"] if s["mlp_down"]]
    other = [s["dispersion"][0] for s in record["dispersion"] if not s["mlp_down"]]
    return SimpleNamespace(
        data=data, record=record, rows=rows, down=span(down), other=span(other),
        reference=[text(c["perplexity"]) for c in record["corpora"]], arms=arms,
        names=[c["name"] for c in record["corpora"]],
        verdict=verdict(
            condition("of 8 bits, static scales for a tensor lose more than scales for a token",
                      each(("static", "per-token"),
                           lambda c: loss("static", c) > loss("per-token", c))),
            condition("and weights alone lose less than either",
                      each(("weights-8", "static", "per-token"),
                           lambda c: loss("weights-8", c) < min(loss("static", c),
                                                                loss("per-token", c)))),
            condition("the sink token's damage with static scales is at least 5 times that with "
                      "scales for a token",
                      each(("static", "per-token"),
                           lambda c: damage("static", c) > 5 * damage("per-token", c))),
            condition("static scales on W_down alone have more than half of the loss of static "
                      "scales everywhere",
                      each(("static", "static-down"),
                           lambda c: loss("static-down", c) > 0.5 * loss("static", c)))))


# Recall.

def rounded_by_seed(group, name, key):
    """A number of an arm of rounding, of f32 where the name is f32, by seed."""
    values = []
    for record in group["quantize"]:
        corpora = [] if not record else record["corpora"] if name == "f32" else next(
            (arm["corpora"] for arm in record["arms"] if arm["name"] == name), [])
        values.append(number(corpora[0].get(key)) if corpora else math.nan)
    return values


def needle(data, draw):
    groups = Groups(data)
    trained = {g["arm"]: g for g in groups.all if g.get("quantize") and any(g["quantize"])}
    found = SimpleNamespace(
        data=data, state=state_of(data), rows=[], figure=False, verdict=verdict(),
        arms=list(trained), plain_rows=[[f"`{g['arm']}`", str(len(g["seeds"])),
                                         fixed(median(losses(g))), span(g["recalled"], percent),
                                         span(g["last"]["sink_score"]), span(
                                             g["last"]["gradient_sink_ratio"]),
                                         span(g["last"]["norm_ratio"])]
                                        for g in groups.all if "recalled" in g])
    if not trained:
        return found
    first = next(r for g in trained.values() for r in g["quantize"] if r)
    shown, conditions = [], []
    for name in ["f32"] + [arm["name"] for arm in first["arms"]]:
        values = {arm: rounded_by_seed(g, name, "recalled") for arm, g in trained.items()}
        shown.append((name, values))
        cells = [f"`{name}`"]
        for arm, group in trained.items():
            cells += [span(values[arm], percent), span(rounded_by_seed(group, name, "loss"), fixed)]
        found.rows.append(cells)
        if "baseline" in trained and "v-scale-full" in trained:
            pairs = paired(trained["v-scale-full"], trained["baseline"], values["v-scale-full"],
                           values["baseline"])
            conditions.append(condition(f"`{name}`", [a >= b for a, b in pairs]))
    draw("needle", lambda f: f.needle(shown, "share of answers recalled"))
    found.figure, found.verdict = True, verdict(*conditions)
    return found


def percent(value):
    return f"{100 * value:.1f}"


# Seeds, speed.

def seed_rows(by_target):
    """Of sweeps by target, the sink score of every seed."""
    rows, seeds = [], None
    for name, data in by_target:
        group = data["groups"][0]
        seeds = seeds or data["seeds"]
        scores = dict(zip(group["seeds"], group["last"]["sink_score"]))
        rows.append([name, *(fixed(scores.get(seed), 2) for seed in seeds)])
    return seeds, rows


def sink_everywhere(by_target):
    return verdict(*(condition(f"{name}: the sink score is above 0.5",
                               above(data["groups"][0]["last"]["sink_score"], 0.5))
                     for name, data in by_target))


GOAL = re.compile(r'\{"(\w+)", "([^"]+)", ([\d.]+), ([\d.]+)(, true)?\}')


def speed_rows(summary, source=Path(__file__).resolve().parents[2] / "bench/summary.cpp"):
    """Figures with their goals, which stand in the bench's own table."""
    rows = []
    for key, what, goal, better, less in GOAL.findall(Path(source).read_text()):
        if float(goal) == 0 and key not in summary:
            continue
        value = summary.get(key)
        reached = "-"
        if value is not None and float(goal):
            ok = value <= float(goal) if less else value >= float(goal)
            reached = "yes" if ok else "no"
        goals = (f"{'at most ' if less else ''}{goal}", better) if float(goal) else ("-", "-")
        rows.append([what, *goals, text(value), reached])
    return rows
