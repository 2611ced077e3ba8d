"""Medians, quartiles and how numbers are written: nothing but the standard library."""

import math


def number(value):
    """A float; records write what is not finite as a text, null is NaN."""
    return math.nan if value is None else float(value)


def finite(values):
    return [number(v) for v in values if v is not None and math.isfinite(number(v))]


def quantile(values, share):
    """Linear between ranks, as numpy.quantile; NaN where any value is, or where there is none."""
    values = [number(v) for v in values]
    if not values or any(math.isnan(v) for v in values):
        return math.nan
    values = sorted(values)
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    if values[low] == values[high]:  # infinities have no difference
        return values[low]
    return values[low] + (place - low) * (values[high] - values[low])


def median(values):
    return quantile(values, 0.5)


def mean(values):
    values = [number(v) for v in values]
    return math.fsum(values) / len(values) if values else math.nan


def rounded(value, digits=5):
    """A number as collected data have it, with `digits` digits; None where it is not finite."""
    value = number(value)
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short


def rounded_all(values, digits=5):
    if isinstance(values, list):
        return [rounded_all(v, digits) for v in values]
    return rounded(values, digits)


def text(value, digits=3):
    """`digits` significant digits, without an exponent where that is short; - for no number."""
    value = number(value)
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.{max(digits - 2, 0)}e}"
    # Rounding may bring one more digit before the point: 9.999 is 10.0.
    value = float(f"{value:.{digits}g}")
    places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{places}f}"


def signed(value, digits=3):
    written = text(value, digits)
    return written if written in ("-", "0") or written.startswith("-") else "+" + written


def fixed(value, places=3):
    value = number(value)
    return f"{value:.{places}f}" if math.isfinite(value) else "-"


def span(values, write=text):
    """The median with the smallest and the largest: 1.83 (1.64 to 2.04)."""
    values = finite(values)
    if not values:
        return "-"
    if len(values) == 1:
        return write(values[0])
    return f"{write(median(values))} ({write(min(values))} to {write(max(values))})"
