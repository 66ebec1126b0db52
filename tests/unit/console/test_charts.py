"""The charts of the last hour: well-formed SVG whose bars are as tall as their numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from graphnode.console.charts import CHARTS, Chart, draw, duration, nice, words
from graphnode.storage.history import Minute

START = datetime(2026, 5, 24, 10, 0, tzinfo=UTC)

QUIET = [Minute(at=START + timedelta(minutes=n)) for n in range(60)]
BUSY = [
    Minute(at=one.at, stored=n, failed=n % 3, retried=n % 5, given_up=0, median_s=n + 0.5, slow_s=n * 2 + 1.0)
    for n, one in enumerate(QUIET)
]


def bars(chart: Chart, minutes: list[Minute]) -> list[tuple[str, float]]:
    """The look and the height of each bar."""
    svg = ET.fromstring(draw(chart, minutes))
    return [(bar.attrib["class"], float(bar.attrib["height"])) for bar in svg.iter("rect")]


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.title)
class TestEachChart:
    def test_a_quiet_hour_has_no_bar(self, chart: Chart) -> None:
        assert bars(chart, QUIET) == []
        assert bars(chart, []) == []

    def test_it_says_its_newest_numbers_to_those_who_do_not_see_it(self, chart: Chart) -> None:
        svg = ET.fromstring(draw(chart, BUSY))

        assert svg.attrib["role"] == "img"
        assert chart.title in svg.attrib["aria-label"]
        assert words(chart, BUSY) in svg.attrib["aria-label"]

    def test_no_bar_leaves_the_picture(self, chart: Chart) -> None:
        for bar in ET.fromstring(draw(chart, BUSY)).iter("rect"):
            assert float(bar.attrib["y"]) >= 0
            assert float(bar.attrib["x"]) + float(bar.attrib["width"]) <= 360


def test_bars_are_stacked_to_the_scale_of_the_axis() -> None:
    minutes = [*QUIET[:-1], Minute(at=QUIET[-1].at, stored=30, failed=20)]

    (_, stored), (_, failed) = bars(CHARTS[0], minutes)

    assert (stored, failed) == (60.0, 40.0)
    assert words(CHARTS[0], minutes) == "30 stored; 20 failed."


@pytest.mark.parametrize(("most", "end"), [(0, 1), (1, 1), (1.5, 2), (3, 5), (7, 10), (10, 10), (42, 50), (1001, 2000)])
def test_an_axis_ends_at_a_round_number(most: float, end: float) -> None:
    assert nice(most) == end


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.05, "0.05 s"), (9.94, "9.9 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_a_duration_is_said_shortly(seconds: float, text: str) -> None:
    assert duration(seconds) == text
