"""`results paper`: makes what is missing of the experiments, by the commands of experiments.py."""

import json
import os
import shlex
import subprocess
from pathlib import Path

from experiments import EXPERIMENTS, MODEL, named

AGAIN = 75  # exit status of `weir sweep`: runs are left


class Maker:
    def __init__(self, options):
        self.options = options
        self.weir = options.weir
        self.runs = Path(options.runs)
        self.problems = []

    def fields(self, experiment, **more):
        return {"weir": self.weir, "runs": str(self.runs), "out": str(self.runs / experiment.name),
                "model": MODEL, "wikitext": self.options.wikitext, **more}

    def missing(self, experiment):
        """Why an experiment cannot be made here; '' if it can."""
        swept = experiment.sweep and not self.options.skip_sweeps
        if swept and not Path(experiment.sweep).is_file():
            return f"{experiment.sweep} is not there"
        if experiment.target == "x86-64-v4" and "avx512f" not in Path("/proc/cpuinfo").read_text():
            return "kernels for x86-64-v4 need a processor with AVX-512"
        for path, how in experiment.needs:
            path = path.format(**self.fields(experiment))
            if not path or not Path(path).exists():
                return f"{how}"
        return ""

    def call(self, words, target="", table=None):
        """The exit status; what the command prints goes into the file `table`, if there is one."""
        environment = dict(os.environ)
        if target:
            environment["WEIR_TARGET"] = target
        print("  " + (f"WEIR_TARGET={target} " if target else "") + shlex.join(words), flush=True)
        if table is None:
            return subprocess.run(words, env=environment, check=False).returncode
        with open(table, "w") as out:
            return subprocess.run(words, env=environment, check=False, stdout=out).returncode

    def command(self, experiment, line, **more):
        words = [word.format(**self.fields(experiment, **more)) for word in shlex.split(line)]
        outputs = [words[i + 1] for i, word in enumerate(words) if word == "--json"]
        derived = words[1] == "compare"  # quick, and has to know of all runs
        if not derived and all(Path(path).is_file() for path in outputs):
            return
        for path in outputs:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        table = Path(outputs[0]).with_suffix(".txt") if outputs else None
        status = self.call(words, table=table)
        if status:
            self.problems.append(f"{experiment.name}: status {status} of {shlex.join(words)}")

    def make(self, experiment):
        why = self.missing(experiment)
        print(f"{experiment.name}: {experiment.what} ({experiment.time} on two idle cores)",
              flush=True)
        if why:
            print(f"  skipped: {why}; committed data are kept", flush=True)
            return
        out = self.runs / experiment.name
        if experiment.sweep and not self.options.skip_sweeps:
            status = self.call([self.weir, "sweep", experiment.sweep, "--out", str(out)],
                               experiment.target)
            if status == AGAIN:
                self.problems.append(f"{experiment.name}: runs are left, start it again")
            elif status:
                self.problems.append(f"{experiment.name}: status {status} of weir sweep")
        for line in experiment.commands:
            self.command(experiment, line)
        for run in finished_runs(out) if experiment.each else ():
            for line in experiment.each:
                self.command(experiment, line, run=run.name, checkpoint=str(newest(run)))


def finished_runs(out):
    """Folders of the finished runs of a sweep, each once, in the order of its entries."""
    results = out / "results.json"
    if not results.is_file():
        return []
    rows = json.loads(results.read_text())["rows"]
    names = dict.fromkeys(row["run"] for row in rows if row["state"] == "done")
    return [out / "runs" / name for name in names]


def newest(run):
    """The newest checkpoint of a run."""
    found = sorted((run / "run" / "checkpoints").glob("step*"))
    return found[-1] if found else None


def paper(options):
    maker = Maker(options)
    chosen = [named(name) for name in options.names] or EXPERIMENTS
    for experiment in chosen:
        maker.make(experiment)
    for problem in maker.problems:
        print(f"results: {problem}")
    return 1 if maker.problems else 0
