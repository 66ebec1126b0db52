"""A burst of 50 times the steady rate: is each result handled once, and when is the latency normal again?

One process of 8 threads gets ten results of the ordinary mix a second, then 500 a second for five seconds, then ten
again. Pushes go to the stub of FCM. A result's latency is the time from its send to its commit. It is compared in
stretches of three seconds, by their 95th percentile: the latency is normal again from the first stretch on after which
every stretch is at most 1.5 times the worst one before the burst.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import mix
from benchmarks.fcm_stub import FcmServer
from benchmarks.output import option_parser, report, tell
from benchmarks.servers import add_devices, keep_commit_times
from benchmarks.traffic import Handled, Traffic, levels_of, percentile_ms, record_effects
from graphnode.dev.child_processes import Worker
from graphnode.dev.outcomes import reading, rows
from graphnode.dev.stack import environment_of
from graphnode.storage.notifications import STORED_ONLY

RATE, TIMES, BURST_S = 10, 50, 5
PROCESSES, THREADS = 1, 8

#: Seconds of the steady rate: before it is measured, while it is measured, and after the burst is drained.
WARM_UP_S, STEADY_S, AFTERWARDS_S = 10.0, 30.0, 20.0

#: Seconds of a stretch, and the factor by which a normal one may exceed the worst one before the burst.
STRETCH_S = 3.0
RECOVERED = 1.5

#: Seconds until the burst must be drained.
PATIENCE_S = 300.0

#: The notifications that a device must get, and those of them that were sent.
PUSHES = """
SELECT count(*), count(*) FILTER (WHERE push_status = 'SENT')
FROM notifications WHERE event LIKE %(tasks)s AND user_id IN (SELECT user_id FROM device_tokens)
    AND push_error IS DISTINCT FROM %(stored_only)s
"""


def main() -> None:
    """Measure, and print the figures; exit code 1 if a promise is broken."""
    as_json = option_parser("burst", __doc__).parse_args().json
    figures = measure()
    report(figures, as_json=as_json)
    sys.exit(0 if figures["holds"] else 1)


def measure() -> dict[str, Any]:
    """The figures before, in and after the burst."""
    with mix.running_servers() as (localstack, postgres), FcmServer() as fcm:
        keep_commit_times(postgres)
        record_effects(postgres.url)
        add_devices(postgres.url, mix.USER_IDS)
        prefix = f"burst-{next(mix.NUMBERS)}"
        environment = environment_of(localstack, database_url=postgres.url, prefix=prefix)
        traffic = Traffic(environment | fcm.environment, prefix)
        with Worker(traffic.environment, processes=PROCESSES, threads=THREADS) as worker:
            worker.wait_until_ready()
            with traffic.flowing(RATE):
                time.sleep(WARM_UP_S)
                steady_at, before = time.time(), traffic.count
                time.sleep(STEADY_S)
            tell(f"{traffic.count - before} results in {STEADY_S:.0f} s; now {TIMES} times the rate")
            burst_at, before = time.time(), traffic.count
            with traffic.flowing(RATE * TIMES):
                time.sleep(BURST_S)
            sent_at, in_burst = time.time(), traffic.count - before
            deepest = traffic.depth()
            tell(f"{in_burst} results in {sent_at - burst_at:.1f} s; {deepest} messages on the queues")
            with traffic.flowing(RATE):
                wait_until_drained(traffic)
                time.sleep(AFTERWARDS_S)
            in_time = traffic.wait_until_handled(timeout_s=PATIENCE_S)
            effects, dead = traffic.effects(), traffic.dead_letters()
            levels = levels_of(worker.log.text())
        with reading(postgres.url) as database:
            ((to_push, sent),) = rows(database, PUSHES, tasks=f"{prefix}-%", stored_only=STORED_ONLY)
        traffic.take_handled()
        taken = fcm.times_taken()
    steady = [one for one in traffic.handled if steady_at <= one.sent_at < burst_at]
    worst_p95_ms = max(p95_ms for _, p95_ms in stretches(steady, since=steady_at))
    in_the_burst = [one for one in traffic.handled if burst_at <= one.sent_at < sent_at]
    recovery_s = recovered_s(traffic.handled, since=sent_at, p95_ms=RECOVERED * worst_p95_ms)
    drained_s = max(one.committed_at for one in in_the_burst) - sent_at
    return {
        "steady_per_second": RATE,
        "burst_per_second": round(in_burst / (sent_at - burst_at), 1),
        "burst_results": in_burst,
        "burst_s": round(sent_at - burst_at, 1),
        "deepest": deepest,
        "sent": traffic.count,
        "refused_by_sqs": traffic.refused,
        "dead_letters": dead,
        "log_errors": levels["error"],
        "log_warnings": levels["warning"],
        "lost": traffic.count - effects.tasks,
        "applied_twice": effects.writes - effects.tasks,
        "pushes": sent,
        "pushes_missing": to_push - len(taken),
        "pushed_twice": sum(taken.values()) - len(taken),
        "steady_p50_ms": round(percentile_ms(steady, 50), 1),
        "steady_p95_ms": round(percentile_ms(steady, 95), 1),
        "steady_worst_p95_ms": round(worst_p95_ms, 1),
        "burst_p95_ms": round(percentile_ms(in_the_burst, 95), 1),
        "drained_s": round(drained_s, 1),
        "recovered_s": None if recovery_s is None else round(recovery_s, 1),
        "holds": in_time
        and recovery_s is not None
        and not (traffic.refused or dead or levels["error"])
        and effects.writes == effects.tasks == traffic.count
        and to_push == len(taken) == sum(taken.values()),
    }


def wait_until_drained(traffic: Traffic) -> None:
    """Wait until the queues hold at most the messages of one second, or PATIENCE_S is over."""
    deadline = time.monotonic() + PATIENCE_S
    while traffic.depth() > RATE and time.monotonic() < deadline:
        time.sleep(mix.LOOK_S)


def recovered_s(handled: Sequence[Handled], *, since: float, p95_ms: float) -> float | None:
    """Seconds until the latency is normal and stays normal; None if it never does.

    Parameters:
      since: the end of the burst, in seconds since the epoch.
      p95_ms: the highest 95th percentile of a normal stretch, in milliseconds.
    """
    recovered = None
    for begin, found_ms in stretches(handled, since=since):
        if found_ms > p95_ms:
            recovered = None
        elif recovered is None:
            recovered = begin - since
    return recovered


def stretches(handled: Sequence[Handled], *, since: float) -> Iterator[tuple[float, float]]:
    """The begin of each stretch from `since` on, and the 95th percentile of its results in milliseconds."""
    last = max(one.sent_at for one in handled)
    for number in range(math.ceil((last - since) / STRETCH_S)):
        begin = since + number * STRETCH_S
        if stretch := [one for one in handled if begin <= one.sent_at < begin + STRETCH_S]:
            yield begin, percentile_ms(stretch, 95)


if __name__ == "__main__":
    main()
