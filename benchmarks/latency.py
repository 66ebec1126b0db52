"""The latency of small results while a worker process of 8 threads stores big graphs.

Small results come at a steady rate: first alone, then while eight graphs of 10,000 nodes, 100,000 edges and 80 MB of
features are in the system. The latency is the time from the AI server's send to the commit, as PostgreSQL records it,
and to the arrival of the push request at FCM. LocalStack serves the big documents from the same cores in one process,
so the time of a call to its SQS is printed as well.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks import fcm_stub
from benchmarks.big_graphs import AT_ONCE, big_graphs
from benchmarks.fcm_stub import FcmServer
from benchmarks.output import option_parser, report, tell
from benchmarks.pushes import Bench, wait_for
from benchmarks.servers import keep_commit_times, running_servers
from graphnode.dev import samples
from graphnode.dev.child_processes import Worker
from graphnode.dev.local_aws import s3_client

THREADS = 8

#: Small results a second, the results in each of the two measurements, and the results sent before them.
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
    """Measure, and print the figures."""
    as_json = option_parser("latency", __doc__).parse_args().json
    with running_bench() as (bench, fcm), Worker(bench.environment, threads=THREADS) as worker:
        worker.wait_until_ready()
        small = SmallResults(bench, fcm)
        small.measure(WARM_UP)
        idle = small.measure(SMALL_RESULTS)
        tell(f"idle: {idle}")
        with big_graphs(bench) as big:
            # The steady state begins with the first stored graph.
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
    lines = [f"{'milliseconds':<28}" + "".join(f"{f'p{percent}':>8}" for percent in PERCENTILES)]
    for name, found in (("idle", idle), ("loaded", loaded)):
        for way, milliseconds in found.items():
            lines.append(f"{name + ', ' + way:<28}" + "".join(f"{figure:>8}" for figure in milliseconds.values()))
    lines.append(f"p95 grows by {figures['p95_growth']}; {big.stored} big graphs were stored meanwhile")
    report(figures, as_json=as_json, lines=lines)


@contextmanager
def running_bench() -> Iterator[tuple[Bench, FcmServer]]:
    """A measurement's queues and bucket, and the stub of FCM. PostgreSQL keeps the times of commits."""
    with running_servers() as (localstack, postgres), FcmServer() as fcm:
        keep_commit_times(postgres)
        yield Bench(localstack, postgres.url, fcm), fcm


class SmallResults:
    """Summaries of users with a device, sent at a steady rate."""

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
        """Send `count` summaries; percentiles in ms of the times to the commit, to the push, and of a call to SQS."""
        users = [f"{self.bench.prefix}-small-{next(self._numbers)}" for _ in range(count)]
        self.bench.add_devices(users)
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
    """The PERCENTILES of these seconds, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{percent}": round(cuts[percent - 1] * 1000, 1) for percent in PERCENTILES}


if __name__ == "__main__":
    main()
