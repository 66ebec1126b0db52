from __future__ import annotations

import pytest
from dramatiq.middleware import SkipMessage
from structlog.testing import capture_logs

from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.errors import InvalidDocument
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.deliveries import Delivery
from graphnode.sqs.queues import Options
from graphnode.sqs.verdicts import DeadLetter, Discard, RetryPolicy
from graphnode.worker import middleware
from graphnode.worker.middleware import SentLetters, worker_middleware
from tests.ledgers import MemoryLedger
from tests.unit.conftest import MakeDelivery

DEAD = DeadLetter("INVALID_DOCUMENT", "nodes: missing", 1, InvalidDocument("nodes: missing"))


class AskedLedger(MemoryLedger):
    """Keeps whom it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def is_given_up(self, delivery: Delivery) -> bool:
        self.asked.append(delivery.sqs_id)
        return super().is_given_up(delivery)


class AwayLedger(MemoryLedger):
    """Its database is away."""

    def give_up(self, delivery: Delivery, dead: DeadLetter) -> None:
        raise ConnectionError("away")

    def is_given_up(self, delivery: Delivery) -> bool:
        raise ConnectionError("away")


@pytest.fixture
def broker() -> SQSBroker:
    """A broker for the middleware to look at. It never calls SQS."""
    retry = RetryPolicy(backoff_min_s=7, backoff_max_s=7)
    return SQSBroker(
        lambda: Options(queues={}, aws=Aws(region="eu"), retry=retry), breaker=CircuitBreaker({}), middleware=[]
    )


@pytest.fixture
def ledger() -> AskedLedger:
    return AskedLedger()


@pytest.fixture
def sent(ledger: AskedLedger) -> SentLetters:
    return SentLetters(ledger)


def is_skipped(sent: SentLetters, broker: SQSBroker, delivery: Delivery) -> bool:
    """Whether neither its actor runs nor a letter of it is sent."""
    try:
        sent.before_process_message(broker, delivery)
    except SkipMessage:
        with pytest.raises(SkipMessage):
            sent.before_dead_letter(delivery)
        return True
    sent.before_dead_letter(delivery)
    return False


def test_a_message_that_comes_again_after_its_letter_is_only_deleted(
    sent: SentLetters, broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    sent.after_dead_letter(make_delivery(sqs_id="m"), DEAD)
    again = make_delivery(sqs_id="m")

    with capture_logs() as lines:
        assert is_skipped(sent, broker, again)

    assert again.verdict == Discard(7)
    assert [line["event"] for line in lines] == ["only deleted: its dead letter was sent at an earlier delivery"]
    assert not is_skipped(sent, broker, make_delivery(sqs_id="other"))


def test_a_message_whose_letter_another_process_has_sent_is_only_deleted(
    sent: SentLetters, ledger: AskedLedger, broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    SentLetters(ledger).after_dead_letter(make_delivery(sqs_id="m"), DEAD)

    assert is_skipped(sent, broker, make_delivery(sqs_id="m", receive_count=2))
    assert not is_skipped(sent, broker, make_delivery(sqs_id="other", receive_count=2))


def test_the_ledger_is_not_asked_about_a_first_delivery(
    sent: SentLetters, ledger: AskedLedger, broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    assert not is_skipped(sent, broker, make_delivery(receive_count=1))

    assert ledger.asked == []


def test_a_ledger_that_is_away_keeps_no_message_and_forgets_no_letter_of_this_process(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    sent = SentLetters(AwayLedger())

    with capture_logs() as lines:
        sent.after_dead_letter(make_delivery(sqs_id="m"), DEAD)
        assert not is_skipped(sent, broker, make_delivery(sqs_id="other", receive_count=2))

    assert {line["log_level"] for line in lines} == {"debug"}
    assert is_skipped(sent, broker, make_delivery(sqs_id="m", receive_count=2))


def test_a_process_remembers_the_newest_letters(
    broker: SQSBroker, make_delivery: MakeDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "MOST_REMEMBERED", 3)
    sent = SentLetters(MemoryLedger())

    for number in range(5):
        sent.after_dead_letter(make_delivery(sqs_id=str(number)), DEAD)

    again = [number for number in range(5) if is_skipped(sent, broker, make_delivery(sqs_id=str(number)))]
    assert again == [2, 3, 4]


def test_a_skipped_message_has_its_log_fields_and_takes_no_memory() -> None:
    order = [
        type(each).__name__
        for each in worker_middleware(prepare=lambda _broker, _worker: None, ledger=MemoryLedger(), document_memory=1)
    ]

    assert order.index("LogContext") < order.index("SentLetters") < order.index("AdmissionControl")
