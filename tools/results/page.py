"""`results render`: from collected data to RESULTS.md and docs/results/*.svg."""

import json
import re
import textwrap
from pathlib import Path

import jinja2
import matplotlib

import figures
import sections
from experiments import EXPERIMENTS, command_lines, named

WIDTH = 118
HERE = Path(__file__).resolve().parent


def load(folder):
    """{experiment: collected data}."""
    names = [experiment.name for experiment in EXPERIMENTS] + ["bench"]
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in names
            if (folder / f"{name}.json").is_file()}


def table(head, rows, align="r"):
    """A Markdown table, its first column left, the others as `align` says (l or r)."""
    rule = ["---:" if place and align != "l" else "---" for place in range(len(head))]
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def wrapped(text):
    """Paragraphs and list items as lines of at most WIDTH characters; all else as it is."""
    def fill(block):
        first = block.lstrip()[:1]
        if block.startswith("    ") or first in "|#!<":
            return block
        if not block.startswith("- "):
            return textwrap.fill(" ".join(block.split()), WIDTH, break_long_words=False,
                                 break_on_hyphens=False)
        items = re.split(r"(?m)^- ", block)[1:]
        return "\n".join(textwrap.fill("- " + " ".join(item.split()), WIDTH, subsequent_indent="  ",
                                       break_long_words=False, break_on_hyphens=False)
                         for item in items)
    blocks = [fill(block) for block in re.split(r"\n\s*\n", text.strip("\n"))]
    return "\n\n".join(block.rstrip() for block in blocks if block.strip()) + "\n"


def commands(name, indent="    "):
    return "\n".join(indent + line for line in command_lines(named(name)))


def origin(data):
    """Version and processor, in a sentence."""
    provenance = data["provenance"]
    return (f"Weir {' and '.join(provenance['weir'])}, kernels for "
            f"{' and '.join(provenance['targets'])}.")


class Drawer:
    """Keeps figures until all sections are there; a figure is a name and a function."""

    def __init__(self):
        self.svg = {}

    def __call__(self, name, draw):
        self.svg[name] = draw(figures)


def build(data):
    """The text of RESULTS.md and the figures by name."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(figures.SETTINGS)
    draw = Drawer()
    seeds = [(name, data[f"seeds-{name[-2:]}"]) for name in ("x86-64-v3", "x86-64-v4")
             if f"seeds-{name[-2:]}" in data]
    makers = {"backcopy": sections.backcopy, "dose": sections.dose, "smollm2": sections.smollm2,
              "smollm2-quantize": sections.quantize, "needle": sections.needle}
    found = {name: make(data[name], draw) for name, make in makers.items() if name in data}
    for name in ("argument", "text"):
        if name in data:
            found[name] = sections.deep(name, data[name], draw)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.globals.update(table=table, commands=commands, origin=origin)
    page = environment.get_template("RESULTS.md.jinja").render(
        backcopy=found.get("backcopy"), dose=found.get("dose"), argument=found.get("argument"),
        text=found.get("text"), smollm2=found.get("smollm2"),
        quantize=found.get("smollm2-quantize"), needle=found.get("needle"),
        seeds=sections.seed_rows(seeds) if seeds else None,
        seeds_origin=" ".join(f"{name}: {origin(one)}" for name, one in seeds),
        seeds_verdict=sections.sink_everywhere(seeds) if seeds else None,
        speed=sections.speed_rows(data.get("bench", {}).get("summary", {})),
        speed_measured="bench" in data, event_names=sections.EVENT_NAMES)
    return wrapped(page), draw.svg


def render(options):
    text, svg = build(load(Path(options.data)))
    out = Path(options.out)
    folder = out / "docs/results"
    folder.mkdir(parents=True, exist_ok=True)
    (out / "RESULTS.md").write_text(text)
    for stale in folder.glob("*.svg"):
        if stale.stem not in svg:
            stale.unlink()
    for name, figure in svg.items():
        (folder / f"{name}.svg").write_text(figure)
    if not matplotlib.__version__.startswith(figures.MADE_WITH):
        print(f"results: matplotlib is {matplotlib.__version__}; figures have the bytes of the "
              f"committed ones only with {figures.MADE_WITH} (Debian 12).")
    print(f"RESULTS.md and {len(svg)} figures in docs/results")
    return 0
