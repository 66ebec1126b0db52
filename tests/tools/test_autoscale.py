"""`benchmarks.autoscale`: AWS's rules, the figures of a simulated day, and the same figures in docs/scaling.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import autoscale
from benchmarks.charts import day_picture, summary_picture
from benchmarks.fleet import START_S, Load, run
from benchmarks.target_tracking import TargetTracking

DOCUMENT = Path(__file__).parents[2] / "docs/scaling.md"


def policy(*, least: int = 1, most: int = 20) -> TargetTracking:
    return TargetTracking(target=100, least=least, most=most, out_cooldown_s=180, in_cooldown_s=300)


def steady(rate: int, *, seconds: int = 7200, service_s: float = 0.08, message_s: float = 0.01, **more: Any) -> Load:
    return Load("steady", [rate] * seconds, message_s=message_s, service_s=service_s, **more)


@pytest.fixture(scope="module")
def figures() -> list[dict[str, str | float]]:
    return [
        autoscale.figures(load, scaling, autoscale.simulate(load, scaling))
        for load in autoscale.loads()
        for scaling in autoscale.scalings_of(load)
    ]


class TestTargetTracking:
    @pytest.mark.parametrize(
        ("datapoints", "capacity"),
        [
            ([500, 500], 2),
            ([500, 90, 500], 2),
            ([500, 500, 500], 10),
            ([500, 500, 101], 3),
            ([500, 500, 9000], 20),
            ([50] * 14, 2),
            ([50] * 15, 1),
            ([95] * 15, 2),
            ([50] * 14 + [100], 2),
        ],
    )
    def test_a_step_needs_three_datapoints_up_and_fifteen_down(
        self, datapoints: Sequence[float], capacity: int
    ) -> None:
        assert policy().decide(0, 2, datapoints) == capacity

    def test_within_the_cooldown_a_larger_step_counts_from_what_was_there_before(self) -> None:
        tracking = policy()

        assert tracking.decide(0, 2, [300] * 3) == 6
        assert tracking.decide(60, 6, [300] * 3) == 6
        assert tracking.decide(120, 6, [400] * 3) == 8
        assert tracking.decide(180, 8, [200] * 3) == 16

    def test_steps_down_wait_for_the_last_one_up_and_down(self) -> None:
        tracking = policy()

        assert tracking.decide(0, 2, [500] * 3) == 10
        assert tracking.decide(120, 10, [50] * 15) == 10
        assert tracking.decide(180, 10, [50] * 15) == 5
        assert tracking.decide(420, 5, [50] * 15) == 5
        assert tracking.decide(480, 5, [10] * 15) == 1


class TestFleet:
    def test_each_message_is_handled_once_and_has_a_latency(self) -> None:
        load = steady(50)
        day = run(load, autoscale.backlog, policy(), seed=1)

        assert sum(day.latencies.values()) == sum(load.arrivals)
        assert set(day.latencies) == {load.service_s}
        assert day.task_s == len(load.arrivals)

    def test_what_one_task_cannot_do_waits_until_more_have_started(self) -> None:
        day = run(steady(150), autoscale.backlog, policy(), seed=1)

        # three datapoints, the delay of the third, and the start: until then the backlog grows by 50 a second
        waited = 3 * 60 + 60 + START_S
        assert max(day.latencies) == pytest.approx(waited / 3, abs=40)
        assert day.minutes[waited // 60 + 1].tasks > 1

    def test_a_stop_waits_for_what_runs_and_cuts_short_what_takes_longer_than_it_may(self) -> None:
        arrivals = [400] + [0] * 7199 + [1] * 40 + [0] * 200
        loads = [Load("rare", arrivals, message_s=s, service_s=s) for s in (10.0, 200.0)]
        quick, slow = (run(load, lambda point: point.visible, policy(), seed=1) for load in loads)

        assert quick.scale_ins
        assert not quick.cut_short
        assert slow.cut_short == slow.met_work > 0

    def test_from_zero_the_first_message_starts_a_task(self) -> None:
        load = Load("rare", [0] * 3600 + [1] + [0] * 3599, message_s=5.0, service_s=5.0)
        day = run(load, autoscale.backlog, policy(least=0), seed=1)

        assert day.minutes[50].tasks == 0
        assert sum(day.latencies.values()) == 1
        assert START_S < min(day.latencies) < 4 * 60 + START_S

    def test_in_an_outage_nothing_is_handled_and_nothing_lost(self) -> None:
        load = steady(50, outage=range(600, 1200))
        day = run(load, autoscale.backlog, policy(), seed=1)

        assert sum(day.latencies.values()) == sum(load.arrivals)
        assert max(day.latencies) == pytest.approx(600 + load.service_s)


class TestDays:
    def test_the_document_has_the_figures_of_each_day(self, figures: list[dict[str, str | float]]) -> None:
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in re.findall(r"^\|.*\|$", DOCUMENT.read_text(), re.M)
        ]
        said = {(row[0], row[1]): row[2:] for row in rows if len(row) == 9}

        for day in figures:
            cells = [float(re.sub(r"[ s%$,]", "", cell)) for cell in said[str(day["load"]), str(day["scaling"])]]
            found = [day[name] for name in ("p50_s", "p95_s", "max_s", "in_time", "task_hours", "cost_a_day")]
            found[3] = float(found[3]) * 100
            assert cells[:6] == pytest.approx(found, rel=0.02, abs=0.05)

    def test_the_templates_scaling_is_never_later_than_the_others_nor_dearer_by_a_tenth(
        self, figures: list[dict[str, str | float]]
    ) -> None:
        for load in autoscale.loads():
            ours, *others = sorted(
                (
                    day
                    for day in figures
                    if day["load"] == load.name and day["scaling"] in {s.name for s in autoscale.SCALINGS}
                ),
                key=lambda day: day["scaling"] != autoscale.TEMPLATE.name,
            )
            assert all(float(ours["in_time"]) >= float(other["in_time"]) - 0.001 for other in others)
            assert all(float(ours["cost_a_day"]) <= float(other["cost_a_day"]) * 1.1 for other in others)

    def test_no_scaling_in_cuts_work_short(self, figures: list[dict[str, str | float]]) -> None:
        assert sum(float(day["scale_ins"]) for day in figures) > 100
        assert not [day for day in figures if day["cut_short"]]

    def test_pictures_are_svg_that_says_what_it_shows_in_words(self, figures: list[dict[str, str | float]]) -> None:
        load = steady(150)._replace(name="burst", shown=range(3600))
        days = {scaling.name: run(load, scaling.metric, policy(), seed=1) for scaling in autoscale.SCALINGS}
        rows = [autoscale.figures(load, scaling, days[scaling.name]) for scaling in autoscale.SCALINGS]

        for picture in (day_picture(load, days, rows, limit_s=60), summary_picture(figures, limit_s=60)):
            description = ElementTree.fromstring(picture).findtext("{*}desc")
            assert description is not None
            assert all(scaling.name in description for scaling in autoscale.SCALINGS)
            assert "nan" not in picture
