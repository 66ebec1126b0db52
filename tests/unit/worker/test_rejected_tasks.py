"""A result that becomes a dead letter ends its task first."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dramatiq
import pytest

from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.contract.envelopes import RESULT_QUEUE, Envelope
from graphnode.contract.rejections import to_message_or_rejection
from graphnode.errors import DatabaseFault, InvalidDocument, ObjectNotFound, ServiceFault, UserLocked, WrongOwner
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.deliveries import Delivery
from graphnode.sqs.queues import Options
from graphnode.sqs.verdicts import DeadLetter, Park, Retry, RetryPolicy
from graphnode.worker.middleware import Verdicts
from graphnode.worker.rejected_tasks import Rejections
from tests.ledgers import MemoryLedger
from tests.unit.conftest import MakeDelivery

Play = Callable[..., Delivery]


class Actor:
    """The actor of graph generations: it keeps what it gets, and raises what it is told to."""

    def __init__(self) -> None:
        self.got: list[Envelope[Any]] = []
        self.errors: list[Exception] = []

    def handle(self, envelope: Envelope[Any]) -> None:
        self.got.append(envelope)
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def actor() -> Actor:
    return Actor()


@pytest.fixture
def broker(actor: Actor, database_is_back: threading.Event) -> SQSBroker:
    def probe(_fault: ServiceFault | None) -> None:
        if not database_is_back.is_set():
            raise ConnectionError("away")

    made = SQSBroker(
        lambda: Options(queues={}, aws=Aws(region="eu-central-1"), retry=RetryPolicy(max_attempts=2)),
        breaker=CircuitBreaker({DatabaseFault.service: probe}),
        middleware=[Rejections(), Verdicts(MemoryLedger())],
    )
    dramatiq.actor(actor_name="graph_generation", queue_name=RESULT_QUEUE, broker=made)(actor.handle)
    return made


@pytest.fixture
def play(broker: SQSBroker, make_delivery: MakeDelivery) -> Play:
    """Lets a delivery of a result end with this error."""

    def end(error: Exception | None, *, delivery: Delivery | None = None, **payload: Any) -> Delivery:
        given = delivery or make_delivery()
        known = {"userId": "ada", "status": "COMPLETED", "resultS3Key": "a.json", **payload}
        body = json.dumps({"taskType": "GRAPH_GENERATION_RESULT", "taskId": "t-1", "payload": known})
        given.reset()
        given.begin(to_message_or_rejection(body, message_id="m", sent_at=datetime.now(UTC), receive_count=1))
        broker.emit_after("process_message", given, exception=error)
        return given

    return end


def test_a_permanent_error_ends_the_task_before_the_letter(play: Play, actor: Actor) -> None:
    delivery = play(InvalidDocument("nodes: missing"))

    assert isinstance(delivery.verdict, DeadLetter)
    (envelope,) = actor.got
    assert (envelope.task_id, envelope.payload.status, envelope.is_rejected) == ("t-1", "FAILED", True)


def test_only_the_last_attempt_ends_the_task(play: Play, actor: Actor) -> None:
    delivery = play(ObjectNotFound())
    assert isinstance(delivery.verdict, Retry)
    assert actor.got == []

    play(ObjectNotFound(), delivery=delivery)
    assert isinstance(delivery.verdict, DeadLetter)
    assert [envelope.payload.error for envelope in actor.got] == ["The result did not arrive."]


@pytest.mark.parametrize("error", [UserLocked(), DatabaseFault("connection refused")])
def test_a_message_whose_task_cannot_be_ended_now_waits_for_its_letter(
    error: Exception, play: Play, actor: Actor
) -> None:
    actor.errors = [error]

    delivery = play(InvalidDocument("nodes: missing"))
    assert isinstance(delivery.verdict, Park)

    play(InvalidDocument("nodes: missing"), delivery=delivery)
    assert isinstance(delivery.verdict, DeadLetter)
    assert len(actor.got) == 2


def test_a_task_that_is_another_users_does_not_hold_up_the_letter(play: Play, actor: Actor) -> None:
    actor.errors = [WrongOwner("it is eve's")]

    assert isinstance(play(InvalidDocument("nodes: missing")).verdict, DeadLetter)


@pytest.mark.parametrize("raised", [None, WrongOwner("it is eve's")])
def test_a_body_that_is_no_valid_result_is_a_dead_letter_once_its_actor_has_ended_the_task(
    raised: Exception | None, play: Play, actor: Actor
) -> None:
    delivery = play(raised, status="DONE")

    assert isinstance(delivery.verdict, DeadLetter)
    assert delivery.verdict.reason == "INVALID_ENVELOPE"
    # Its actor has done it as its own work.
    assert actor.got == []


def test_a_body_that_is_no_valid_result_waits_if_its_task_cannot_be_ended_now(play: Play) -> None:
    assert isinstance(play(UserLocked(), status="DONE").verdict, Park)
