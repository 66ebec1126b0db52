"""What scaling on the backlog a task does, beside target tracking on the number of visible messages: simulated days.

Four loads, each under three metrics of target tracking with the same bounds and cooldowns. Nothing is measured here:
the rate of a task is that of docs/scale.md, and CloudWatch, Application Auto Scaling and Fargate are what AWS documents
(benchmarks/target_tracking.py, benchmarks/fleet.py). With `--pictures`: the days as SVG files, into this directory.
"""

from __future__ import annotations

import argparse
import json
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
from benchmarks.target_tracking import TargetTracking

DAY_S = 86_400
HOUR_S = 3600
SEED = 1

#: Seconds that a result may take.
ACCEPTABLE_S = 60

#: How busy the tasks are meant to be: the rest is for what comes while a task is ordered and starts.
BUSY = 0.7

#: Seconds of a task's core that a result of the ordinary mix costs (docs/scale.md), and its eight threads' time for it.
MIX_MESSAGE_S = 0.0083
MIX_SERVICE_S = 8 * MIX_MESSAGE_S

#: Seconds that a graph of 100,000 edges with its features takes; a process stores one at a time (docs/broker.md,
#: *Big documents*): 1.5 s of it for the rows, the rest for reading 80 MB and for 10,000 embeddings. Not measured apart.
BIG_MESSAGE_S = 5.0

LEAST = 1
MOST = 20
OUT_COOLDOWN_S = 180
IN_COOLDOWN_S = 300


class Scaling(NamedTuple):
    """A way to scale.

    Parameters:
      name: what it is called.
      metric: what is followed, from a minute's datapoint.
      busy: which share of a task's rate the target asks for.
      least: tasks.
      message_s: seconds that a message is taken to cost; None: those of the load.
    """

    name: str
    metric: Callable[[Datapoint], float]
    busy: float = 1.0
    least: int = LEAST
    message_s: float | None = None


def visible(point: Datapoint) -> float:
    """The visible messages, however many tasks there are."""
    return point.visible


def backlog(point: Datapoint) -> float:
    """The messages that are there, a task."""
    return (point.visible + point.in_flight) / max(1, point.running)


def backlog_and_arrivals(point: Datapoint) -> float:
    """The messages to be done within the acceptable latency, a task: those that are there, and those that will come."""
    coming = point.sent / 60 * ACCEPTABLE_S
    return (point.visible + point.in_flight + coming) / max(1, point.running)


VISIBLE = Scaling("visible messages", visible)
BACKLOG = Scaling("backlog a task", backlog)
TEMPLATE = Scaling("backlog and arrivals a task", backlog_and_arrivals, busy=BUSY)

#: Under each load; and what else is tried with big graphs, which a queue with other results would have for a target.
SCALINGS = (VISIBLE, BACKLOG, TEMPLATE)
WITH_BIG_GRAPHS = (
    TEMPLATE._replace(name="the same from zero", least=0),
    TEMPLATE._replace(name="the same, mix's target", message_s=MIX_MESSAGE_S),
)


def loads() -> list[Load]:
    """The four days."""
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
    """How a load is scaled, in turn."""
    return SCALINGS + WITH_BIG_GRAPHS if load.name == "big graphs" else SCALINGS


def hours(start: float, end: float) -> range:
    """The seconds of the day between two hours."""
    return range(int(start * HOUR_S), int(end * HOUR_S))


def simulate(load: Load, scaling: Scaling) -> Day:
    """A day of this load under this scaling."""
    target = scaling.busy * ACCEPTABLE_S / (scaling.message_s or load.message_s)
    policy = TargetTracking(
        target=target, least=scaling.least, most=MOST, out_cooldown_s=OUT_COOLDOWN_S, in_cooldown_s=IN_COOLDOWN_S
    )
    return run(load, scaling.metric, policy, seed=SEED)


def percentile(latencies: Counter[float], share: float) -> float:
    """The latency that this share of the messages did not exceed."""
    left = math.ceil(sum(latencies.values()) * share)
    for latency in sorted(latencies):
        left -= latencies[latency]
        if left <= 0:
            return latency
    raise ValueError("no message was handled")


def figures(load: Load, scaling: Scaling, day: Day) -> dict[str, str | float]:
    """What is told of a day."""
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
    """Simulate, and print the figures as one line of JSON, or as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoscale", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    parser.add_argument("--pictures", type=Path, help="draw the days into this directory")
    options = parser.parse_args()
    told: list[dict[str, str | float]] = []
    for load in loads():
        scalings = scalings_of(load)
        days = {scaling.name: simulate(load, scaling) for scaling in scalings}
        rows = [figures(load, scaling, days[scaling.name]) for scaling in scalings]
        told += rows
        if options.pictures:
            path = options.pictures / f"scaling-{load.name.replace(' ', '-')}.svg"
            path.write_text(day_picture(load, days, rows, limit_s=ACCEPTABLE_S), encoding="utf-8")
    if options.pictures:
        (options.pictures / "scaling-cost.svg").write_text(
            summary_picture(told, limit_s=ACCEPTABLE_S), encoding="utf-8"
        )
    if not options.json:
        widths = {name: max(len(name), *(len(str(row[name])) for row in told)) for name in told[0]}
        print("  ".join(f"{name:>{width}}" for name, width in widths.items()))  # noqa: T201
        for row in told:
            print("  ".join(f"{row[name]:>{width}}" for name, width in widths.items()))  # noqa: T201
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    main()
