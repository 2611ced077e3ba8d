"""Quantiles, written numbers and the rule that makes a verdict, by hand."""

import math
import unittest

from agreement import (above, all_at_one_layer, below, condition, largest, paired, step_of, verdict)
from spread import fixed, mean, median, quantile, rounded, rounded_all, signed, span, text


class Spread(unittest.TestCase):
    def test_quantiles_are_linear_between_ranks(self):
        self.assertEqual(median([3, 1, 2]), 2)
        self.assertEqual(median([4, 1, 2, 3]), 2.5)
        self.assertEqual(quantile([1, 2, 3, 4], 0.25), 1.75)  # as numpy.quantile
        self.assertEqual(quantile([1, 2, 3, 4], 0.75), 3.25)
        self.assertEqual(quantile([5], 0.75), 5)
        self.assertEqual(quantile([1, math.inf, math.inf], 0.75), math.inf)

    def test_what_is_not_there_makes_a_quantile_nan(self):
        self.assertTrue(math.isnan(median([])))
        self.assertTrue(math.isnan(median([1, None])))
        self.assertTrue(math.isnan(median([1, "NaN"])))

    def test_mean(self):
        self.assertEqual(mean([1, 2, 6]), 3)
        self.assertTrue(math.isnan(mean([])))

    def test_numbers_are_written_with_three_digits(self):
        for value, written in ((0, "0"), (1.6772, "1.68"), (0.03704, "0.0370"), (372.4, "372"),
                               (9.999, "10.0"), (12345.6, "12,300"), (-2.5, "-2.50"),
                               (0.00001234, "1.2e-05"), (None, "-"), ("NaN", "-"), (math.inf, "-")):
            self.assertEqual(text(value), written)
        self.assertEqual(signed(0.5), "+0.500")
        self.assertEqual(signed(-0.5), "-0.500")
        self.assertEqual(fixed(1.6772), "1.677")
        self.assertEqual(fixed(None), "-")

    def test_a_span_is_the_median_with_the_ends(self):
        self.assertEqual(span([2, 1, 3]), "2.00 (1.00 to 3.00)")
        self.assertEqual(span([2]), "2.00")
        self.assertEqual(span([2, None]), "2.00")
        self.assertEqual(span([]), "-")

    def test_collected_numbers_are_short(self):
        self.assertEqual(rounded(1.23456789), 1.2346)
        self.assertEqual(rounded(3.0), 3)
        self.assertIsNone(rounded(math.nan))
        self.assertIsNone(rounded("Infinity"))
        self.assertEqual(rounded_all([[1.11111, None]], 2), [[1.1, None]])


class Agreement(unittest.TestCase):
    def test_yes_needs_every_condition_in_every_case(self):
        both = condition("a", [True, True]), condition("b", [True])
        self.assertEqual(verdict(*both).answer, "yes")
        self.assertEqual(verdict(condition("a", [True, True]), condition("b", [])).answer, "partly")

    def test_no_has_no_condition_in_more_than_half(self):
        both = condition("a", [True, False]), condition("b", [False])
        self.assertEqual(verdict(*both).answer, "no")

    def test_partly_is_what_is_left(self):
        self.assertEqual(verdict(condition("a", [True, True, False])).answer, "partly")
        self.assertEqual(verdict(condition("a", [True]), condition("b", [False])).answer, "partly")

    def test_without_data_nothing_is_known(self):
        self.assertEqual(verdict().answer, "not known")
        self.assertEqual(verdict(condition("a", [])).answer, "not known")

    def test_the_sentence_has_the_counts(self):
        self.assertEqual(verdict(condition("a", [True, False]), condition("b", [True])).sentence(),
                         "a (1 of 2); b (1 of 1)")

    def test_what_is_not_a_number_holds_nothing(self):
        self.assertEqual(above([1, None, 3], 2), [False, False, True])
        self.assertEqual(below([1, "NaN", 3], 2), [True, False, False])

    def test_onsets(self):
        self.assertEqual(step_of(64), 64)
        self.assertEqual(step_of("never"), math.inf)
        self.assertTrue(math.isnan(step_of("uncertain")))

    def test_pairs_are_those_of_one_seed(self):
        own, other = {"seeds": [1, 3]}, {"seeds": [3, 2, 1]}
        self.assertEqual(paired(own, other, ["a", "b"], ["x", "y", "z"]), [("a", "z"), ("b", "x")])

    def test_layers(self):
        self.assertEqual(largest([[1, 3], [5, 4]]), [3, 5])
        profile = {"a": [[1, 0], [1, 1]], "b": [[0, 1], [0, 1]]}
        both = {"a": lambda v: v > 0.5, "b": lambda v: v > 0.5}
        self.assertEqual(all_at_one_layer(profile, both), [False, True])


if __name__ == "__main__":
    unittest.main()
