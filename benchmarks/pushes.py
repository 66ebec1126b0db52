"""Pushes while FCM is away, and results while it is slow: real workers, LocalStack, PostgreSQL and firebase-admin.

First, 1,000 results with FCM away for a part of the run: how often each user's notification was taken by FCM. Then how
many results a second one process of 8 threads handles while FCM answers at once, and while every call takes 5 s. The
results are failed graph generations: they need no document. All of it is on loopback, and ends by itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import runpy
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psycopg2

from benchmarks import fcm_stub
from benchmarks.fcm_stub import Answer, FcmServer
from graphnode.dev.aws import dead_letter_url, s3_client, sqs_client
from graphnode.dev.localstack import HOOK, LocalStack
from graphnode.dev.outcomes import dead_letters, reading, rows
from graphnode.dev.postgres import start_postgres
from graphnode.dev.stack import bring_up_to_date, environment_of
from graphnode.dev.worker import Worker

RESULTS = 1000

#: Results of one measurement of the rate, and how many measurements of each kind there are.
RATE_RESULTS = 1000
ROUNDS = 3

THREADS = 8

#: Seconds that a call to a slow FCM takes.
SLOW_S = 5.0

#: How many refusals FCM gives before it is back.
REFUSALS = 300

#: Seconds after which the benchmark gives up on what it waits for.
PATIENCE_S = 300.0

#: Seconds between two looks.
LOOK_S = 0.05

SETTINGS = {
    "GRAPHNODE_POLL_WAIT": "1",
    "GRAPHNODE_SWEEP_INTERVAL": "1",
    "GRAPHNODE_BACKOFF_MIN": "1",
    "GRAPHNODE_BACKOFF_MAX": "4",
}

#: What is waited for, and read, of one measurement's users.
ALL_SENT = """
SELECT 1 FROM notifications WHERE user_id LIKE %(users)s
HAVING count(*) FILTER (WHERE push_status = 'SENT' AND due_at IS NULL) = %(count)s
"""
ALL_ENDED = """
SELECT 1 FROM tasks WHERE user_id LIKE %(users)s HAVING count(*) FILTER (WHERE status = 'FAILED') = %(count)s
"""
SECONDS = """
SELECT extract(epoch FROM max(finished_at) - percentile_disc(0.1) WITHIN GROUP (ORDER BY finished_at))::float8
FROM tasks WHERE user_id LIKE %(users)s
"""

#: Names of queues and users, new ones for each measurement.
NUMBERS = itertools.count(1)

T = TypeVar("T")


class Bench:
    """Queues and a worker of one measurement, on the servers of all."""

    def __init__(self, localstack: LocalStack, database_url: str, fcm: FcmServer) -> None:
        self.prefix = f"benchmark-{next(NUMBERS)}"
        self.environment = environment_of(localstack, database_url=database_url, prefix=self.prefix)
        self.environment |= {**SETTINGS, **fcm.environment}
        self.sqs = sqs_client(self.environment)
        definition = runpy.run_path(str(HOOK))
        definition["make_queues"](self.sqs, self.prefix)
        definition["make_bucket"](s3_client(self.environment), self.prefix)

    def give_phones(self, users: list[str]) -> None:
        """Let each of these users have a device."""
        with (
            closing(psycopg2.connect(self.environment["DATABASE_URL"])) as database,
            database,
            database.cursor() as cursor,
        ):
            # What the last measurement left unpushed would be swept up in this one.
            cursor.execute("UPDATE notifications SET due_at = NULL")
            cursor.execute(
                "INSERT INTO device_tokens (token, user_id) SELECT 'phone of ' || u, u FROM unnest(%s) AS u", (users,)
            )

    def send(self, task_type: str, results: Mapping[str, Mapping[str, Any]]) -> None:
        """Send results: the payload of each, by its task's ID."""
        bodies = [
            json.dumps({"taskType": task_type, "taskId": task_id, "timestamp": now_text(), "payload": payload})
            for task_id, payload in results.items()
        ]
        for some in batches(bodies):
            entries: Any = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(some)]
            self.sqs.send_message_batch(QueueUrl=self.environment["SQS_RESULT_QUEUE_URL"], Entries=entries)

    def send_failures(self, count: int) -> None:
        """Let so many users have a device, and a result each."""
        users = [f"{self.prefix}-{number}" for number in range(count)]
        self.give_phones(users)
        payloads = {f"task of {user}": {"userId": user, "status": "FAILED"} for user in users}
        self.send("GRAPH_GENERATION_RESULT", payloads)

    def wait_until(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query about this measurement's users, once it has any. Raises TimeoutError."""
        with reading(self.environment["DATABASE_URL"]) as database:
            return wait_for(lambda: rows(database, query, users=f"{self.prefix}-%", **values), query)


def main() -> None:
    """Measure, and print the figures as one line of JSON, or one a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pushes", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    as_json = parser.parse_args().json
    with running_servers() as (localstack, database_url, fcm):
        figures = {
            **measure_outage(Bench(localstack, database_url, fcm), fcm),
            **measure_rates(localstack, database_url, fcm),
        }
    if as_json:
        print(json.dumps(figures))  # noqa: T201
        return
    for name, figure in figures.items():
        print(f"{name:<32}{figure:>10}")  # noqa: T201


@contextmanager
def running_servers() -> Iterator[tuple[LocalStack, str, FcmServer]]:
    """The servers of all measurements."""
    with (
        tempfile.TemporaryDirectory(prefix="graphnode-benchmark-") as directory,
        start_postgres(Path(directory) / "postgres") as postgres,
        LocalStack() as localstack,
        FcmServer() as fcm,
    ):
        bring_up_to_date(postgres.url)
        localstack.wait_until_ready()
        yield localstack, postgres.url, fcm


def measure_outage(bench: Bench, fcm: FcmServer) -> Mapping[str, Any]:
    """1,000 results; FCM refuses the first pushes."""
    refused = itertools.count(1)
    fcm.answer = lambda _: fcm_stub.UNAVAILABLE if next(refused) <= REFUSALS else fcm_stub.TAKEN
    with Worker(bench.environment, threads=THREADS) as worker:
        worker.wait_until_ready()
        began = time.monotonic()
        bench.send_failures(RESULTS)
        bench.wait_until(ALL_SENT, count=RESULTS)
        seconds = time.monotonic() - began
    times = Counter(fcm.times_taken().values())
    letters = dead_letters(bench.sqs, dead_letter_url(bench.sqs, bench.environment["SQS_NOTIFICATION_QUEUE_URL"]))
    tell(f"{RESULTS} results with {REFUSALS} refusals: all SENT after {seconds:.1f} s")
    return {
        "results": RESULTS,
        "refused_by_fcm": REFUSALS,
        "taken_once": times[1],
        "taken_more_than_once": sum(times.values()) - times[1],
        "dead_letters": len(letters),
    }


def measure_rates(localstack: LocalStack, database_url: str, fcm: FcmServer) -> Mapping[str, float]:
    """Results a second while FCM is fast and while it is slow, in turn."""
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
    """Results a second, by the times of their tasks' rows, from the first tenth on: by then pushes hang if they do."""
    bench.send_failures(RATE_RESULTS)
    with Worker(bench.environment, threads=THREADS) as worker:
        worker.wait_until_ready()
        bench.wait_until(ALL_ENDED, count=RATE_RESULTS)
    ((seconds,),) = bench.wait_until(SECONDS)
    return 0.9 * RATE_RESULTS / float(seconds)


def always(answer: Answer) -> Callable[[Any], Answer]:
    """An FCM that answers so."""
    return lambda _: answer


def batches(bodies: list[str]) -> Iterator[list[str]]:
    """Ten at a time, as many as one call takes."""
    for start in range(0, len(bodies), 10):
        yield bodies[start : start + 10]


def now_text() -> str:
    """The time as envelopes have it."""
    return datetime.now(UTC).isoformat()


def wait_for(look: Callable[[], T], what: str) -> T:
    """What a look finds, once it finds anything. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s in vain for {what}")
        time.sleep(LOOK_S)
    return found


def tell(line: str) -> None:
    """Progress, beside the figures."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
