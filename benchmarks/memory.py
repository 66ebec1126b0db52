"""The memory that big results need: features of several sizes, and eight big graphs at once.

A separate process stores a graph of 10,000 nodes with features of 80, 400 and 1,600 MB. A stub of S3 generates the
features while it sends them, and the process streams them through the decoder into COPY. Printed are the growth of its
resident set up to the peak, and the seconds. Then a worker of 8 threads stores eight graphs of 100,000 edges with 80 MB
of features each at the same time, twice.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.big_graphs import AT_ONCE, big_graphs
from benchmarks.documents import NUMBER, features_document
from benchmarks.latency import THREADS, running_bench
from benchmarks.local_server import LocalServer
from benchmarks.output import option_parser, report, tell
from benchmarks.servers import running_postgres
from graphnode.dev.child_processes import Worker
from graphnode.settings import Settings

FEATURES_MB = (80, 400, 1600)
NODES = 10_000

#: Bytes of one number of an embedding, with its comma and space.
NUMBER_BYTES = len(NUMBER) + 2

#: Resets a process's peak: https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html
RESET_PEAK = "5"


def main() -> None:
    """Measure, and print the figures."""
    as_json = option_parser("memory", __doc__).parse_args().json
    peaks: list[float] = []
    seconds: list[float] = []
    with LocalServer(GeneratedObjects) as s3, running_postgres() as postgres:
        for megabytes in FEATURES_MB:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                peak, spent = process.apply(store, (megabytes, s3.url, postgres.url))
            peaks.append(round(peak, 1))
            seconds.append(round(spent, 2))
            tell(f"{megabytes} MB of features: {peak:.1f} MB over idle, {spent:.1f} s")
    figures = {"features_mb": list(FEATURES_MB), "peak_rss_over_idle_mb": peaks, "seconds": seconds, **at_once()}
    report(figures, as_json=as_json)


def at_once() -> dict[str, float]:
    """How far a worker's memory rises over idle with eight big graphs in flight, and how much it keeps afterwards."""
    with running_bench() as (bench, _), Worker(bench.environment, threads=THREADS) as worker:
        worker.wait_until_ready()
        (process,) = psutil.Process(worker.pid).children()
        idle = memory_mb("VmRSS", process.pid)
        Path(f"/proc/{process.pid}/clear_refs").write_text(RESET_PEAK)
        with big_graphs(bench) as big:
            big.wait_until_stored(2 * AT_ONCE)
            peak = memory_mb("VmHWM", process.pid)
        big.wait_until_all_are_stored()
        after = memory_mb("VmRSS", process.pid)
    tell(f"{AT_ONCE} graphs at once: {peak - idle:.1f} MB over idle, {after - idle:.1f} MB afterwards")
    return {
        "graphs_at_once": AT_ONCE,
        "at_once_peak_rss_over_idle_mb": round(peak - idle, 1),
        "at_once_ceiling_mb": round(default_of("document_memory") / 1e6, 1),
        "at_once_rss_over_idle_afterwards_mb": round(after - idle, 1),
    }


def store(megabytes: int, endpoint: str, database_url: str) -> tuple[float, float]:
    """Handle a result with features of this size; its peak in MB over idle, and the seconds it took."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_SECRET_ACCESS_KEY": "test",
        "DATABASE_URL": database_url,
        "S3_PAYLOAD_BUCKET": "payloads",
        "SQS_RESULT_QUEUE_URL": f"{endpoint}/results",
    }
    # These modules read the settings from the environment, once.
    from graphnode.actors.graph_generation import graph_generation
    from graphnode.contract.bodies import to_message
    from graphnode.storage.database import close_database, open_database

    def handle(task_id: str, features: str) -> None:
        payload = {"userId": "ada", "status": "COMPLETED", "resultS3Key": "graph/0", "featuresS3Key": features}
        envelope = {"taskType": "GRAPH_GENERATION_RESULT", "taskId": task_id, "payload": payload}
        sent_at = datetime.now(UTC)
        (decoded,) = to_message(json.dumps(envelope), message_id=task_id, sent_at=sent_at, receive_count=1).args
        graph_generation.fn(decoded)

    open_database(database_url)
    handle(f"warm-up-{megabytes}", "features/1")
    idle = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    began = time.monotonic()
    handle(f"task-{megabytes}", f"features/{megabytes}")
    spent = time.monotonic() - began
    peak = memory_mb("VmHWM")
    close_database()
    return peak - idle, spent


def memory_mb(name: str, process: int | str = "self") -> float:
    """A process's memory in MB, by its name in /proc. https://man7.org/linux/man-pages/man5/proc_pid_status.5.html"""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


def default_of(setting: str) -> int:
    """The default of a setting."""
    return int(next(field.default for field in msgspec.structs.fields(Settings) if field.name == setting))


class GeneratedObjects(BaseHTTPRequestHandler):
    """A stub of S3 that generates its objects: `graph/0`, and `features/N` of about N megabytes."""

    def do_GET(self) -> None:
        """Send the object."""
        kind, size = self.path.split("?")[0].split("/")[-2:]
        pieces = graph() if kind == "graph" else features(int(size))
        length = sum(len(piece) for piece in (graph() if kind == "graph" else features(int(size))))
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"generated"')
        self.end_headers()
        for piece in pieces:
            try:
                self.wfile.write(piece)
            except OSError:
                # The reader needed the conversations only, and has closed the connection.
                return

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def graph() -> Iterator[bytes]:
    """A graph document with NODES nodes."""
    nodes = [{"id": number, "orig_id": f"conv-{number}", "cluster_id": number % 40} for number in range(NODES)]
    yield json.dumps({"nodes": nodes}).encode()


def features(megabytes: int) -> Iterator[bytes]:
    """A features document of about this size, with an embedding for each of NODES nodes."""
    width = max(1, megabytes * 1_000_000 // NODES // NUMBER_BYTES)
    return features_document([f"conv-{number}" for number in range(NODES)], width=width)


if __name__ == "__main__":
    main()
