"""RESULTS.md and its figures are what the collected data make, byte for byte, twice."""

import unittest
from pathlib import Path

import matplotlib

import figures
from page import build, load, table, wrapped
from sections import slope, speed_rows

ROOT = Path(__file__).resolve().parents[2]


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.first = build(load(ROOT / "docs/results/data"))
        cls.second = build(load(ROOT / "docs/results/data"))

    def test_twice_the_same(self):
        self.assertEqual(self.first, self.second)

    def test_the_page_is_the_committed_one(self):
        self.assertEqual((ROOT / "RESULTS.md").read_text(), self.first[0],
                         "run `make results` and commit what it writes")

    def test_the_figures_are_the_committed_ones(self):
        there = {path.stem: path.read_text() for path in (ROOT / "docs/results").glob("*.svg")}
        self.assertEqual(sorted(there), sorted(self.first[1]))
        if not matplotlib.__version__.startswith(figures.MADE_WITH):
            self.skipTest(f"made with matplotlib {figures.MADE_WITH}")
        for name, svg in self.first[1].items():
            self.assertEqual(there[name], svg, name)

    def test_every_figure_is_shown_and_small(self):
        for name, svg in self.first[1].items():
            self.assertIn(f"(docs/results/{name}.svg)", self.first[0])
            self.assertLess(len(svg), 150_000, name)

    def test_collected_data_are_small_and_name_no_path(self):
        files = sorted((ROOT / "docs/results/data").glob("*.json"))
        self.assertLess(sum(path.stat().st_size for path in files), 600_000)
        for path in files:
            self.assertNotRegex(path.read_text(), r'["\s]/\w', path.name)

    def test_without_data_the_page_says_what_to_run(self):
        page, drawn = build({})
        self.assertEqual(drawn, {})
        self.assertIn("Not run yet", page)
        self.assertIn("weir sweep examples/experiments/backcopy.json --out runs/backcopy", page)


class Parts(unittest.TestCase):
    def test_tables(self):
        self.assertEqual(table(["a", "b"], [["1", "2"]]), "| a | b |\n| --- | ---: |\n| 1 | 2 |")

    def test_only_paragraphs_are_wrapped(self):
        text = wrapped("a " * 100 + "\n\n    code " + "b" * 150 + "\n\n- one\n  more\n- two")
        self.assertLess(max(map(len, text.split("\n\n")[0].splitlines())), 119)
        self.assertIn("    code " + "b" * 150, text)
        self.assertIn("- one more\n- two", text)

    def test_an_svg_has_short_numbers_and_names(self):
        svg = figures.clean('<metadata>x</metadata><g id="figure_1"><path d="M 1.23456 -0.001"/>'
                            '<use href="#m0123456789"/></g><text>0.001</text>')
        self.assertEqual(svg, '<g><path d="M 1.23 0"/><use href="#i0"/></g><text>0.001</text>')

    def test_a_slope_is_that_of_logarithms(self):
        self.assertAlmostEqual(slope([(1, 2), (10, 0.2), (100, 0.02)]), -1)

    def test_goals_are_read_from_the_bench(self):
        rows = speed_rows({"gemm_share_1t": 0.9, "peak_gib": 4}, ROOT / "bench/summary.cpp")
        by_name = {row[0]: row for row in rows}
        self.assertEqual(by_name["products of llama-0.1b, share of peak, 1 thread"][4], "yes")
        memory = by_name["peak memory of the llama-0.1b step, GiB"]
        self.assertTrue(memory[1].startswith("at most"))
        self.assertEqual(memory[4], "no")


if __name__ == "__main__":
    unittest.main()
