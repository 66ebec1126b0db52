"""Whether a series of measurements is level: the slope of a line through it, and the slope's confidence interval."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from scipy.stats import linregress

#: The number of means that a series is reduced to. Successive measurements depend on each other, so single values would
#: make the interval too narrow.
BLOCKS = 20

#: The confidence level of the interval.
CONFIDENCE = 0.95

HOUR_S = 3600.0


class Slope(NamedTuple):
    """A line through a series.

    Parameters:
      mean: of the series.
      per_hour: the rise in an hour.
      low, high: the confidence interval of `per_hour`.
      growth: the rise over the whole series, as a share of the mean.
      verdict: `level`, `rises` or `falls`.
    """

    mean: float
    per_hour: float
    low: float
    high: float
    growth: float
    verdict: str


def slope(times: Sequence[float], values: Sequence[float], *, share: float) -> Slope:
    """The line through a series, and whether it is level.

    It is level if the confidence interval of its slope contains 0, or if it changes over the whole series by at most
    `share` of the mean.

    Parameters:
      times: at least three, in seconds, ascending.
      values: one for each time.
    """
    means = block_means(times, values)
    if min(values) == max(values):
        # SciPy gives no interval for a constant series.
        return Slope(mean=values[0], per_hour=0.0, low=0.0, high=0.0, growth=0.0, verdict="level")
    line = linregress([at for at, _ in means], [value for _, value in means])
    margin = float(line.stderr * stdtrit(len(means) - 2, (1 + CONFIDENCE) / 2))
    low, high = line.slope - margin, line.slope + margin
    mean = statistics.fmean(values)
    change = line.slope * (times[-1] - times[0])
    if low <= 0 <= high or abs(change) <= share * abs(mean):
        verdict = "level"
    else:
        verdict = "rises" if line.slope > 0 else "falls"
    return Slope(
        mean=mean,
        per_hour=line.slope * HOUR_S,
        low=low * HOUR_S,
        high=high * HOUR_S,
        growth=change / mean if mean else 0.0,
        verdict=verdict,
    )


def block_means(times: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """The means of times and values in BLOCKS parts of equal length; in fewer parts if there are fewer values."""
    cuts = np.linspace(0, len(values), min(BLOCKS, len(values)) + 1).astype(int)
    return [
        (statistics.fmean(times[first:last]), statistics.fmean(values[first:last])) for first, last in pairwise(cuts)
    ]
