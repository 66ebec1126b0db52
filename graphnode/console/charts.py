"""Charts of the last hour as SVG: numbers from the database in, markup out. They need no script, and no colours.

Each bar says its numbers on hover, and each chart says its newest numbers in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from graphnode.storage.history import Minute

#: The size of a chart and of the space for its bars, in SVG's units.
WIDTH, HEIGHT = 360, 130
LEFT, TOP, RIGHT, BOTTOM = 44, 8, 6, 22

#: The labels below: minutes ago.
TICKS = (60, 45, 30, 15)


class Series(NamedTuple):
    """One number of each minute.

    Parameters:
      name: as the legend and the bars say it.
      look: the class of its bars in console.css.
      value: the number; None where there is none.
    """

    name: str
    look: str
    value: Callable[[Minute], float | None]


class Chart(NamedTuple):
    """A chart.

    Parameters:
      series: stacked from below if `is_stacked`; otherwise one before the other, the highest first.
      shown: a number with its unit.
    """

    title: str
    series: Sequence[Series]
    shown: Callable[[float], str]
    is_stacked: bool = True


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{value:.0%}"


def duration(value: float) -> str:
    """Seconds as a person says them."""
    for unit, seconds in (("d", 86_400), ("h", 3600), ("min", 60)):
        if value >= 2 * seconds:
            return f"{value / seconds:,.0f} {unit}"
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"


CHARTS = (
    Chart(
        "Results a minute",
        (Series("stored", "good", lambda at: at.stored), Series("failed", "bad", lambda at: at.failed)),
        _count,
    ),
    Chart(
        "Failed attempts",
        (Series("failed, of all attempts", "bad", lambda at: at.failure_rate),),
        _percent,
    ),
    Chart(
        "From request to stored result",
        (Series("95 % within", "slow", lambda at: at.slow_s), Series("half within", "good", lambda at: at.median_s)),
        duration,
        is_stacked=False,
    ),
)


def draw(chart: Chart, minutes: Sequence[Minute]) -> Markup:
    """The chart as an `svg` element."""
    rows = [[series.value(minute) for series in chart.series] for minute in minutes]
    together = sum if chart.is_stacked else max
    most = nice(max((together(value or 0 for value in row) for row in rows), default=0), chart.shown is _percent)
    width, height = (WIDTH - LEFT - RIGHT) / max(1, len(minutes)), HEIGHT - TOP - BOTTOM
    parts = [_axis(chart, most, height)]
    for index, (minute, row) in enumerate(zip(minutes, rows, strict=True)):
        bars, foot = [], 0.0
        for series, value in zip(chart.series, row, strict=True):
            if not value:
                continue
            tall = height * value / most
            bars.append(
                f'<rect class="{series.look}" x="{LEFT + index * width:.1f}" y="{TOP + height - foot - tall:.1f}" '
                f'width="{width * 0.8:.1f}" height="{tall:.1f}"/>'
            )
            foot += tall if chart.is_stacked else 0
        if bars:
            said = ", ".join(
                f"{chart.shown(value)} {series.name}"
                if chart.shown is _count
                else f"{series.name}: {chart.shown(value)}"
                for series, value in zip(chart.series, row, strict=True)
                if value is not None
            )
            parts.append(f"<g><title>{minute.at:%H:%M} UTC: {said}</title>{''.join(bars)}</g>")
    label = f"{chart.title} over the last hour. {words(chart, minutes)}"
    return Markup(  # noqa: S704 # nosec B704 # numbers and words of ours
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def words(chart: Chart, minutes: Sequence[Minute]) -> str:
    """What the newest whole minutes say."""
    if chart.shown is _count:
        return (
            "; ".join(f"{_count(sum(one.value(at) or 0 for at in minutes))} {one.name}" for one in chart.series) + "."
        )
    for minute in reversed(minutes):
        values = [(series, series.value(minute)) for series in chart.series]
        if any(value is not None for _, value in values):
            said = "; ".join(f"{one.name}: {chart.shown(value)}" for one, value in values if value is not None)
            return f"At {minute.at:%H:%M} UTC {said}."
    return "Nothing to show."


def nice(most: float, is_share: bool = False) -> float:
    """The end of an axis: a round number that is no less than the largest value."""
    if is_share:
        return next(end for end in (0.1, 0.25, 0.5, 1.0) if end >= min(most, 1.0))
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(end * power for end in (1, 2, 5, 10) if end * power >= most)


def _axis(chart: Chart, most: float, height: float) -> str:
    lines = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{TOP + height * (1 - part):.1f}" '
        f'y2="{TOP + height * (1 - part):.1f}"/>'
        f'<text class="value" x="{LEFT - 6}" y="{TOP + height * (1 - part) + 4:.1f}">{chart.shown(most * part)}</text>'
        for part in (0, 0.5, 1)
        if part != 0.5 or chart.shown is not _count or most >= 2
    )
    ticks = "".join(
        f'<text class="tick" x="{LEFT + (WIDTH - LEFT - RIGHT) * (60 - ago) / 60:.0f}" y="{HEIGHT - 5}">'
        f"&#8722;{ago} min</text>"
        for ago in TICKS
    )
    return lines + ticks
