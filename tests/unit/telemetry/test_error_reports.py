"""Error reports, sent to a local server that accepts envelopes as Sentry does."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg2
import pytest
import sentry_sdk

from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.errors import (
    AwsFault,
    DatabaseFault,
    GraphNodeError,
    InvalidDocument,
    ObjectNotFound,
    SettingsError,
    classify_error,
)
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.deliveries import Delivery
from graphnode.sqs.queues import Options
from graphnode.sqs.verdicts import RetryPolicy
from graphnode.telemetry import error_reports
from graphnode.telemetry.rate_limit import RateLimiter
from graphnode.worker.middleware import Verdicts
from tests.ledgers import MemoryLedger
from tests.unit.conftest import MakeDelivery

SECRET = "what the user wrote"

TASK = {"task_id": "t-1", "task_type": "GRAPH_GENERATION_RESULT", "user_id": "ada"}


class SentryServer(ThreadingHTTPServer):
    """A local Sentry that keeps the envelopes it receives."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), EnvelopeHandler)
        self.envelopes: list[str] = []

    @property
    def dsn(self) -> str:
        """Its DSN, for `SENTRY_DSN`."""
        return f"http://key@127.0.0.1:{self.server_address[1]}/1"

    @property
    def reports(self) -> list[dict[str, Any]]:
        """The event of each envelope: the line after the envelope's head and the item's head."""
        return [json.loads(envelope.splitlines()[2]) for envelope in self.envelopes]


class EnvelopeHandler(BaseHTTPRequestHandler):
    """Accepts envelopes: https://develop.sentry.dev/sdk/data-model/envelopes/"""

    server: SentryServer

    def do_POST(self) -> None:
        """Keep an envelope."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        if self.path == "/api/1/envelope/":
            self.server.envelopes.append(body.decode())
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep the test's output clean."""


@pytest.fixture
def sentry(monkeypatch: pytest.MonkeyPatch) -> Iterator[SentryServer]:
    """The server that reports go to."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(error_reports, "_limiter", RateLimiter())
    with SentryServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        error_reports.open_reports(server.dsn)
        yield server
        sentry_sdk.get_client().close(timeout=0)
        sentry_sdk.get_global_scope().set_client(None)
        server.shutdown()
        thread.join()


@pytest.fixture
def broker() -> SQSBroker:
    """A broker whose middleware the test calls. A message has two attempts."""
    return SQSBroker(
        lambda: Options(queues={}, aws=Aws(region="eu-central-1"), retry=RetryPolicy(max_attempts=2)),
        breaker=CircuitBreaker({DatabaseFault.service: lambda _fault: None}),
        middleware=[Verdicts(MemoryLedger())],
    )


@pytest.fixture
def delivery(make_delivery: MakeDelivery) -> Delivery:
    """A delivery of TASK's message."""
    made = make_delivery()
    made.options["log_fields"] = TASK
    return made


def unexpected_error() -> GraphNodeError:
    """An unexpected error, with a user's text in its message and in a local variable."""
    text = SECRET
    try:
        try:
            raise KeyError(text)
        except KeyError as error:
            raise ValueError(text) from error
    except ValueError as error:
        return classify_error(error)


def test_a_failure_is_reported_with_its_task_but_without_the_quoted_value(sentry: SentryServer) -> None:
    error = InvalidDocument(f"nodes[1].id: expected int, got {SECRET}", log="nodes[1].id: expected int")

    error_reports.report_failure(error, actor="graph_generation", attempt=2, task=TASK)
    error_reports.close_reports()

    (report,) = sentry.reports
    assert report["fingerprint"] == ["INVALID_DOCUMENT", "graph_generation"]
    assert report["tags"] == {
        "reason": "INVALID_DOCUMENT",
        "actor": "graph_generation",
        "task_type": "GRAPH_GENERATION_RESULT",
    }
    assert report["contexts"]["task"] == {
        "task_id": "t-1",
        "task_type": "GRAPH_GENERATION_RESULT",
        "actor": "graph_generation",
        "attempt": 2,
    }
    (exception,) = report["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("InvalidDocument", "nodes[1].id: expected int")
    assert SECRET not in sentry.envelopes[0]


def test_an_unexpected_error_is_reported_at_once_with_a_stack_without_values(
    sentry: SentryServer, broker: SQSBroker, delivery: Delivery
) -> None:
    error = unexpected_error().__cause__
    assert error is not None

    broker.emit_after("process_message", delivery, exception=error)
    error_reports.close_reports()

    (report,) = sentry.reports
    values = report["exception"]["values"]
    assert [(value["type"], value["value"]) for value in values] == [
        ("KeyError", ""),
        ("ValueError", ""),
        ("Unexpected", "ValueError"),
    ]
    (frame,) = values[0]["stacktrace"]["frames"]
    assert (frame["function"], frame["context_line"]) == ("unexpected_error", "raise KeyError(text)")
    assert SECRET not in sentry.envelopes[0]


def test_a_row_that_postgresql_quotes_is_not_reported(sentry: SentryServer) -> None:
    error = classify_error(psycopg2.ProgrammingError(f"DETAIL: Key (name)=({SECRET})"))

    error_reports.report_failure(error, actor="add_node", attempt=1, task=TASK)
    error_reports.close_reports()

    assert len(sentry.envelopes) == 1
    assert SECRET not in sentry.envelopes[0]


def test_an_outage_is_reported_with_its_service(sentry: SentryServer) -> None:
    error_reports.report_outage(
        AwsFault(f"AWS cannot be reached: {SECRET}", log="AWS cannot be reached"), service="AWS"
    )
    error_reports.close_reports()

    (report,) = sentry.reports
    assert (report["fingerprint"], report["tags"]["service"]) == (["AWS_FAULT", "AWS"], "AWS")
    assert SECRET not in sentry.envelopes[0]


def test_reports_of_one_kind_are_limited_to_ten_and_hide_no_other_kind(sentry: SentryServer) -> None:
    for _ in range(30):
        error_reports.report_failure(ObjectNotFound("busy"), actor="add_node", attempt=8, task=TASK)
    error_reports.report_failure(InvalidDocument("bad"), actor="add_node", attempt=1, task=TASK)
    error_reports.close_reports()

    reasons = [report["tags"]["reason"] for report in sentry.reports]
    assert (reasons.count("OBJECT_NOT_FOUND"), reasons.count("INVALID_DOCUMENT")) == (10, 1)


def test_data_that_other_code_gives_the_sdk_is_not_sent(sentry: SentryServer) -> None:
    sentry_sdk.add_breadcrumb(message=SECRET)
    sentry_sdk.set_user({"id": SECRET})
    sentry_sdk.set_extra("body", SECRET)
    sentry_sdk.capture_message(SECRET)
    error_reports.report_failure(ObjectNotFound("busy"), actor="add_node", attempt=8, task=TASK)
    error_reports.close_reports()

    (envelope,) = sentry.envelopes
    assert SECRET not in envelope
    assert sentry.reports[0].keys() <= error_reports.FIELDS


def test_a_sentry_that_is_away_raises_nothing(sentry: SentryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_reports, "FLUSH_S", 0.01)
    sentry.server_close()

    error_reports.report_failure(ObjectNotFound("busy"), actor="add_node", attempt=8, task=TASK)
    error_reports.close_reports()

    assert sentry.envelopes == []


def test_without_a_dsn_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentry_sdk, "capture_event", lambda *_: pytest.fail("it was reported"))

    error_reports.open_reports(None)
    error_reports.report_outage(DatabaseFault(), service="PostgreSQL")
    error_reports.close_reports()


def test_a_dsn_without_the_sdk_is_refused_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)

    with pytest.raises(SettingsError, match=r"pip install 'graphnode-worker\[sentry\]'"):
        error_reports.open_reports("https://key@sentry.example/1")


def test_an_invalid_dsn_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        error_reports.open_reports("https://hunter2@sentry.example/")

    assert "hunter2" not in str(caught.value)
