"""What a features file costs in memory, whatever its size: it is streamed from S3 through the decoder into COPY.

A process of its own stores a graph of 10,000 nodes with features of 80, 400 and 1,600 MB, which an S3 on loopback makes
up as it sends them. Printed is the peak of its resident set over what it was before, and how long it took.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

from graphnode.dev.postgres import start_postgres
from graphnode.dev.stack import bring_up_to_date

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
                sys.stderr.write(f"{megabytes} MB of features: {peak:.1f} MB over idle, {spent:.1f} s\n")
        s3.shutdown()
    figures: dict[str, list[float]] = {
        "features_mb": list(FEATURES_MB),
        "peak_rss_over_idle_mb": peaks,
        "seconds": seconds,
    }
    if as_json:
        print(json.dumps(figures))  # noqa: T201
        return
    for name, row in figures.items():
        print(f"{name:<24}" + "".join(f"{figure:>10}" for figure in row))  # noqa: T201


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
    from graphnode.envelopes import to_message
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


def memory_mb(name: str) -> float:
    """A figure of this process's memory, in megabytes. https://man7.org/linux/man-pages/man5/proc_pid_status.5.html"""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


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
