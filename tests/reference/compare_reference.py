"""What `weir compare` and the timeline of a report have to find, by NumPy and SciPy.

Writes tests/data/reference/compare.json:
  intervals[]  differences of pairs, the percentile interval of their bootstrapped median (Philox
               written out below), and the interval by all n^n resamples
  growth[]     points of growth curves, and the fit that SciPy's least_squares reaches from many starts
"""
import itertools
import json
import pathlib

import numpy as np
from scipy.optimize import least_squares

MASK = 0xFFFFFFFF


def philox(counter, key):
    """Philox4x32-10 of Salmon et al., SC 2011."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & MASK, key >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def draws(seed, stream, count, below):
    """Integers below a bound: two words make 64 bits; what would be biased is drawn again."""
    limit = (2**64 - 1) - (2**64 - 1) % below
    result, block, words = [], 0, []
    while len(result) < count:
        if not words:
            words = list(philox((block & MASK, block >> 32, stream & MASK, stream >> 32), seed))
            block += 1
        draw = (words[0] << 32) | words[1]
        words = words[2:]
        if draw < limit:
            result.append(draw % below)
    return result


def interval(differences, confidence, resamples, seed):
    x = np.array(differences)
    medians = [np.median(x[draws(seed, r, len(x), len(x))]) for r in range(resamples)]
    tail = (1 - confidence) / 2
    every = [np.median(x[list(i)]) for i in itertools.product(range(len(x)), repeat=len(x))]
    return {
        "differences": differences, "confidence": confidence, "resamples": resamples, "seed": seed,
        "median": float(np.median(x)),
        "low": float(np.quantile(medians, tail)), "high": float(np.quantile(medians, 1 - tail)),
        "all_low": float(np.quantile(every, tail)), "all_high": float(np.quantile(every, 1 - tail)),
    }


def curve(p, t):
    a, decay, gamma, t0, level = p
    x = gamma * t + t0
    return a * np.exp(-decay * x) * np.log(x) + level


def fit(steps, values, random):
    """The best of many starts, over the five parameters themselves (three as logarithms)."""
    scale = np.ptp(values) or 1

    def unpack(q):
        return [q[0] * scale, np.exp(q[1]), np.exp(q[2]), np.exp(q[3]), q[4] * scale]

    best = None
    for _ in range(100):
        start = [random.normal(0, 2), random.normal(-1, 2), np.log(random.choice([1, 10, 100]) / steps[-1]),
                 random.normal(0, 1), random.normal(0, 1)]
        found = least_squares(lambda q: (curve(unpack(q), steps) - values) / scale, start,
                              bounds=([-1e4, -20, -20, -12, -1e4], [1e4, 6, 6, 6, 1e4]), max_nfev=3000)
        if best is None or found.cost < best.cost:
            best = found
    parameters = np.array(unpack(best.x))
    residuals = curve(parameters, steps) - values
    return {"parameters": parameters.tolist(), "rmse": float(np.sqrt(np.mean(residuals**2))),
            "standard_errors": errors(parameters, steps, residuals).tolist()}


def errors(parameters, steps, residuals):
    """Roots of the diagonal of s^2 (J^T J)^-1, J by central differences."""
    columns = []
    for i, p in enumerate(parameters):
        step = np.zeros(5)
        step[i] = 1e-6 * abs(p)
        columns.append((curve(parameters + step, steps) - curve(parameters - step, steps)) / (2 * step[i]))
    jacobian = np.array(columns).T
    variance = np.sum(residuals**2) / (len(steps) - 5)
    return np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)) * variance)


def main():
    random = np.random.default_rng(7)
    steps = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1500, 2000, 2500, 3000, 4000], float)
    growth = []
    for parameters, noise in [([30, 0.25, 0.004, 1.2, 2.5], 0), ([30, 0.25, 0.004, 1.2, 2.5], 0.3),
                              ([-4, 0.05, 0.002, 1.5, 9], 0.05)]:
        values = curve(parameters, steps) + noise * random.normal(size=len(steps))
        growth.append({"steps": [int(s) for s in steps], "values": values.tolist(), "made_of": parameters,
                       "noise": noise, **fit(steps, values, random)})
    intervals = [interval([0.31, -0.12, 0.05], 0.95, 2000, 1),
                 interval([1.5, 0.25, 2.75, 0.5, -0.125, 1.0], 0.95, 2000, 1),
                 interval([0.1, 0.4, 0.2, 0.7, 0.3], 0.9, 1000, 12345678901)]
    path = pathlib.Path(__file__).parent.parent / "data/reference/compare.json"
    path.write_text(json.dumps({"intervals": intervals, "growth": growth}, indent=1) + "\n")


if __name__ == "__main__":
    main()
