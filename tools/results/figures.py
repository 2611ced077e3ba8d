"""Figures of RESULTS.md as SVG: the same data give the same bytes.

Colours are those of Okabe and Ito, which the colour-blind can tell apart; every line also has a
marker and dashes of its own, so that a black and white print can be read.
"""

import io
import re

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter  # noqa: E402

from spread import finite, median, number, quantile  # noqa: E402

MADE_WITH = "3.6"  # the version of matplotlib whose bytes the committed figures are

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
STYLES = {  # colour, dashes, marker
    "baseline": (BLUE, "-", "o"),
    "v-scale-full": (ORANGE, "--", "s"),
    "v-scale-learned": (GREEN, "-.", "^"),
    "v-scale-backward": (PURPLE, ":", "D"),
    "sgd": (BLACK, (0, (5, 1, 1, 1, 1, 1)), "v"),
    "relu": (VERMILLION, (0, (1, 1)), "P"),
    "muon": (SKY, (0, (3, 1, 1, 1)), "X"),
}
SPARE = ((SKY, "-", "X"), (VERMILLION, "--", "P"), (BLACK, "-.", "*"), (GREEN, ":", "<"))
EVENT_STYLES = {
    "sink": (BLUE, "o", "attention sink"), "value_drain": (ORANGE, "s", "value drain"),
    "gradient_sink": (VERMILLION, "^", "gradient sink"), "norm_growth": (GREEN, "D", "norm growth")}
SETTINGS = {
    "svg.hashsalt": "weir", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9,
    "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8, "xtick.labelsize": 8,
    "ytick.labelsize": 8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.6, "lines.linewidth": 1.4, "lines.markersize": 4, "axes.grid": True,
    "grid.color": "#dddddd", "grid.linewidth": 0.5, "legend.frameon": False,
    "figure.facecolor": "white", "savefig.facecolor": "white", "path.simplify": False}


def style(arm, place=0):
    return STYLES.get(arm, SPARE[place % len(SPARE)])


def short_numbers(tag):
    tag = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), tag)
    return re.sub(r"(?<![\w.])-0(?![\w.])", "0", tag)


def clean(svg):
    """The text of an SVG without dates, with short numbers and names that only count."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.S)
    svg = re.sub(r"<[^>]*>", lambda tag: short_numbers(tag[0]), svg)  # not what a reader sees
    svg = re.sub(r' id="[A-Za-z.]+(?:2d)?_\d+"', "", svg)  # figure_1, line2d_3, matplotlib.axis_2
    svg = svg.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    names = {}
    def short(match):
        return names.setdefault(match[0], f"i{len(names)}")
    svg = re.sub(r"\b[mpch][0-9a-f]{10}\b", short, svg)
    return re.sub(r"(?m)^[ \t]+|[ \t]+$", "", classes(svg))


def classes(svg):
    """Styles that come often as classes, which are shorter."""
    count = {}
    for found in re.findall(r'style="[^"]*"', svg):
        count[found] = count.get(found, 0) + 1
    often = [found for found, times in count.items() if times > 3]
    rules = []
    for place, found in enumerate(often):
        svg = svg.replace(found, f'class="s{place}"')
        rules.append(f".s{place}{{{found[7:-1]}}}")
    return svg.replace("</style>", "\n" + "\n".join(rules) + "\n</style>", 1)


def text_of(figure):
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.06,
                   metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    pyplot.close(figure)
    return clean(buffer.getvalue())


def panels(rows, columns, height=2.3, width=7.2):
    figure, axes = pyplot.subplots(rows, columns, figsize=(width, height * rows), squeeze=False,
                                   layout="constrained")
    return figure, [axis for row in axes for axis in row]


def plain(value, _place=None):
    return f"{value:g}"


def logarithmic(axis, which="y"):
    getattr(axis, f"set_{which}scale")("log")
    ticks = getattr(axis, f"{which}axis")
    ticks.set_major_formatter(FuncFormatter(plain))
    low, high = getattr(axis, f"get_{which}lim")()
    if low > 0 and high / low < 30:  # few powers of ten: say more between them
        ticks.set_minor_formatter(FuncFormatter(
            lambda value, _: plain(value) if f"{value:.0e}"[0] in "25" else ""))
    else:
        ticks.set_minor_formatter(NullFormatter())


def legend(figure, axis, columns=4):
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0), ncol=columns,
                      handlelength=3.2)


def positive(values):
    return any(v > 0 for v in finite(values))


# Over training.

def curve_panel(axis, groups, key, title, log=False, line=None):
    everything = []
    for place, group in enumerate(groups):
        curve = group.get("curve")
        if not curve:
            continue
        colour, dashes, marker = style(group["arm"], place)
        steps = [max(step, 0.7) for step in curve["steps"]]
        band = curve[key]
        middle = [number(v) for v in band["median"]]
        everything += middle
        axis.fill_between(steps, [number(v) for v in band["low_quartile"]],
                          [number(v) for v in band["high_quartile"]], color=colour, alpha=0.15,
                          linewidth=0)
        axis.plot(steps, middle, color=colour, linestyle=dashes, marker=marker, markevery=0.12,
                  label=group["arm"])
    if line is not None:
        axis.axhline(line, color="#666666", linewidth=0.8, linestyle=(0, (2, 2)))
    axis.set_title(title, loc="left")
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(plain))
    if log and positive(everything):
        logarithmic(axis)


def timeline(groups, onset):
    figure, axes = panels(2, 2)
    rows = (("sink", "sink_score", "sink score", False), ("value_drain", "value_ratio",
            "value norm, token 0 over tokens 1 to 15", True),
            ("gradient_sink", "gradient_sink_ratio", "gradient-sink ratio", True),
            ("norm_growth", "norm_ratio", "residual norm, token 0 over tokens 1 to 15", True))
    for axis, (event, key, title, log) in zip(axes, rows):
        curve_panel(axis, groups, key, title, log, onset[event]["threshold"] if onset else None)
        for place, group in enumerate(groups):
            steps = finite(s for s in group.get("onsets", {}).get(event, ())
                           if not isinstance(s, str))
            if steps and group.get("curve"):
                colour, _, marker = style(group["arm"], place)
                axis.plot([max(median(steps), 0.7)], [onset[event]["threshold"]], marker="*",
                          markersize=10, markeredgecolor="black", markeredgewidth=0.6,
                          color=colour)
    for axis in axes[2:]:
        axis.set_xlabel("step")
    legend(figure, axes[0])
    return text_of(figure)


def onsets(groups, last):
    """A row an arm, a point a seed at the step of each onset; at the right edge those that never
    come."""
    groups = [group for group in groups if "onsets" in group]
    height = 0.36 * len(groups) + 1.0
    figure, (axis,) = panels(1, 1, height=height)
    never = last * 1.6
    for row, group in enumerate(groups):
        for shift, (event, (colour, marker, name)) in enumerate(EVENT_STYLES.items()):
            y = row + (shift - 1.5) * 0.21
            steps = [s for s in group["onsets"][event] if not isinstance(s, str)]
            missing = sum(s == "never" for s in group["onsets"][event])
            axis.plot([max(s, 0.7) for s in steps], [y] * len(steps), marker=marker,
                      linestyle="none", color=colour, markersize=3.6, alpha=0.85,
                      label=name if row == 0 else None)
            if missing:
                axis.plot([never], [y], marker=marker, linestyle="none", markersize=3.6,
                          markerfacecolor="white", markeredgecolor=colour)
                axis.text(never * 1.12, y, str(missing), fontsize=7, va="center", color=colour)
    axis.axvline(last * 1.22, color="#666666", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_yticks(range(len(groups)), [group["arm"] for group in groups])
    axis.set_ylim(len(groups) - 0.4, -0.6)
    axis.set_xlim(0.6, never * 1.5)
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(FuncFormatter(plain))
    axis.set_xlabel("step of the onset; right of the line: never, with the number of seeds")
    legend(figure, axis)
    return text_of(figure)


def loss_curves(groups):
    figure, (axis,) = panels(1, 1, height=2.8)
    curve_panel(axis, groups, "loss", "loss of the measured batch, nats (median, quartiles)")
    axis.set_xlabel("step")
    legend(figure, axis)
    return text_of(figure)


# Against one number or the layer.

def dose(points, rows):
    """points: [(gain, {key: [by seed]})]; rows: [(key, title, log)]."""
    figure, axes = panels(2, 3, height=2.2)
    places = range(len(points))
    markers = ("o", "s", "^", "D", "v", "P", "X")
    for axis, (key, title, log) in zip(axes, rows):
        for place, (_, values) in enumerate(points):
            for seed, value in enumerate(values[key]):
                axis.plot([place + (seed - 2) * 0.06], [number(value)], linestyle="none",
                          marker=markers[seed % len(markers)], color=SKY, markersize=3.5)
        axis.plot(places, [median(finite(values[key])) for _, values in points], color=BLUE,
                  marker="_", markersize=12)
        axis.set_title(title, loc="left")
        axis.set_xticks(places, [plain(gain) for gain, _ in points])
        if log and positive(v for _, values in points for v in values[key]):
            logarithmic(axis)
    for axis in axes[len(rows):]:
        axis.set_visible(False)
    for axis in axes[3:len(rows)]:
        axis.set_xlabel("factor of the gradient")
    return text_of(figure)


PROFILE = (("sink_score", "sink score, mean over heads", False),
           ("gradient_sink_ratio", "gradient-sink ratio", True),
           ("norm_out_ratio", "residual norm, token 0 over tokens 1 to 15", True),
           ("mlp_out", "norm of the MLP's output, token 0", True))


def profiles(groups, rows=PROFILE):
    """groups: [(name, {quantity: [[layer] by seed]})]; medians over seeds, and quartiles."""
    figure, axes = panels(2, 2)
    for axis, (key, title, log) in zip(axes, rows):
        everything = []
        for place, (name, profile) in enumerate(groups):
            colour, dashes, marker = style(name, place)
            by_layer = list(zip(*profile[key]))
            layers = range(len(by_layer))
            middle = [median(v) for v in by_layer]
            everything += middle
            if len(profile[key]) > 1:
                axis.fill_between(layers, [quantile(v, 0.25) for v in by_layer],
                                  [quantile(v, 0.75) for v in by_layer], color=colour, alpha=0.13,
                                  linewidth=0)
            axis.plot(layers, middle, color=colour, linestyle=dashes, marker=marker, label=name)
        axis.set_title(title, loc="left")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        if log and positive(everything):
            logarithmic(axis)
    for axis in axes[2:]:
        axis.set_xlabel("layer")
    if len(groups) > 1:
        legend(figure, axes[0])
    return text_of(figure)


def thetas(group):
    """A point a head and seed of the learned theta, by layer."""
    figure, (axis,) = panels(1, 1, height=2.4, width=5)
    markers = ("o", "s", "^", "D", "v", "P", "X", "*")
    layers = max(len(seed) for seed in group["theta"] if seed)
    for place, seed in enumerate(group["theta"]):
        for layer, heads in enumerate(seed or ()):
            axis.plot([layer + (place - 1) * 0.08] * len(heads), [number(v) for v in heads],
                      linestyle="none", marker=markers[place % len(markers)], color=GREEN,
                      markerfacecolor="white")
    middle = [median(v for seed in group["theta"] if seed for v in seed[layer])
              for layer in range(layers)]
    axis.plot(range(layers), middle, color=BLACK, linewidth=1)
    axis.axhline(0, color="#666666", linewidth=0.8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("layer")
    axis.set_title("learned θ of V-scale, a point for each head and seed", loc="left")
    return text_of(figure)


PATHS = (("v", "value", VERMILLION, "-", "o"), ("k", "key", BLUE, "--", "s"),
         ("q", "query", GREEN, ":", "^"))


def token_paths(paths):
    figure, (axis,) = panels(1, 1, height=2.5, width=5)
    for key, name, colour, dashes, marker in PATHS:
        values = [number(v) or float("nan") for v in paths[key]]  # zero has no logarithm
        axis.plot(range(len(values)), values, color=colour, linestyle=dashes, marker=marker,
                  label=name)
    if positive(v for key in paths for v in paths[key]):
        logarithmic(axis)
    axis.set_xlabel("token")
    axis.set_title("norm of the gradient, mean over layers", loc="left")
    axis.legend(loc="upper right", ncol=3)
    return text_of(figure)


GROUPS = (("token 0", VERMILLION, "*", 7), ("token 1", ORANGE, "s", 3.6),
          ("tokens 2-3", GREEN, "^", 3.8), ("tokens 4-7", BLUE, "D", 3),
          ("tokens 8-15", "#888888", ".", 5))  # as collected


def branches(data):
    """Bloat, change and compress of both branches against the norm of the branch's input, a point a
    layer and group of tokens."""
    figure, axes = panels(2, 3, height=2.2)
    for row, (branch, title) in enumerate((("attn", "attention"), ("mlp", "MLP"))):
        for column, name in enumerate(("bloat", "change", "compress")):
            axis = axes[row * 3 + column]
            for place, (label, colour, marker, size) in reversed(list(enumerate(GROUPS))):
                x = [number(layer[place]) for layer in data[branch]["norm"]]
                y = [number(layer[place]) for layer in data[branch][name]]
                axis.plot(x, y, linestyle="none", marker=marker, markersize=size, color=colour,
                          markeredgewidth=0, label=label)
            logarithmic(axis, "x")
            logarithmic(axis)
            axis.set_title(f"{name}, {title}", loc="left")
            if name == "change":
                axis.axhline(1, color="#666666", linewidth=0.8)
    for axis in axes[3:]:
        axis.set_xlabel("norm of the branch's input")
    legend(figure, axes[0], 5)
    return text_of(figure)


# SmolLM2 and rounding.

def dials(mass, norm):
    figure, axes = panels(1, 2, height=2.6)
    rows = ((axes[0], mass, "mass dial: exponent of the energy in M"),
            (axes[1], norm, "norm dial: slope of compress"))
    for axis, record, title in rows:
        axis.set_title(title, loc="left")
        axis.set_xlabel("layer")
        for key, name, colour, marker, shift in (("frozen", "g frozen", BLUE, "o", -0.12),
                                                 ("recomputed", "g recomputed", ORANGE, "s", 0.12)):
            found = [layer for layer in (record or {"layers": ()})["layers"] if key in layer]
            if not found:
                continue
            middle = [number(layer[key]["exponent"]) for layer in found]
            low = [number(layer[key]["low"]) for layer in found]
            high = [number(layer[key]["high"]) for layer in found]
            axis.errorbar([layer["layer"] + shift for layer in found], middle,
                          yerr=[[m - v for m, v in zip(middle, low)],
                                [v - m for m, v in zip(middle, high)]], linestyle="none",
                          marker=marker, color=colour, markersize=3.5, elinewidth=0.8, label=name)
    axes[0].axhline(2, color="#666666", linewidth=0.8, linestyle=(0, (2, 2)))
    axes[1].axhline(-1, color="#666666", linewidth=0.8, linestyle=(0, (2, 2)))
    legend(figure, axes[0])
    return text_of(figure)


def quantize(data):
    figure, axes = panels(1, 2, height=3.0)
    arms = [arm for arm in data["arms"] if "sink_damage" in arm["corpora"][0]]
    places = range(len(arms))
    for corpus, (colour, marker, shift) in enumerate(((BLUE, "o", -0.12), (ORANGE, "s", 0.12))):
        shown = [(p, arm["corpora"][corpus]["sink_damage"]) for p, arm in zip(places, arms)
                 if corpus < len(arm["corpora"])]
        if not shown:
            continue
        value = [number(d["value"]) for _, d in shown]
        axes[0].errorbar(value, [p + shift for p, _ in shown],
                         xerr=[[v - number(d["low"]) for v, (_, d) in zip(value, shown)],
                               [number(d["high"]) - v for v, (_, d) in zip(value, shown)]],
                         linestyle="none", marker=marker, color=colour, elinewidth=0.8,
                         label=data["corpora"][corpus]["name"])
    axes[0].set_yticks(places, [arm["name"] for arm in arms])
    axes[0].invert_yaxis()
    axes[0].axvline(0, color="#666666", linewidth=0.8)
    axes[0].set_title("sink damage, nats", loc="left")
    axes[0].legend(loc="lower right")
    sites = data["dispersion"]
    for down, name, colour, marker in ((True, "input of W_down", VERMILLION, "^"),
                                       (False, "other inputs", BLUE, ".")):
        chosen = [s for s in sites if s["mlp_down"] == down]
        axes[1].plot([s["layer"] for s in chosen], [number(s["dispersion"][0]) for s in chosen],
                     linestyle="none", marker=marker, color=colour, label=name)
    logarithmic(axes[1])
    axes[1].set_xlabel("layer")
    axes[1].set_title("row dispersion of activations", loc="left")
    axes[1].legend(loc="upper right")
    return text_of(figure)


def needle(rows, title):
    """rows: [(arm of rounding, {arm of training: [by seed]})]."""
    figure, (axis,) = panels(1, 1, height=0.32 * len(rows) + 1.2)
    names = list(dict.fromkeys(name for _, values in rows for name in values))
    for place, name in enumerate(names):
        colour, _, marker = style(name, place)
        shift = (place - (len(names) - 1) / 2) * 0.2
        for row, (_, values) in enumerate(rows):
            seeds = finite(values.get(name, ()))
            axis.plot(seeds, [row + shift] * len(seeds), linestyle="none", marker=marker,
                      color=colour, label=name if row == 0 else None, alpha=0.8)
            if seeds:
                axis.plot([median(seeds)], [row + shift], marker="|", markersize=11, color="black")
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.invert_yaxis()
    axis.set_title(title, loc="left")
    legend(figure, axis)
    return text_of(figure)
