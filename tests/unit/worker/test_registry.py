from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from structlog.testing import capture_logs

from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.sqs.circuit_breaker import CircuitBreaker, Ongoing
from graphnode.sqs.deliveries import InFlight
from graphnode.sqs.poll_failures import FailingPolls
from graphnode.sqs.queues import Options
from graphnode.sqs.verdicts import Ack, DeadLetter, Discard, Park, Retry, Verdict
from graphnode.storage import workers
from graphnode.storage.workers import WorkerRecord
from graphnode.worker.registry import Registry
from tests.unit.conftest import MakeDelivery

PATIENCE_S = 20.0


class Rows:
    """Stands in for the table `workers`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: dict[str, WorkerRecord] = {}
        monkeypatch.setattr(workers, "save_process", lambda process: self.rows.update({process.id: process}))
        monkeypatch.setattr(workers, "remove_process", lambda worker_id: self.rows.pop(worker_id, None))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    return Rows(monkeypatch)


@pytest.fixture
def broker() -> SQSBroker:
    broker = SQSBroker(lambda: Options(queues={}, aws=Aws(region="eu")), breaker=CircuitBreaker({}), middleware=[])
    broker.in_flight = InFlight(threads=4)
    broker.in_flight.open("https://sqs/results")
    return broker


@pytest.fixture
def registry(broker: SQSBroker, monkeypatch: pytest.MonkeyPatch) -> Registry:
    registry = Registry()
    monkeypatch.setattr("graphnode.worker.registry.settings", lambda: SimpleNamespace(sweep_interval=30.0))
    worker: Any = type("Worker", (), {"worker_threads": 4})
    registry.before_worker_boot(broker, worker)
    return registry


def stop(registry: Registry, broker: SQSBroker) -> None:
    worker: Any = None
    registry.after_worker_shutdown(broker, worker)


def test_the_row_counts_the_messages_in_flight_the_verdicts_and_the_letters_that_sqs_has_taken(
    registry: Registry, broker: SQSBroker, rows: Rows, make_delivery: MakeDelivery
) -> None:
    for _ in range(2):
        broker.in_flight.add(make_delivery())
    assert broker.in_flight.take("https://sqs/results", timeout_s=0)
    refused = [DeadLetter("X", "x", attempt) for attempt in (8, 9)]
    verdicts: list[Verdict] = [Ack(), Ack(), Ack(), Discard(5), Retry(5), Retry(5), *refused, Park()]
    for verdict in verdicts:
        settled = make_delivery()
        settled.verdict = verdict
        settle = registry.after_ack if isinstance(verdict, Ack) else registry.after_nack
        settle(broker, settled)
    registry.after_dead_letter(make_delivery(), DeadLetter("INVALID_ENVELOPE", "undecodable", 1))

    registry.write_row(broker)

    (row,) = rows.rows.values()
    assert (row.threads, row.interval_s, row.in_hand, row.running) == (4, 30.0, 2, 1)
    assert (row.handled, row.retried, row.dead) == (3, 2, 1)
    assert (row.outage_service, row.outage_since) == (None, None)


def test_the_row_names_the_service_that_is_away_and_since_when(
    registry: Registry, broker: SQSBroker, rows: Rows
) -> None:
    since = datetime.now(UTC)
    broker.breaker.ongoing = Ongoing("S3", since, "refused", "Mend it.")

    registry.write_row(broker)

    (row,) = rows.rows.values()
    assert (row.outage_service, row.outage_since) == ("S3", since)
    assert (row.outage_error, row.outage_advice) == ("refused", "Mend it.")


def test_failing_polls_are_an_outage_of_sqs_in_the_row_unless_the_circuit_breaker_is_open(
    registry: Registry, broker: SQSBroker, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    since, later = datetime.now(UTC) - timedelta(seconds=90), datetime.now(UTC) - timedelta(seconds=80)
    queues = [
        FailingPolls("results", -90.0, since, -10.0, "no such queue", "Create it."),
        FailingPolls("notifications", -80.0, later, -10.0, "no such queue", "Create it."),
        FailingPolls("others", -80.0, later, -10.0, "denied", "Allow it."),
    ]
    monkeypatch.setattr("graphnode.worker.registry.failing_polls", lambda: queues)

    registry.write_row(broker)

    (row,) = rows.rows.values()
    assert (row.outage_service, row.outage_since) == ("SQS", since)
    assert row.outage_error == "polls of results and notifications fail: no such queue; polls of others fail: denied"
    assert row.outage_advice == "Create it. Allow it."

    broker.breaker.ongoing = Ongoing("S3", later, "refused", "Mend it.")
    registry.write_row(broker)

    (row,) = rows.rows.values()
    assert row.outage_service == "S3"


def test_a_stop_removes_the_row_and_no_later_write_restores_it(
    registry: Registry, broker: SQSBroker, rows: Rows
) -> None:
    registry.write_row(broker)

    stop(registry, broker)
    registry.write_row(broker)

    assert rows.rows == {}


def test_a_database_that_is_away_delays_neither_a_message_nor_a_stop(
    registry: Registry, broker: SQSBroker, make_delivery: MakeDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, unblock = threading.Event(), threading.Event()

    def hang(_: WorkerRecord) -> None:
        writing.set()
        unblock.wait(PATIENCE_S)

    def fail(_: str) -> None:
        raise psycopg2.OperationalError("away")

    monkeypatch.setattr(workers, "save_process", hang)
    monkeypatch.setattr(workers, "remove_process", fail)
    writer = threading.Thread(target=registry.write_row, args=(broker,))
    writer.start()
    assert writing.wait(PATIENCE_S)

    registry.after_ack(broker, make_delivery())
    unblock.set()
    with capture_logs() as lines:
        stop(registry, broker)

    writer.join(PATIENCE_S)
    assert [line["event"] for line in lines] == ["not removed from the workers"]
