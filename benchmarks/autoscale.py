"""Simulated days of scaling on AWS by three metrics: visible messages, backlog per task, backlog and arrivals per task.

Each of four loads is simulated under three metrics with the same bounds and cooldowns. Nothing is measured here: the
rate of a task comes from docs/scale.md, the rules of CloudWatch, Application Auto Scaling and Fargate from AWS's
documentation (benchmarks/target_tracking.py, benchmarks/fleet.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.charts import day_picture, summary_picture
from benchmarks.fleet import Datapoint, Day, Load, run
from benchmarks.output import option_parser, report
from benchmarks.target_tracking import TargetTracking

DAY_S = 86_400
HOUR_S = 3600
SEED = 1

#: The acceptable latency in seconds.
ACCEPTABLE_S = 60

#: The target utilization of the tasks. The rest is for messages that arrive while a new task starts.
BUSY = 0.7

#: Seconds of a core for a result of the ordinary mix (docs/scale.md), and seconds from its start to its end.
MIX_MESSAGE_S = 0.0083
MIX_SERVICE_S = 8 * MIX_MESSAGE_S

#: Seconds for a graph of 100,000 edges with its features. A process stores one at a time (docs/broker.md, *Big
#: documents*). 1.5 s are for the rows; the rest, 80 MB to read and 10,000 embeddings to store, is an estimate.
BIG_MESSAGE_S = 5.0

LEAST = 1
MOST = 20
OUT_COOLDOWN_S = 180
IN_COOLDOWN_S = 300


class Scaling(NamedTuple):
    """A metric and a target.

    Parameters:
      name: of the scaling.
      metric: computed from a datapoint.
      busy: the target utilization of a task.
      least: the smallest number of tasks.
      message_s: seconds for a message that the target assumes; None for those of the load.
    """

    name: str
    metric: Callable[[Datapoint], float]
    busy: float = 1.0
    least: int = LEAST
    message_s: float | None = None


def visible(point: Datapoint) -> float:
    """The visible messages."""
    return point.visible


def backlog(point: Datapoint) -> float:
    """The messages on the queue, per task."""
    return (point.visible + point.in_flight) / max(1, point.running)


def backlog_and_arrivals(point: Datapoint) -> float:
    """The messages to handle within the acceptable latency, per task: those on the queue and those that will arrive."""
    coming = point.sent / 60 * ACCEPTABLE_S
    return (point.visible + point.in_flight + coming) / max(1, point.running)


VISIBLE = Scaling("visible messages", visible)
BACKLOG = Scaling("backlog per task", backlog)
TEMPLATE = Scaling("backlog and arrivals per task", backlog_and_arrivals, busy=BUSY)

#: The scalings of each load, and two more for big graphs: from zero tasks, and with the target of the ordinary mix.
SCALINGS = (VISIBLE, BACKLOG, TEMPLATE)
WITH_BIG_GRAPHS = (
    TEMPLATE._replace(name="the same from zero", least=0),
    TEMPLATE._replace(name="the same, mix's target", message_s=MIX_MESSAGE_S),
)


def loads() -> list[Load]:
    """The four loads."""
    random = np.random.default_rng(SEED)
    second = np.arange(DAY_S)

    def came(rate: NDArray[np.float64]) -> list[int]:
        return [int(count) for count in random.poisson(rate)]

    diurnal = 510 - 490 * np.cos(2 * np.pi * second / DAY_S)
    burst = np.where((second >= 12 * HOUR_S) & (second < 12 * HOUR_S + 600), 1000.0, 20.0)
    outage = np.full(DAY_S, 200.0)
    big = came(np.full(DAY_S, 1 / 120))
    big[10 * HOUR_S] += 200
    big[15 * HOUR_S] += 300
    mix = partial(Load, message_s=MIX_MESSAGE_S, service_s=MIX_SERVICE_S)
    return [
        mix("diurnal", came(diurnal), shown=hours(4, 13)),
        mix("burst", came(burst), shown=hours(11.75, 13.5)),
        mix("outage", came(outage), outage=hours(10, 12), shown=hours(9.5, 14.5)),
        Load("big graphs", big, message_s=BIG_MESSAGE_S, service_s=BIG_MESSAGE_S, shown=hours(9.5, 16.5)),
    ]


def scalings_of(load: Load) -> tuple[Scaling, ...]:
    """The scalings of a load."""
    return SCALINGS + WITH_BIG_GRAPHS if load.name == "big graphs" else SCALINGS


def hours(start: float, end: float) -> range:
    """The seconds of a day between two hours."""
    return range(int(start * HOUR_S), int(end * HOUR_S))


def simulate(load: Load, scaling: Scaling) -> Day:
    """Simulate a day of this load under this scaling."""
    target = scaling.busy * ACCEPTABLE_S / (scaling.message_s or load.message_s)
    policy = TargetTracking(
        target=target, least=scaling.least, most=MOST, out_cooldown_s=OUT_COOLDOWN_S, in_cooldown_s=IN_COOLDOWN_S
    )
    return run(load, scaling.metric, policy, seed=SEED)


def percentile(latencies: Counter[float], share: float) -> float:
    """The latency that this share of the messages did not exceed. Raises ValueError without messages."""
    left = math.ceil(sum(latencies.values()) * share)
    for latency in sorted(latencies):
        left -= latencies[latency]
        if left <= 0:
            return latency
    raise ValueError("no message was handled")


def figures(load: Load, scaling: Scaling, day: Day) -> dict[str, str | float]:
    """The figures of a day."""
    handled = sum(day.latencies.values())
    in_time = sum(count for latency, count in day.latencies.items() if latency <= ACCEPTABLE_S)
    return {
        "load": load.name,
        "scaling": scaling.name,
        "messages": sum(load.arrivals),
        "handled": handled,
        "p50_s": round(percentile(day.latencies, 0.5), 2),
        "p95_s": round(percentile(day.latencies, 0.95), 2),
        "max_s": round(max(day.latencies), 2),
        "in_time": round(in_time / handled, 4),
        "most_tasks": max(minute.tasks for minute in day.minutes),
        "task_hours": round(day.task_s / HOUR_S, 1),
        "cost_a_day": round(day.cost, 2),
        "scale_ins": day.scale_ins,
        "scale_ins_that_met_work": day.met_work,
        "cut_short": day.cut_short,
    }


def main() -> None:
    """Simulate, and print the figures."""
    parser = option_parser("autoscale", __doc__)
    parser.add_argument("--pictures", type=Path, metavar="DIRECTORY", help="write pictures of the days as SVG files")
    options = parser.parse_args()
    rows: list[dict[str, str | float]] = []
    for load in loads():
        days = {scaling.name: simulate(load, scaling) for scaling in scalings_of(load)}
        of_load = [figures(load, scaling, days[scaling.name]) for scaling in scalings_of(load)]
        rows += of_load
        if options.pictures:
            path = options.pictures / f"scaling-{load.name.replace(' ', '-')}.svg"
            path.write_text(day_picture(load, days, of_load, limit_s=ACCEPTABLE_S), encoding="utf-8")
    if options.pictures:
        path = options.pictures / "scaling-cost.svg"
        path.write_text(summary_picture(rows, limit_s=ACCEPTABLE_S), encoding="utf-8")
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in rows[0]}
    header = "  ".join(f"{name:>{width}}" for name, width in widths.items())
    lines = [header, *("  ".join(f"{row[name]:>{width}}" for name, width in widths.items()) for row in rows)]
    report(rows, as_json=options.json, lines=lines)


if __name__ == "__main__":
    main()
