"""A worker of two processes reports its metrics, its traces and its health."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.fcm_stub import FcmServer
from graphnode.dev import outcomes
from graphnode.dev.child_processes import Worker
from graphnode.worker.health import Health, ask
from tests.e2e.ai_server import PATIENCE_S, AiServer, found
from tests.e2e.conftest import StartWorker

#: A sampled span of a producer.
PRODUCER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector(ThreadingHTTPServer):
    """Receives spans by OTLP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        super().__init__(("127.0.0.1", 0), TakeSpans)

    def trace(self, task_id: str) -> dict[str, Span]:
        """The spans, by name, of the trace in which a task's result was handled. Empty until the push is in it."""
        spans = list(self.spans)
        of_task = {span.trace_id for span in spans if any(a.value.string_value == task_id for a in span.attributes)}
        found = {span.name: span for span in spans if span.trace_id in of_task}
        return found if "push" in found else {}


class TakeSpans(BaseHTTPRequestHandler):
    """One request of an exporter."""

    server: Collector

    def do_POST(self) -> None:
        """Keep the spans."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output clean."""


class Observed(NamedTuple):
    """A worker, the ports of its metrics and its health, and the collector of its traces."""

    worker: Worker
    metrics_port: int
    health_port: int
    collector: Collector

    def sample(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def health(self, path: str, *, ok: bool) -> Health:
        """The worker's health, as soon as it is as expected."""

        def look() -> Health | None:
            health = ask(self.health_port, path=path)
            return health if health.ok == ok else None

        return found(outcomes.wait_for(look, timeout_s=PATIENCE_S), f"{path} to be {ok}")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def fcm() -> Iterator[FcmServer]:
    """A local FCM."""
    with FcmServer() as server:
        yield server


@pytest.fixture
def observed(
    start_worker: StartWorker,
    tmp_path: Path,
    health_port: int,
    metrics_port: int,
    collector: Collector,
    fcm: FcmServer,
) -> Observed:
    worker = start_worker(
        processes=2,
        dramatiq_prom_port=str(metrics_port),
        dramatiq_prom_db=str(tmp_path / "metrics"),
        GRAPHNODE_HEALTH_PORT=str(health_port),
        GRAPHNODE_SWEEP_INTERVAL="0.5",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_address[1]}",
        OTEL_BSP_SCHEDULE_DELAY="200",
        **fcm.environment,
    )
    return Observed(worker, metrics_port, health_port, collector)


@pytest.fixture
def silent_clients(observed: Observed) -> Iterator[None]:
    """Connections to the ports of health and metrics that send half a request and wait. They keep nobody out."""

    def connect(port: int) -> socket.socket | None:
        with suppress(ConnectionRefusedError):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(b"GET /l")
            return client
        return None

    with ExitStack() as stack:
        for port in (observed.health_port, observed.metrics_port):
            for _ in range(20):
                client = outcomes.wait_for(partial(connect, port), timeout_s=PATIENCE_S)
                stack.enter_context(found(client, f"a connection to port {port}"))
        yield


@pytest.mark.usefixtures("silent_clients")
def test_two_processes_report_metrics_and_traces_and_a_suspended_one_fails_liveness(
    ai: AiServer, observed: Observed
) -> None:
    assert observed.health("/ready", ok=True).problems == []
    ai.execute("INSERT INTO device_tokens (token, user_id) VALUES ('phone', 'user-0')")
    results = [ai.send(ai.result("graph", user_id=f"user-{number}")) for number in range(4)]
    ai.send_body("no envelope")
    assert {ai.ended(result).status for result in results} == {"COMPLETED"}
    ai.dead_letters(1)
    ai.wait_until_drained()

    def counted(name: str, **labels: str) -> float:
        look = lambda: observed.sample(name, **labels) or None  # noqa: E731
        return found(outcomes.wait_for(look, timeout_s=PATIENCE_S), f"{name} {labels}")

    assert counted("graphnode_messages_handled_total", actor="graph_generation", outcome="done") == 4
    assert counted("graphnode_dead_letters_total", reason="INVALID_ENVELOPE") == 1
    assert counted("graphnode_messages_received_total", queue="results") >= 5
    assert counted("graphnode_step_duration_seconds_count", step="fetch") == 8
    assert counted("graphnode_message_age_seconds_count", queue="results") == 4
    assert counted("graphnode_queue_messages", queue="results-dead-letters") == 1

    look = lambda: observed.collector.trace(results[0].task_id) or None  # noqa: E731
    trace = found(outcomes.wait_for(look, timeout_s=PATIENCE_S), "the trace from receipt to push")
    result_queue = ai.result_queue.rpartition("/")[2]
    assert {"fetch", "decode", "store", "commit", "push"} < trace.keys()
    assert {f"receive {result_queue}", f"process {result_queue}"} < trace.keys()
    assert trace["push"].parent_span_id == trace[f"process {result_queue}"].span_id
    assert not trace[f"process {result_queue}"].parent_span_id

    ai.s3.put_object(Bucket=ai.bucket, Key="summary.json", Body=b"no JSON")
    payload = {"userId": "ada", "status": "COMPLETED", "summaryS3Key": "summary.json"}
    ai.sqs.send_message(
        QueueUrl=ai.result_queue,
        MessageBody=json.dumps({"taskType": "GRAPH_SUMMARY_RESULT", "taskId": "traced", "payload": payload}),
        MessageAttributes={"traceparent": {"DataType": "String", "StringValue": PRODUCER}},
    )
    letter = next(letter for letter in ai.dead_letters(2) if letter.attributes.get("task_id") == "traced")
    assert letter.attributes["trace_id"] == PRODUCER.split("-")[1]

    process = next(child for child in psutil.Process(observed.worker.pid).children() if len(child.threads()) > 8)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        (problem,) = observed.health("/live", ok=False).problems
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert problem.startswith(f"process {process.pid}: no report for")
    observed.health("/live", ok=True)


def test_a_lost_directory_of_health_reports_is_made_again_and_one_that_cannot_be_ends_liveness(
    observed: Observed, tmp_path: Path
) -> None:
    place = Path(tempfile.gettempdir(), f"graphnode-health-{os.getuid()}-{observed.worker.pid}")
    observed.health("/ready", ok=True)

    place.rename(tmp_path / "lost")

    look = lambda: len(list(place.glob("[0-9]*"))) == 2 or None  # noqa: E731
    found(outcomes.wait_for(look, timeout_s=PATIENCE_S), "the directory to be made again")
    assert observed.health("/live", ok=True).problems == []

    def is_obstructed() -> bool | None:
        # A process may make it again in between.
        with suppress(OSError):
            place.rename(tmp_path / str(uuid4()))
            place.write_text("a file is in the way")
        return place.is_file() or None

    found(outcomes.wait_for(is_obstructed, timeout_s=PATIENCE_S), "a file in the directory's place")
    try:
        problems = observed.health("/live", ok=False).problems
    finally:
        place.unlink()
    assert all("no report for" in problem for problem in problems)
    observed.health("/ready", ok=True)
    # Not once a second of each process, for fifteen seconds.
    assert 2 <= observed.worker.log.text().count("health not reported") <= 6
