"""The ordinary mix at 70 % of this machine's highest rate for half an hour: which figures grow, and which stay level?

First the highest rate (the ceiling) is measured as in `benchmarks/scale.py`, with two processes of 8 threads. Then 70 %
of it is sent at a steady rate, whether or not the worker keeps up. Every few seconds the benchmark samples the memory,
threads and file descriptors of each process, the connections and the size of the database, and the messages on the
queues. The times of the commits give throughput and latency. At the end it fits a line through each series. Pushes go
to the stub of FCM. Rows that are some minutes old are deleted, so that the database does not grow. SIGINT (Ctrl-C) and
SIGTERM end the run early; it then prints the figures so far.
"""

from __future__ import annotations

import math
import os
import signal
import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import psutil
from psycopg2.extensions import connection

from benchmarks import mix
from benchmarks.fcm_stub import FcmServer
from benchmarks.output import option_parser, report, tell
from benchmarks.servers import add_devices, keep_commit_times
from benchmarks.slopes import Slope, slope
from benchmarks.traffic import Handled, Traffic, levels_of, percentile_ms
from graphnode.dev.child_processes import Worker
from graphnode.dev.outcomes import reading, rows
from graphnode.dev.stack import environment_of

MINUTES = 30.0
SHARE_OF_CEILING = 0.7
PROCESSES, THREADS = 2, 8

#: Measurements of the ceiling. Their median is used.
CEILINGS = 3

#: Seconds between two samples, and between two lines of progress.
SAMPLE_S = 5.0
TELL_S = 60.0

#: The first part of the run, which is warm-up, as a share of it.
WARM_UP_SHARE = 0.2

#: Seconds until the rows of a result are deleted: longer than a redelivery of its message can take.
KEPT_S = 150

#: A figure is level if it changes by at most this share of its mean over the run. Figures of speed may change more,
#: because other work on the machine changes them as well.
LEVEL_SHARE = 0.02
LEVEL_SHARE_OF_SPEED = 0.1
SPEED = ("per_second", "p50_ms", "p95_ms", "results_waiting", "pushes_waiting")

#: Seconds at the end until all results must be committed.
PATIENCE_S = 300.0

DATABASE_FIGURES = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'graphnode'),
       pg_database_size(current_database()) / 1e6, (SELECT count(*) FROM notifications WHERE due_at IS NOT NULL)
"""

#: Deletes the graphs of new users, the workspaces and the notifications. Tasks are deleted when they are counted.
PRUNE = (
    "DELETE FROM graphs WHERE user_id LIKE %(made)s AND updated_at < now() - %(kept)s",
    "DELETE FROM microscope_workspaces WHERE id LIKE %(made)s AND completed_at < now() - %(kept)s",
    "DELETE FROM notifications WHERE due_at IS NULL AND created_at < now() - %(kept)s",
)


class Sample(NamedTuple):
    """The figures at one moment.

    Parameters:
      at: monotonic seconds.
      load: the machine's load average of the last minute, including other work.
      figures: by name.
    """

    at: float
    load: float
    figures: dict[str, float]


def main() -> None:
    """Measure, and print the figures; exit code 1 if a figure gets worse, or a result is lost or applied twice."""
    parser = option_parser("soak", __doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"length of the run (default: {MINUTES:.0f})")
    options = parser.parse_args()
    figures = measure(options.minutes)
    slopes = figures["slopes"]
    lines = [
        f"{'':<22}" + "".join(f"{column:>12}" for column in Slope._fields),
        *(f"{name:<22}" + "".join(f"{value:>12}" for value in found.values()) for name, found in slopes.items()),
        *(f"{name:<22}{figure}" for name, figure in figures.items() if figure is not slopes),
    ]
    report(figures, as_json=options.json, lines=lines)
    sys.exit(0 if figures["holds"] else 1)


def measure(minutes: float) -> dict[str, Any]:
    """All figures of a run of this length."""
    with mix.running_servers() as (localstack, postgres), FcmServer() as fcm:
        keep_commit_times(postgres)
        add_devices(postgres.url, mix.USER_IDS)
        found = [
            mix.measure(localstack, postgres, processes=PROCESSES, settings=fcm.environment).results_per_second
            for _ in range(CEILINGS)
        ]
        ceiling = statistics.median(found)
        rate = SHARE_OF_CEILING * ceiling
        tell(f"ceiling {ceiling:.1f} results/s; offering {rate:.1f} for {minutes:g} minutes")
        prefix = f"soak-{next(mix.NUMBERS)}"
        environment = environment_of(localstack, database_url=postgres.url, prefix=prefix)
        traffic = Traffic(environment | fcm.environment, prefix)
        pushes: Counter[str] = Counter()
        # These are the pushes of the ceiling's measurements.
        fcm.messages.clear()
        with Worker(traffic.environment, processes=PROCESSES, threads=THREADS) as worker:
            worker.wait_until_ready()
            ended = threading.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: ended.set())
            with reading(postgres.url) as database, traffic.flowing(rate):
                began, began_at = time.monotonic(), time.time()
                samples = watch(traffic, worker, fcm, database, pushes, seconds=60 * minutes, ended=ended)
            ended_at = time.time()
            traffic.wait_until_handled(timeout_s=PATIENCE_S)
            traffic.take_handled()
            pushes.update(fcm.times_taken())
            dead = traffic.dead_letters()
            levels = levels_of(worker.log.text())
    series = {**by_name(samples, began), **speed(traffic.handled, began_at, ended_at)}
    slopes = {name: verdict(name, times, values) for name, (times, values) in series.items()}
    not_level = [name for name, found in slopes.items() if found.verdict != "level"]
    # Throughput gets worse when it falls, everything else when it rises.
    worse = [name for name in not_level if slopes[name].verdict == ("falls" if name == "per_second" else "rises")]
    lost, twice = len(traffic.sent), traffic.unexpected
    return {
        "minutes": round((ended_at - began_at) / 60, 1),
        "ceiling_per_second": round(ceiling, 1),
        "ceilings_per_second": [round(rate, 1) for rate in found],
        "offered_per_second": round(rate, 1),
        "load_average": round(statistics.fmean(sample.load for sample in samples), 1),
        "load_average_max": round(max(sample.load for sample in samples), 1),
        "sent": traffic.count,
        "handled": len(traffic.handled),
        "lost": lost,
        "applied_twice": twice,
        "pushes": sum(pushes.values()),
        "pushed_twice": sum(times - 1 for times in pushes.values()),
        "dead_letters": dead,
        "log_errors": levels["error"],
        "log_warnings": levels["warning"],
        "p50_ms": round(percentile_ms(traffic.handled, 50), 1),
        "p95_ms": round(percentile_ms(traffic.handled, 95), 1),
        "slopes": {name: shown(found) for name, found in slopes.items()},
        "not_level": not_level,
        "worse": worse,
        "holds": not (worse or lost or twice or dead),
    }


def watch(
    traffic: Traffic,
    worker: Worker,
    fcm: FcmServer,
    database: connection,
    pushes: Counter[str],
    *,
    seconds: float,
    ended: threading.Event,
) -> list[Sample]:
    """Take samples for `seconds`, or until `ended` is set, and delete old rows.

    Parameters:
      pushes: counts the pushes that FCM accepted, by notification ID.
    """
    processes = {"main": psutil.Process(worker.pid)}
    children = processes["main"].children()
    forks = [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
    processes |= {f"worker_{number}": child for number, child in enumerate(forks, start=1)}
    samples: list[Sample] = []
    began = told = time.monotonic()
    while (now := time.monotonic()) - began < seconds and not ended.is_set():
        samples.append(Sample(now, os.getloadavg()[0], look(traffic, processes, database)))
        traffic.take_handled(age_s=KEPT_S)
        for statement in PRUNE:
            with database.cursor() as cursor:
                cursor.execute(statement, {"made": f"{traffic.prefix}-%", "kept": timedelta(seconds=KEPT_S)})
        pushes.update(fcm.times_taken())
        fcm.messages.clear()
        if now - told >= TELL_S:
            told = now
            latest = ", ".join(f"{name} {figure:.0f}" for name, figure in samples[-1].figures.items())
            tell(f"{(now - began) / 60:.0f} min: {traffic.count} sent, {latest}")
        ended.wait(began + len(samples) * SAMPLE_S - time.monotonic())
    return samples


def look(traffic: Traffic, processes: Mapping[str, psutil.Process], database: connection) -> dict[str, float]:
    """The figures of now."""
    ((connections, database_mb, pushes_waiting),) = rows(database, DATABASE_FIGURES)
    figures = {
        "results_waiting": traffic.depth("SQS_RESULT_QUEUE_URL"),
        "pushes_waiting": pushes_waiting,
        "connections": connections,
        "database_mb": float(database_mb),
    }
    for name, process in processes.items():
        with process.oneshot():
            figures |= {
                f"{name}_rss_mb": process.memory_info().rss / 1e6,
                f"{name}_threads": process.num_threads(),
                f"{name}_fds": process.num_fds(),
            }
    return figures


def by_name(samples: Sequence[Sample], began: float) -> dict[str, tuple[list[float], list[float]]]:
    """The series of each figure: its times in seconds, and its values."""
    times = [sample.at - began for sample in samples]
    return {name: (times, [sample.figures[name] for sample in samples]) for name in samples[0].figures}


def speed(handled: Sequence[Handled], began_at: float, ended_at: float) -> dict[str, tuple[list[float], list[float]]]:
    """The series of throughput and latency, by the times of the commits.

    A stretch without commits has a throughput of 0, and no latency.
    """
    stretches: dict[int, list[Handled]] = defaultdict(list)
    for one in handled:
        stretches[math.floor((one.committed_at - began_at) / SAMPLE_S)].append(one)
    whole = range(math.floor((ended_at - began_at) / SAMPLE_S))
    times = [(number + 0.5) * SAMPLE_S for number in whole]
    busy = [number for number in whole if stretches[number]]
    return {
        "per_second": (times, [len(stretches[number]) / SAMPLE_S for number in whole]),
        **{
            f"p{percent}_ms": (
                [times[number] for number in busy],
                [percentile_ms(stretches[number], percent) for number in busy],
            )
            for percent in (50, 95)
        },
    }


def verdict(name: str, times: Sequence[float], values: Sequence[float]) -> Slope:
    """The line through the values after the warm-up."""
    first = next(number for number, at in enumerate(times) if at >= WARM_UP_SHARE * times[-1])
    share = LEVEL_SHARE_OF_SPEED if name in SPEED else LEVEL_SHARE
    return slope(times[first:], values[first:], share=share)


def shown(found: Slope) -> dict[str, Any]:
    """The fields of a line, rounded for printing."""
    return {name: value if isinstance(value, str) else round(value, 4) for name, value in found._asdict().items()}


if __name__ == "__main__":
    main()
