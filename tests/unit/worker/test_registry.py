from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest
from structlog.testing import capture_logs

from graphnode.broker import SQSBroker
from graphnode.sqs.deliveries import InHand, State
from graphnode.sqs.outages import Ongoing, Outages
from graphnode.sqs.queues import Options
from graphnode.sqs.verdicts import Dead, Done, Hold, Retry, Verdict
from graphnode.storage import workers
from graphnode.storage.workers import Seen
from graphnode.worker.registry import Presence
from tests.unit.conftest import MakeDelivery

PATIENCE_S = 20.0


class Rows:
    """The table `workers`, as far as one process knows it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: dict[str, Seen] = {}
        monkeypatch.setattr(workers, "note", lambda seen: self.rows.update({seen.id: seen}))
        monkeypatch.setattr(workers, "remove", lambda worker_id: self.rows.pop(worker_id, None))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    return Rows(monkeypatch)


@pytest.fixture
def broker() -> SQSBroker:
    broker = SQSBroker(lambda: Options(queues={}, region="eu"), outages=Outages({}), middleware=[])
    broker.in_hand = InHand(threads=4)
    return broker


@pytest.fixture
def presence(broker: SQSBroker) -> Presence:
    presence = Presence(interval_s=lambda: 30.0)
    worker: Any = type("Worker", (), {"worker_threads": 4})
    presence.before_worker_boot(broker, worker)
    return presence


def stop(presence: Presence, broker: SQSBroker) -> None:
    worker: Any = None
    presence.after_worker_shutdown(broker, worker)


def test_it_says_what_the_process_has_in_hand_and_what_became_of_its_messages(
    presence: Presence, broker: SQSBroker, rows: Rows, make_delivery: MakeDelivery
) -> None:
    waiting, running = make_delivery(), make_delivery()
    broker.in_hand.add([waiting, running])
    broker.in_hand.move(running, State.RUNNING)
    verdicts: list[Verdict] = [Done(), Done(), Done(), Retry(5), Retry(5), Dead("X", "x", 1), Hold()]
    for verdict in verdicts:
        settled = make_delivery()
        settled.verdict = verdict
        settle = presence.after_ack if isinstance(verdict, Done) else presence.after_nack
        settle(broker, settled)

    presence.note(broker)

    (row,) = rows.rows.values()
    assert (row.threads, row.interval_s, row.in_hand, row.running) == (4, 30.0, 2, 1)
    assert (row.handled, row.retried, row.dead) == (3, 2, 1)
    assert (row.outage_service, row.outage_since) == (None, None)


def test_it_says_which_service_is_away_and_since_when(presence: Presence, broker: SQSBroker, rows: Rows) -> None:
    since = datetime.now(UTC)
    broker.outages.ongoing = Ongoing("AWS", since)

    presence.note(broker)

    (row,) = rows.rows.values()
    assert (row.outage_service, row.outage_since) == ("AWS", since)


def test_a_stop_takes_the_row_away_and_no_later_note_brings_it_back(
    presence: Presence, broker: SQSBroker, rows: Rows
) -> None:
    presence.note(broker)

    stop(presence, broker)
    presence.note(broker)

    assert rows.rows == {}


def test_a_database_that_cannot_be_written_holds_up_no_message_and_no_stop(
    presence: Presence, broker: SQSBroker, make_delivery: MakeDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, let_go = threading.Event(), threading.Event()

    def hang(_: Seen) -> None:
        begun.set()
        let_go.wait(PATIENCE_S)

    def fail(_: str) -> None:
        raise psycopg2.OperationalError("away")

    monkeypatch.setattr(workers, "note", hang)
    monkeypatch.setattr(workers, "remove", fail)
    noting = threading.Thread(target=presence.note, args=(broker,))
    noting.start()
    assert begun.wait(PATIENCE_S)

    presence.after_ack(broker, make_delivery())
    let_go.set()
    with capture_logs() as lines:
        stop(presence, broker)

    noting.join(PATIENCE_S)
    assert [line["event"] for line in lines] == ["not removed from the workers"]
