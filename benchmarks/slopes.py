"""Whether a series of measurements is level: the slope of a line through it, and how sure that slope is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from scipy.stats import linregress

#: Into how many means the series is gathered. What is measured every few seconds depends on what came just before:
#: taken one by one, so many values would seem to say more than they do.
BLOCKS = 20

#: How sure the interval is.
CONFIDENCE = 0.95

HOUR_S = 3600.0


class Slope(NamedTuple):
    """A line through a series.

    Parameters:
      mean: of the series.
      per_hour: how much the line rises in an hour.
      low, high: between which that is, with CONFIDENCE.
      growth: how much the line rises over the whole series, as a share of the mean.
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

    It is, when the interval of its slope has 0 in it, or when it rises or falls over the whole series by less than a
    share of its mean.

    Parameters:
      times: seconds, ascending; at least three.
      values: as many.
      share: of the mean.
    """
    means = block_means(times, values)
    if min(values) == max(values):
        # SciPy knows no interval here.
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
    """The means of BLOCKS stretches of a series, each of as many measurements; of fewer, where there are fewer."""
    cuts = np.linspace(0, len(values), min(BLOCKS, len(values)) + 1).astype(int)
    return [
        (statistics.fmean(times[first:last]), statistics.fmean(values[first:last])) for first, last in pairwise(cuts)
    ]
