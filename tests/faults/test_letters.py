"""Dead letters while SQS refuses them, or the deletion of their messages."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from benchmarks.sqs_stub import StubServer
from graphnode.errors import InvalidDocument, ObjectNotFound
from graphnode.sqs.deliveries import Delivery, State
from graphnode.sqs.letter_sender import LetterSender
from graphnode.sqs.verdicts import DeadLetter, RetryPolicy
from tests.faults.conftest import PATIENCE_S, StartWorker, wait_until

#: The deletions that SQS refuses until the stub is mended.
NO_DELETIONS = {"action": "DeleteMessageBatch", "kind": "denied", "times": None}


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """The log's lines."""
    with capture_logs() as found:
        yield found


def counted(lines: list[Any]) -> Counter[str]:
    """How often each event about letters was logged."""
    return Counter(line["event"] for line in lines if "letter" in line["event"])


def test_attempts_survive_refused_letters_and_only_the_one_that_sqs_takes_is_told(
    start: StartWorker, stub: StubServer, lines: list[Any]
) -> None:
    def handle(_body: str) -> None:
        raise ObjectNotFound("not there")

    worker = start(handle, retry=RetryPolicy(max_attempts=2, backoff_min_s=1, backoff_max_s=1))
    dead_letters = f"{worker.queue}-dlq"
    stub.order(faults=[{"action": "SendMessage", "queue": dead_letters, "kind": "denied", "times": None}])
    stub.fill(worker.queue, ["hopeless"])

    wait_until(lambda: stub.calls("SendMessage") >= 3, "three refused letters")
    assert worker.ledger.letters == []
    assert counted(lines) == {"dead letter not sent: the message stays on its queue": 1}
    stub.order(mend=True)

    (letter,) = wait_until(lambda: stub.messages(dead_letters), "the letter that SQS takes")
    # The first letter was that of the second attempt.
    assert int(letter["attributes"]["attempt"]) == stub.calls("SendMessage") + 1
    wait_until(lambda: not stub.messages(worker.queue), "the message to be deleted")
    assert len(worker.ledger.letters) == 1
    assert counted(lines) == {
        "dead letter not sent: the message stays on its queue": 1,
        "dead letters are taken again": 1,
        "dead letter": 1,
    }


def test_a_refused_letter_waits_for_the_first_back_off(start: StartWorker, stub: StubServer) -> None:
    worker = start(lambda _body: None, retry=RetryPolicy(backoff_min_s=300, backoff_max_s=300))
    stub.order(faults=[{"action": "SendMessage", "kind": "denied", "times": None}])

    stub.fill(worker.queue, ["bad envelope"])

    wait_until(lambda: stub.calls("ChangeMessageVisibilityBatch"), "the message to go back")
    (message,) = stub.messages(worker.queue)
    assert not message["visible"]
    assert message["receive_count"] == 1


def test_a_message_that_sqs_does_not_delete_has_one_letter_and_runs_once(
    start: StartWorker, stub: StubServer, lines: list[Any]
) -> None:
    handled: list[str] = []

    def handle(body: str) -> None:
        handled.append(body)
        raise InvalidDocument("nodes[3].id: …")

    stub.order(faults=[NO_DELETIONS])
    workers = [start(handle, visibility_s=2) for _ in range(2)]
    queue = workers[0].queue
    stub.fill(queue, ["doomed", "bad envelope"])

    wait_until(lambda: min(each["receive_count"] for each in stub.messages(queue)) >= 4, "four deliveries of both")
    assert sorted(each["body"] for each in stub.messages(f"{queue}-dlq")) == ["bad envelope", "doomed"]
    assert handled == ["doomed"]
    assert counted(lines)["dead letter"] == len(workers[0].ledger.letters) == 2
    stub.order(mend=True)
    wait_until(lambda: not stub.messages(queue), "the messages to be deleted")
    assert len(stub.messages(f"{queue}-dlq")) == 2


def test_another_worker_sends_no_second_letter(start: StartWorker, stub: StubServer) -> None:
    handled: list[str] = []

    def handle(body: str) -> None:
        handled.append(body)
        raise InvalidDocument("nodes[3].id: …")

    stub.order(faults=[NO_DELETIONS])
    first = start(handle, visibility_s=2)
    stub.fill(first.queue, ["doomed", "bad envelope"])
    wait_until(lambda: len(stub.messages(f"{first.queue}-dlq")) == 2, "both letters")
    first.stop()
    stub.order(mend=True)

    start(handle, visibility_s=2)

    wait_until(lambda: not stub.messages(first.queue), "the messages to be deleted")
    assert len(stub.messages(f"{first.queue}-dlq")) == 2
    assert handled == ["doomed"]


def test_after_the_letters_own_delivery_each_one_tries_one_deletion(start: StartWorker, stub: StubServer) -> None:
    stub.order(faults=[NO_DELETIONS])
    worker = start(lambda _body: None, visibility_s=3)
    stub.fill(worker.queue, ["bad envelope"])

    def deletions(deliveries: int) -> int | None:
        """The deletions that were tried when the last of so many deliveries has gone back."""
        state = stub.order(show=worker.queue)
        (message,) = state["messages"]
        went_back = state["calls"].get("ChangeMessageVisibilityBatch", 0)
        is_over = went_back + 1 == message["receive_count"] == deliveries
        return int(state["calls"]["DeleteMessageBatch"]) if is_over else None

    # By then the tries of the first delivery are over.
    third = wait_until(lambda: deletions(3), "the third delivery")
    assert wait_until(lambda: deletions(5), "the fifth delivery") - third == 2


def test_a_stop_waits_for_the_letters(start: StartWorker, stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, put, close = threading.Event(), LetterSender._put, LetterSender.close

    def put_later(self: LetterSender, delivery: Delivery, dead: DeadLetter) -> None:
        go_on.wait(PATIENCE_S)
        put(self, delivery, dead)

    def close_and_go_on(self: LetterSender) -> None:
        threading.Timer(0.1, go_on.set).start()
        close(self)

    monkeypatch.setattr(LetterSender, "_put", put_later)
    monkeypatch.setattr(LetterSender, "close", close_and_go_on)
    worker = start(lambda _body: None)
    stub.fill(worker.queue, ["bad 1", "bad 2", "bad 3"])
    in_flight = worker.broker.in_flight.snapshot
    wait_until(lambda: [each.state for each in in_flight()] == [State.GIVEN_UP] * 3, "three letters to wait")

    worker.stop()

    assert len(stub.messages(f"{worker.queue}-dlq")) == 3
    assert stub.messages(worker.queue) == []
