"""Whether ours agrees with what a paper found: predicates in words, computed from collected data.

A claim is a list of conditions. A condition says in words what has to hold, and in how many cases
(seeds, layers) of how many it does. One rule makes the verdict of all:
  yes     every condition holds in every case
  no      no condition holds in more than half of its cases
  partly  else
A case without a number (NaN, null) does not hold.
"""

import math
from dataclasses import dataclass

from spread import median, number


@dataclass(frozen=True)
class Condition:
    words: str
    held: int
    cases: int

    @property
    def always(self):
        return self.held == self.cases

    @property
    def mostly(self):
        return 2 * self.held > self.cases


@dataclass(frozen=True)
class Verdict:
    answer: str  # yes, partly, no, not known
    conditions: tuple

    def sentence(self):
        """The predicate with its counts."""
        return "; ".join(f"{c.words} ({c.held} of {c.cases})" for c in self.conditions)


def condition(words, cases):
    """`cases`: a truth value each."""
    cases = list(cases)
    return Condition(words, sum(bool(case) for case in cases), len(cases))


def verdict(*conditions):
    known = [c for c in conditions if c.cases]
    if not known:
        return Verdict("not known", tuple(conditions))
    if all(c.always for c in known):
        answer = "yes" if len(known) == len(conditions) else "partly"
    elif not any(c.mostly for c in known):
        answer = "no"
    else:
        answer = "partly"
    return Verdict(answer, tuple(conditions))


def above(values, bound):
    return [number(v) > bound for v in values]


def below(values, bound):
    return [number(v) < bound for v in values]


def step_of(onset):
    """When an onset is reached; later than any step if never; NaN if it is not certain."""
    if isinstance(onset, (int, float)):
        return float(onset)
    return math.inf if onset == "never" else math.nan


def by(onsets, step):
    return [step_of(onset) <= step for onset in onsets]


def never(onsets):
    return [onset == "never" for onset in onsets]


def paired(group, reference, values, other):
    """Pairs of values of the same seed."""
    place = {seed: i for i, seed in enumerate(reference["seeds"])}
    return [(values[i], other[place[seed]]) for i, seed in enumerate(group["seeds"])
            if seed in place]


def largest(values_by_layer):
    """The largest of the layers, a seed each."""
    return [max((number(v) for v in layers), default=math.nan) for layers in values_by_layer]


def over_layers(values_by_layer, what=median):
    return [what(layers) for layers in values_by_layer]


def all_at_one_layer(profile, tests):
    """By seed: whether some layer meets all tests, {quantity: test}."""
    seeds = len(next(iter(profile.values())))
    found = []
    for seed in range(seeds):
        layers = range(len(profile[next(iter(tests))][seed]))
        found.append(any(all(test(number(profile[key][seed][layer]))
                             for key, test in tests.items()) for layer in layers))
    return found
