"""How long small results wait while big graphs are stored: one worker process of 8 threads, real servers on loopback.

Small results come at a steady rate: first alone, then while eight graphs of 10,000 nodes, 100,000 edges and 80 MB of
features are in the system, another one for each that is stored. Times run from the AI server's send to the commit, as
PostgreSQL dates it, and to the push request's arrival at FCM. LocalStack serves the big documents from the same cores,
in one process: what a call to its SQS takes meanwhile is printed, too. All of it ends by itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks import fcm_stub
from benchmarks.big_graphs import AT_ONCE, big_graphs
from benchmarks.fcm_stub import FcmServer
from benchmarks.pushes import Bench, tell, wait_for
from graphnode.dev import samples
from graphnode.dev.aws import s3_client
from graphnode.dev.localstack import LocalStack
from graphnode.dev.postgres import EmbeddedPostgres, start_postgres
from graphnode.dev.stack import bring_up_to_date
from graphnode.dev.worker import Worker

THREADS = 8

#: Small results a second, how many of them are measured of each kind, and how many begin before the measurement.
RATE = 10
SMALL_RESULTS = 300
WARM_UP = 20

PERCENTILES = (50, 95, 99)

COMMITTED = """
SELECT array_agg(task_id), array_agg(extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8)
FROM tasks WHERE user_id LIKE %(users)s AND task_id = ANY(%(tasks)s) AND status = 'COMPLETED'
HAVING count(*) = %(count)s
"""


def main() -> None:
    """Measure, and print the figures as one line of JSON, or as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    as_json = parser.parse_args().json
    with running_bench() as (bench, fcm), Worker(bench.environment, threads=THREADS) as worker:
        worker.wait_until_ready()
        small = SmallResults(bench, fcm)
        small.measure(WARM_UP)
        idle = small.measure(SMALL_RESULTS)
        tell(f"idle: {idle}")
        with big_graphs(bench) as big:
            # From then on it is the steady state.
            big.wait_until_stored(1)
            loaded = small.measure(SMALL_RESULTS)
            tell(f"loaded: {loaded}")
    figures = {
        "small_results": SMALL_RESULTS,
        "big_graphs": AT_ONCE,
        "big_graphs_stored": big.stored,
        "idle_ms": idle,
        "loaded_ms": loaded,
        "p95_growth": {way: round(loaded[way]["p95"] / idle[way]["p95"], 2) for way in idle},
    }
    if as_json:
        print(json.dumps(figures))  # noqa: T201
        return
    print(f"{'milliseconds':<28}" + "".join(f"{f'p{percent}':>8}" for percent in PERCENTILES))  # noqa: T201
    for name, found in (("idle", idle), ("loaded", loaded)):
        for way, percentiles in found.items():
            print(f"{name + ', ' + way:<28}" + "".join(f"{figure:>8}" for figure in percentiles.values()))  # noqa: T201
    print(f"p95 grows: {figures['p95_growth']}; {big.stored} big graphs stored meanwhile")  # noqa: T201


@contextmanager
def running_bench() -> Iterator[tuple[Bench, FcmServer]]:
    """The servers, of which PostgreSQL dates its commits."""
    with (
        tempfile.TemporaryDirectory(prefix="graphnode-benchmark-") as directory,
        start_postgres(Path(directory) / "postgres") as postgres,
        LocalStack() as localstack,
        FcmServer() as fcm,
    ):
        bring_up_to_date(postgres.url)
        date_commits(postgres)
        localstack.wait_until_ready()
        yield Bench(localstack, postgres.url, fcm), fcm


def date_commits(postgres: EmbeddedPostgres) -> None:
    """Have PostgreSQL keep the time of each commit, for `pg_xact_commit_timestamp`. It is started anew."""
    connection = psycopg2.connect(postgres.url)
    connection.autocommit = True
    connection.cursor().execute("ALTER SYSTEM SET track_commit_timestamp = on")
    connection.close()
    postgres.stop()
    postgres.start()


class SmallResults:
    """Summaries of users with a phone, sent at a steady rate."""

    def __init__(self, bench: Bench, fcm: FcmServer) -> None:
        self.bench = bench
        self.pushed: dict[str, float] = {}
        self._numbers = itertools.count(1)
        document = (samples.DOCUMENTS / "summary.json").read_bytes()
        s3_client(bench.environment).put_object(
            Bucket=bench.environment["S3_PAYLOAD_BUCKET"], Key="summary.json", Body=document
        )
        fcm.answer = self._take

    def measure(self, count: int) -> dict[str, dict[str, float]]:
        """Send so many; milliseconds from the send to the commit and to the push, by percentile."""
        users = [f"{self.bench.prefix}-small-{next(self._numbers)}" for _ in range(count)]
        self.bench.give_phones(users)
        sent, began, calls = {}, time.time(), []
        for number, user in enumerate(users):
            called = time.time()
            self.bench.sqs.list_queue_tags(QueueUrl=self.bench.environment["SQS_RESULT_QUEUE_URL"])
            calls.append(time.time() - called)
            time.sleep(max(0.0, began + number / RATE - time.time()))
            sent[f"small of {user}"] = time.time()
            payload = {"userId": user, "status": "COMPLETED", "summaryS3Key": "summary.json"}
            self.bench.send("GRAPH_SUMMARY_RESULT", {f"small of {user}": payload})
        ((tasks, commits),) = self.bench.wait_until(COMMITTED, tasks=list(sent), count=count)
        wait_for(lambda: sent.keys() <= self.pushed.keys(), "pushes")
        return {
            "to_commit": percentiles([at - sent[task] for task, at in zip(tasks, commits, strict=True)]),
            "to_push": percentiles([self.pushed[task] - at for task, at in sent.items()]),
            "localstack_call": percentiles(calls),
        }

    def _take(self, message: Mapping[str, Any]) -> fcm_stub.Answer:
        self.pushed[message["data"]["taskId"]] = time.time()
        return fcm_stub.TAKEN


def percentiles(seconds: list[float]) -> dict[str, float]:
    """The percentiles, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{percent}": round(cuts[percent - 1] * 1000, 1) for percent in PERCENTILES}


if __name__ == "__main__":
    main()
