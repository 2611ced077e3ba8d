"""What is taken of a sweep's folder: a small one written here, by hand."""

import json
import struct
import tempfile
import unittest
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

from collect import collect, geometric_mean, path_gradients, safetensors
from paper import finished_runs, newest, paper

TOKENS = 16


def layer(sink, norm):
    """A layer of a record in which token 0 has the given score and norm, all others 1."""
    tokens = [norm] + [1.0] * (TOKENS - 1)
    streams = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "value")
    ratios = {f"{name}_{branch}": tokens for name in ("bloat", "change", "compress")
              for branch in ("attn", "mlp")}
    return {"sink_score": [sink, 0.1], "sink_mass": [sink * 64, 6.4], "sink_rate": 0.5,
            "gradient_sink_ratio": "NaN", "norm": {key: tokens for key in streams},
            "others": {key: {"mean": 1.0, "median": 1.0, "max": 1.0} for key in streams},
            "sink_token_max": {key: norm for key in streams}, "resid_post_max_abs": norm,
            "grad_norm": {key: tokens for key in ("q", "k", "v")}, **ratios}


def record(step):
    return {"step": step, "settings": {"sink_token": 0},
            "model": {"name": "tiny", "layers": 2}, "layers": [layer(0.5, 3.0), layer(0.7, 5.0)]}


def write_model(path, values):
    """A safetensors file with a theta."""
    header = json.dumps({"blocks.1.attn.v_scale.theta": {
        "dtype": "F32", "shape": [len(values)], "data_offsets": [0, 4 * len(values)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header +
                     struct.pack(f"<{len(values)}f", *values))


class Folder(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.TemporaryDirectory()
        self.runs = Path(self.work.name)
        out = self.runs / "seeds-v3"
        rows, entries = [], []
        for seed, state in ((1, "done"), (2, "done"), (3, "unfinished")):
            run = out / "runs" / f"run{seed}"
            checkpoint = run / "run" / "checkpoints" / "step000002"
            checkpoint.mkdir(parents=True)
            (run / "run.json").write_text(json.dumps(
                {"versions": {"weir": "9", "revision": "abc"}, "target": "x86-64-v3, 2 cores"}))
            (run / "run" / "metrics.jsonl").write_text(
                "".join(json.dumps(record(step)) + "\n" for step in (0, 2)))
            write_model(checkpoint / "model.safetensors", [0.5, -0.25])
            entries.append({"index": seed - 1, "arm": "baseline", "seed": seed, "grid": {},
                            "run": f"run{seed}"})
            row = dict(entries[-1], state=state)
            if state == "done":
                row.update(steps=2, tokens=64, final_loss=1.0 + seed, validation_loss=None,
                           measured={"sink_score": 0.1 * seed, "sink_mass": 1, "value_ratio": "NaN",
                                     "gradient_sink_ratio": 2, "norm_ratio": 3})
            rows.append(row)
        out.joinpath("sweep.json").write_text(json.dumps(
            {"base": {"data.files": "/far/away/text.txt", "steps": 2}, "arms": {"baseline": {}},
             "seeds": [1, 2, 3], "grid": {}, "entries": entries}))
        out.joinpath("results.json").write_text(json.dumps({"rows": rows}))

    def tearDown(self):
        self.work.cleanup()

    def collected(self):
        said = StringIO()
        with redirect_stdout(said):
            collect(SimpleNamespace(runs=str(self.runs), data=str(self.runs / "data"), names=[],
                                    bench=str(self.runs / "none.json")))
        return json.loads((self.runs / "data" / "seeds-v3.json").read_text()), said.getvalue()

    def test_numbers_by_seed_and_layer(self):
        data, said = self.collected()
        group = data["groups"][0]
        self.assertEqual(group["seeds"], [1, 2])
        self.assertEqual(group["final_loss"], [2, 3])
        self.assertEqual(group["last"]["value_ratio"], [None, None])
        self.assertEqual(group["profile"]["sink_score"], [[0.3, 0.4], [0.3, 0.4]])
        self.assertEqual(group["profile"]["norm_out_ratio"], [[3, 5], [3, 5]])
        self.assertEqual(group["profile"]["gradient_sink_ratio"], [[None, None], [None, None]])
        self.assertEqual(group["theta"], [[[0.5, -0.25]], [[0.5, -0.25]]])
        self.assertEqual((data["done"], data["entries"]), (2, 3))
        self.assertIn("seeds-v3: collected", said)
        self.assertIn("2 of 3 runs are done", said)
        self.assertIn("backcopy: nothing in", said)

    def test_no_path_and_no_time_is_collected(self):
        data, _ = self.collected()
        self.assertEqual(data["base"]["data.files"], "text.txt")
        self.assertEqual(data["provenance"], {"weir": ["9 abc"], "targets": ["x86-64-v3"]})

    def test_the_same_folder_gives_the_same_bytes(self):
        self.collected()
        path = self.runs / "data" / "seeds-v3.json"
        before = path.read_bytes()
        self.collected()
        self.assertEqual(path.read_bytes(), before)

    def test_a_damaged_folder_keeps_what_was_collected(self):
        self.collected()
        (self.runs / "seeds-v3" / "results.json").write_text("{")
        data, said = self.collected()
        self.assertEqual(data["done"], 2)
        self.assertIn("seeds-v3: cannot be read, committed data are kept", said)

    def test_runs_and_checkpoints(self):
        runs = finished_runs(self.runs / "seeds-v3")
        self.assertEqual([run.name for run in runs], ["run1", "run2"])
        self.assertEqual(newest(runs[0]).name, "step000002")
        self.assertEqual(safetensors(newest(runs[0]) / "model.safetensors", "theta"),
                         {"blocks.1.attn.v_scale.theta": [0.5, -0.25]})

    def test_what_cannot_be_made_is_skipped_and_named(self):
        said = StringIO()
        with redirect_stdout(said):
            status = paper(SimpleNamespace(weir="/none", runs=str(self.runs), wikitext="",
                                           names=["smollm2-quantize"], skip_sweeps=False))
        self.assertEqual(status, 0)
        self.assertIn("skipped", said.getvalue())


class Numbers(unittest.TestCase):
    def test_gradients_are_means_over_layers(self):
        self.assertEqual(path_gradients(record(0))["v"][:2], [4, 1])

    def test_geometric_mean(self):
        self.assertAlmostEqual(geometric_mean([1, 4]), 2)
        self.assertNotEqual(geometric_mean([0, 4]), geometric_mean([0, 4]))


if __name__ == "__main__":
    unittest.main()
