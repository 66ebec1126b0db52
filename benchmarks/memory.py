"""What big results cost in memory: features files of any size, and eight big graphs at once.

A process of its own stores a graph of 10,000 nodes with features of 80, 400 and 1,600 MB, which an S3 on loopback makes
up as it sends them: they are streamed through the decoder into COPY. Printed is the peak of its resident set over what
it was before, and how long it took. Then a worker of 8 threads has eight graphs of 100,000 edges on its hands, with
80 MB of features each, until two rounds of them are stored.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

import msgspec
import psutil

from benchmarks.big_graphs import AT_ONCE, big_graphs
from benchmarks.latency import THREADS, running_bench
from benchmarks.pushes import tell
from graphnode.dev.postgres import start_postgres
from graphnode.dev.stack import bring_up_to_date
from graphnode.dev.worker import Worker
from graphnode.settings import Settings

FEATURES_MB = (80, 400, 1600)
NODES = 10_000

#: Bytes of one number of an embedding, as the AI server writes them.
NUMBER_BYTES = 20

#: What Linux forgets a process's peak by: https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html
FORGET_PEAK = "5"


def main() -> None:
    """Measure, and print the figures as one line of JSON, or as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    as_json = parser.parse_args().json
    peaks: list[float] = []
    seconds: list[float] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), MadeUpObjects) as s3:
        Thread(target=s3.serve_forever, daemon=True).start()
        with start_postgres(Path(tempfile.mkdtemp(prefix="graphnode-benchmark-"))) as postgres:
            bring_up_to_date(postgres.url)
            for megabytes in FEATURES_MB:
                with multiprocessing.get_context("spawn").Pool(1) as process:
                    peak, spent = process.apply(store, (megabytes, f"http://127.0.0.1:{s3.server_port}", postgres.url))
                peaks.append(round(peak, 1))
                seconds.append(round(spent, 2))
                tell(f"{megabytes} MB of features: {peak:.1f} MB over idle, {spent:.1f} s")
        s3.shutdown()
    figures = {"features_mb": list(FEATURES_MB), "peak_rss_over_idle_mb": peaks, "seconds": seconds, **at_once()}
    if as_json:
        print(json.dumps(figures))  # noqa: T201
        return
    for name, row in figures.items():
        print(f"{name:<32}" + "".join(f"{figure:>10}" for figure in (row if isinstance(row, list) else [row])))  # noqa: T201


def at_once() -> dict[str, float]:
    """The peak of a worker that has eight big graphs on its hands, over idle, and what it has kept a while later."""
    with running_bench() as (bench, _), Worker(bench.environment, threads=THREADS) as worker:
        worker.wait_until_ready()
        (process,) = psutil.Process(worker.pid).children()
        idle = memory_mb("VmRSS", process.pid)
        Path(f"/proc/{process.pid}/clear_refs").write_text(FORGET_PEAK)
        with big_graphs(bench) as big:
            big.wait_until_stored(2 * AT_ONCE)
            peak = memory_mb("VmHWM", process.pid)
        big.wait_until_all_are_stored()
        after = memory_mb("VmRSS", process.pid)
    tell(f"{AT_ONCE} graphs at once: {peak - idle:.1f} MB over idle, {after - idle:.1f} MB when all is over")
    return {
        "graphs_at_once": AT_ONCE,
        "at_once_peak_rss_over_idle_mb": round(peak - idle, 1),
        "at_once_ceiling_mb": round(default_of("document_memory") / 1e6, 1),
        "at_once_rss_over_idle_afterwards_mb": round(after - idle, 1),
    }


def store(megabytes: int, endpoint: str, database_url: str) -> tuple[float, float]:
    """Handle a result with features of that size; the peak in megabytes over idle, and the seconds it took."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_SECRET_ACCESS_KEY": "test",
        "DATABASE_URL": database_url,
        "S3_PAYLOAD_BUCKET": "payloads",
        "SQS_NOTIFICATION_QUEUE_URL": f"{endpoint}/notifications",
        "SQS_RESULT_QUEUE_URL": f"{endpoint}/results",
    }
    # The settings are read once, from the environment that was just made.
    from graphnode.actors import broker
    from graphnode.actors.graph_generation import graph_generation
    from graphnode.contract.envelopes import to_message
    from graphnode.storage.database import close_database, open_database

    def handle(task_id: str, features: str) -> None:
        payload = {"userId": "ada", "status": "COMPLETED", "resultS3Key": "graph/0", "featuresS3Key": features}
        envelope = {"taskType": "GRAPH_GENERATION_RESULT", "taskId": task_id, "payload": payload}
        sent_at = datetime.now(UTC)
        (decoded,) = to_message(json.dumps(envelope), message_id=task_id, sent_at=sent_at, receive_count=1).args
        graph_generation.fn(decoded)

    open_database(database_url, max_connections=1)
    with patch.object(broker, "enqueue", lambda message, **_: message):
        handle(f"warm-up-{megabytes}", "features/1")
        idle = memory_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text(FORGET_PEAK)
        began = time.monotonic()
        handle(f"task-{megabytes}", f"features/{megabytes}")
        spent = time.monotonic() - began
    peak = memory_mb("VmHWM")
    close_database()
    return peak - idle, spent


def memory_mb(name: str, process: int | str = "self") -> float:
    """A figure of a process's memory, in megabytes. https://man7.org/linux/man-pages/man5/proc_pid_status.5.html"""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


def default_of(setting: str) -> int:
    """A setting's default."""
    return int(next(field.default for field in msgspec.structs.fields(Settings) if field.name == setting))


class MadeUpObjects(BaseHTTPRequestHandler):
    """Objects that are made up as they are sent: `graph/0`, and `features/N` of about N megabytes."""

    def do_GET(self) -> None:
        """Send the object."""
        kind, size = self.path.split("?")[0].split("/")[-2:]
        pieces = graph() if kind == "graph" else features(int(size))
        length = sum(len(piece) for piece in (graph() if kind == "graph" else features(int(size))))
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"made up"')
        self.end_headers()
        for piece in pieces:
            try:
                self.wfile.write(piece)
            except OSError:
                # Whoever reads the conversations alone reads no further.
                return

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def graph() -> Iterator[bytes]:
    """A graph of NODES nodes."""
    nodes = [{"id": number, "orig_id": f"conv-{number}", "cluster_id": number % 40} for number in range(NODES)]
    yield json.dumps({"nodes": nodes}).encode()


def features(megabytes: int) -> Iterator[bytes]:
    """A features document with an embedding of each node, as wide as the size wants."""
    width = max(1, megabytes * 1_000_000 // NODES // NUMBER_BYTES)
    conversations = ({"id": number, "orig_id": f"conv-{number}", "keywords": []} for number in range(NODES))
    yield b'{"conversations": ' + json.dumps(list(conversations)).encode() + b', "embeddings": ['
    row = b"[" + b", ".join(b"-0.0123456789012345"[: NUMBER_BYTES - 2] for _ in range(width)) + b"]"
    for number in range(NODES):
        yield row if number == 0 else b"," + row
    yield b'], "metadata": {}}'


if __name__ == "__main__":
    main()
