"""Pushes: how soon after the commit, how many a second, during an outage of FCM, and beside results while FCM is slow.

Workers, LocalStack, PostgreSQL and firebase-admin are real; FCM is the stub. First, results are sent at a steady rate:
how long after a result's commit does FCM get the request? Then 1,000 results wait for a worker: how many pushes does it
send a second, beside the results, and at what cost? Then 1,000 results are sent while FCM refuses pushes for a part of
the run: how often did FCM accept each notification? Then one process of 8 threads handles results while FCM answers at
once, and while every call takes 5 s: how many results a second? The results are failed graph generations, which need no
document.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from benchmarks import fcm_stub
from benchmarks.fcm_stub import Answer, FcmServer
from benchmarks.output import option_parser, report, tell
from benchmarks.servers import (
    add_devices,
    cpu_s,
    execute,
    keep_commit_times,
    make_queues_and_bucket,
    running_servers,
    send,
)
from graphnode.dev.child_processes import Worker
from graphnode.dev.local_aws import dead_letter_url, sqs_client
from graphnode.dev.localstack import LocalStack
from graphnode.dev.outcomes import dead_letters, reading, rows
from graphnode.dev.stack import environment_of

RESULTS = 1000

#: Results in one measurement of the rate, and the measurements with each FCM, the fast one and the slow one.
RATE_RESULTS = 1000
ROUNDS = 3

THREADS = 8

#: The steady rate of results: how many, and seconds between two of them.
STEADY_RESULTS = 300
STEADY_PAUSE_S = 0.05

#: Seconds that a call takes while pushes a second are measured, about as long as FCM's own.
USUAL_S = 0.1

#: Seconds that a call to a slow FCM takes.
SLOW_S = 5.0

#: How many pushes FCM refuses before its outage ends.
REFUSALS = 300

#: Seconds that the benchmark waits for an effect.
PATIENCE_S = 300.0

#: Seconds between two queries while it waits.
LOOK_S = 0.05

SETTINGS = {
    "GRAPHNODE_POLL_WAIT": "1",
    "GRAPHNODE_SWEEP_INTERVAL": "1",
    "GRAPHNODE_BACKOFF_MIN": "1",
    "GRAPHNODE_BACKOFF_MAX": "4",
}

#: One row when all notifications of a measurement's users are sent, or all their tasks have ended.
ALL_SENT = """
SELECT 1 FROM notifications WHERE user_id LIKE %(users)s
HAVING count(*) FILTER (WHERE push_status = 'SENT' AND due_at IS NULL) = %(count)s
"""
ALL_ENDED = """
SELECT 1 FROM tasks WHERE user_id LIKE %(users)s HAVING count(*) FILTER (WHERE status = 'FAILED') = %(count)s
"""

#: Seconds from the first tenth of the results to the last result.
SECONDS = """
SELECT extract(epoch FROM max(finished_at) - percentile_disc(0.1) WITHIN GROUP (ORDER BY finished_at))::float8
FROM tasks WHERE user_id LIKE %(users)s
"""

#: Seconds from the first tenth of the pushes to the last one.
PUSH_SECONDS = """
SELECT extract(epoch FROM max(pushed_at) - percentile_disc(0.1) WITHIN GROUP (ORDER BY pushed_at))::float8
FROM notifications WHERE user_id LIKE %(users)s
"""

#: When the result of each notification was committed, in seconds since the epoch.
COMMITS = """
SELECT notifications.id, extract(epoch FROM pg_xact_commit_timestamp(tasks.xmin))::float8
FROM notifications JOIN tasks ON tasks.task_id = notifications.payload ->> 'taskId'
WHERE notifications.user_id LIKE %(users)s
"""

#: A new prefix for the names of queues and users in each measurement.
NUMBERS = itertools.count(1)

#: Pushes that an earlier measurement left open would be sent in the next one.
CLOSE_PUSHES = "UPDATE notifications SET due_at = NULL WHERE due_at IS NOT NULL"

T = TypeVar("T")


class Bench:
    """The queues, the bucket and the users of one measurement. All measurements share the servers."""

    def __init__(self, localstack: LocalStack, database_url: str, fcm: FcmServer) -> None:
        self.prefix = f"benchmark-{next(NUMBERS)}"
        self.environment = environment_of(localstack, database_url=database_url, prefix=self.prefix)
        self.environment |= {**SETTINGS, **fcm.environment}
        self.sqs = sqs_client(self.environment)
        make_queues_and_bucket(self.environment, self.prefix)

    def add_devices(self, users: list[str]) -> None:
        """Give each of these users one device."""
        execute(self.environment["DATABASE_URL"], CLOSE_PUSHES)
        add_devices(self.environment["DATABASE_URL"], users)

    def send(self, task_type: str, results: Mapping[str, Mapping[str, Any]]) -> None:
        """Send results: the payload of each, by its task ID."""
        now = datetime.now(UTC).isoformat()
        bodies = (
            json.dumps({"taskType": task_type, "taskId": task_id, "timestamp": now, "payload": payload})
            for task_id, payload in results.items()
        )
        send(self.sqs, self.environment["SQS_RESULT_QUEUE_URL"], bodies)

    def send_failures(self, count: int, *, pause_s: float = 0.0) -> None:
        """Send one result for each of `count` new users, who have a device each.

        Parameters:
          pause_s: seconds between two results; 0: all at once.
        """
        users = [f"{self.prefix}-{number}" for number in range(count)]
        self.add_devices(users)
        payloads = {f"task of {user}": {"userId": user, "status": "FAILED"} for user in users}
        for some in [dict([one]) for one in payloads.items()] if pause_s else [payloads]:
            self.send("GRAPH_GENERATION_RESULT", some)
            time.sleep(pause_s)

    def wait_until(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query about this measurement's users, as soon as there are any. Raises TimeoutError."""
        with reading(self.environment["DATABASE_URL"]) as database:
            return wait_for(lambda: rows(database, query, users=f"{self.prefix}-%", **values), query)


def main() -> None:
    """Measure, and print the figures."""
    as_json = option_parser("pushes", __doc__).parse_args().json
    with running_servers() as (localstack, postgres), FcmServer() as fcm:
        keep_commit_times(postgres)
        figures = {
            **measure_promptness(Bench(localstack, postgres.url, fcm), fcm),
            **measure_pushes(Bench(localstack, postgres.url, fcm), fcm),
            **measure_outage(Bench(localstack, postgres.url, fcm), fcm),
            **measure_rates(localstack, postgres.url, fcm),
        }
    report(figures, as_json=as_json)


def measure_promptness(bench: Bench, fcm: FcmServer) -> Mapping[str, Any]:
    """Milliseconds from a result's commit to FCM's receipt of the push, at a steady rate of results."""
    asked: dict[str, float] = {}

    def answer(message: fcm_stub.Message) -> Answer:
        asked.setdefault(message["data"]["notificationId"], time.time())
        return fcm_stub.TAKEN

    fcm.answer = answer
    with Worker(bench.environment, threads=THREADS) as worker:
        worker.wait_until_ready()
        bench.send_failures(STEADY_RESULTS, pause_s=STEADY_PAUSE_S)
        bench.wait_until(ALL_SENT, count=STEADY_RESULTS)
    waits_ms = [(asked[one] - committed) * 1000 for one, committed in bench.wait_until(COMMITS)]
    percentiles = statistics.quantiles(waits_ms, n=20)
    tell(f"{STEADY_RESULTS} results: FCM is asked {percentiles[9]:.0f} ms after the commit, p95 {percentiles[18]:.0f}")
    return {
        "commit_to_fcm_p50_ms": round(percentiles[9], 1),
        "commit_to_fcm_p95_ms": round(percentiles[18], 1),
        "commit_to_fcm_most_ms": round(max(waits_ms), 1),
    }


def measure_pushes(bench: Bench, fcm: FcmServer) -> Mapping[str, Any]:
    """Pushes a second of one process, beside the results that cause them, and the CPU time of a result and its push."""
    fcm.answer = always(fcm_stub.after(fcm_stub.TAKEN, USUAL_S))
    bench.send_failures(RESULTS)
    with Worker(bench.environment, threads=THREADS) as worker:
        worker.wait_until_ready()
        before = cpu_s(worker.pid)
        bench.wait_until(ALL_SENT, count=RESULTS)
        used = cpu_s(worker.pid) - before
    ((seconds,),) = bench.wait_until(PUSH_SECONDS)
    rate = 0.9 * RESULTS / float(seconds)
    tell(f"{RESULTS} results: {rate:.0f} pushes/s")
    return {
        "fcm_usual_s": USUAL_S,
        "pushes_per_second": round(rate, 1),
        "cpu_ms_per_result_and_push": round(used / RESULTS * 1000, 2),
    }


def measure_outage(bench: Bench, fcm: FcmServer) -> Mapping[str, Any]:
    """How often FCM accepted the push of each of 1,000 results, when it refused the first pushes."""
    fcm.messages.clear()
    refused = itertools.count(1)
    fcm.answer = lambda _: fcm_stub.UNAVAILABLE if next(refused) <= REFUSALS else fcm_stub.TAKEN
    with Worker(bench.environment, threads=THREADS) as worker:
        worker.wait_until_ready()
        began = time.monotonic()
        bench.send_failures(RESULTS)
        bench.wait_until(ALL_SENT, count=RESULTS)
        seconds = time.monotonic() - began
    times = Counter(fcm.times_taken().values())
    letters = dead_letters(bench.sqs, dead_letter_url(bench.sqs, bench.environment["SQS_RESULT_QUEUE_URL"]))
    tell(f"{RESULTS} results with {REFUSALS} refusals: all SENT after {seconds:.1f} s")
    return {
        "results": RESULTS,
        "refused_by_fcm": REFUSALS,
        "taken_once": times[1],
        "taken_more_than_once": sum(times.values()) - times[1],
        "dead_letters": len(letters),
    }


def measure_rates(localstack: LocalStack, database_url: str, fcm: FcmServer) -> Mapping[str, float]:
    """Results a second with a fast FCM and with a slow one, measured in turn."""
    found: dict[str, list[float]] = {"fast": [], "slow": []}
    for number in range(1, ROUNDS + 1):
        for kind, rates in found.items():
            fcm.answer = always(fcm_stub.after(fcm_stub.TAKEN, SLOW_S if kind == "slow" else 0))
            rates.append(measure_rate(Bench(localstack, database_url, fcm)))
            tell(f"round {number} of {ROUNDS}, FCM {kind}: {rates[-1]:.0f} results/s")
    fast, slow = (round(statistics.median(rates), 1) for rates in found.values())
    return {
        "fcm_slow_s": SLOW_S,
        "results_per_second_fcm_fast": fast,
        "results_per_second_fcm_slow": slow,
        "slow_to_fast": round(slow / fast, 3),
    }


def measure_rate(bench: Bench) -> float:
    """Results a second, by the times in the rows of the tasks.

    The first tenth of the results is left out, so that a slow FCM has its full effect.
    """
    bench.send_failures(RATE_RESULTS)
    with Worker(bench.environment, threads=THREADS) as worker:
        worker.wait_until_ready()
        bench.wait_until(ALL_ENDED, count=RATE_RESULTS)
    ((seconds,),) = bench.wait_until(SECONDS)
    return 0.9 * RATE_RESULTS / float(seconds)


def always(answer: Answer) -> Callable[[Any], Answer]:
    """A function that gives this answer to every push."""
    return lambda _: answer


def wait_for(look: Callable[[], T], what: str) -> T:
    """The first true value that `look` returns. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: still missing after {PATIENCE_S:.0f} s")
        time.sleep(LOOK_S)
    return found


if __name__ == "__main__":
    main()
