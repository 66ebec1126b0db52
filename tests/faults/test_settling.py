from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import Any

import dramatiq
import pytest

from benchmarks.sqs_stub import StubServer
from graphnode import broker
from graphnode.errors import InvalidDocument, ObjectNotFound
from graphnode.sqs import settlement
from graphnode.sqs.verdicts import RetryPolicy
from tests.faults.conftest import StartWorker, wait_until


def test_messages_are_deleted_in_batches(start: StartWorker, stub: StubServer) -> None:
    handled: list[str] = []
    worker = start(handled.append, threads=8)

    stub.fill(worker.queue, [f"m {number}" for number in range(200)])

    wait_until(lambda: len(handled) == 200 and not stub.messages(worker.queue), "all to be deleted")
    assert stub.calls("DeleteMessage") == 0
    assert stub.calls("DeleteMessageBatch") <= 40


@pytest.mark.parametrize("kind", ["partial", "server_error", "throttle", "drop", "hang"])
def test_deletions_that_fail_are_tried_again(
    start: StartWorker, stub: StubServer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "CALL_TIMEOUT_S", 1)
    handled: list[str] = []
    stub.order(faults=[{"action": "DeleteMessageBatch", "kind": kind, "times": 2}])
    worker = start(handled.append)

    stub.fill(worker.queue, [f"m {number}" for number in range(10)])

    wait_until(lambda: handled and not stub.messages(worker.queue), "all to be deleted")
    assert sorted(handled) == sorted(f"m {number}" for number in range(10))


def test_a_transient_error_returns_the_message_by_its_visibility_timeout(start: StartWorker, stub: StubServer) -> None:
    attempts: list[float] = []

    def handle(_body: str) -> None:
        attempts.append(time.monotonic())
        if len(attempts) < 3:
            raise ObjectNotFound("throttled")

    worker = start(handle, retry=RetryPolicy(max_attempts=5, backoff_min_s=1, backoff_max_s=1))
    stub.fill(worker.queue, ["again"])

    wait_until(lambda: len(attempts) == 3 and not stub.messages(worker.queue), "the third attempt")
    assert stub.calls("SendMessage") == 0
    # The back-off is one second.
    assert all(later - earlier > 0.9 for earlier, later in pairwise(attempts))


def test_the_last_failed_attempt_makes_a_dead_letter(start: StartWorker, stub: StubServer) -> None:
    def handle(_body: str) -> None:
        raise ObjectNotFound("throttled")

    worker = start(handle, retry=RetryPolicy(max_attempts=2, backoff_min_s=1, backoff_max_s=1))
    stub.fill(worker.queue, ["hopeless"])

    (letter,) = wait_until(lambda: stub.messages(f"{worker.queue}-dlq"), "the dead letter")
    assert letter["body"] == "hopeless"
    assert (letter["attributes"]["reason"], letter["attributes"]["attempt"]) == ("OBJECT_NOT_FOUND", "2")
    wait_until(lambda: not stub.messages(worker.queue), "the original to be deleted")


def test_a_dead_letter_that_cannot_be_sent_leaves_the_message_on_its_queue(
    start: StartWorker, stub: StubServer
) -> None:
    def handle(_body: str) -> None:
        raise InvalidDocument("nodes[3].id: …")

    # SQS refuses once: boto3 does not repeat a refused call.
    stub.order(faults=[{"action": "SendMessage", "kind": "denied", "times": 1}])
    worker = start(handle, visibility_s=2)
    stub.fill(worker.queue, ["stays"])

    (letter,) = wait_until(lambda: stub.messages(f"{worker.queue}-dlq"), "the dead letter at the second delivery")
    assert letter["attributes"]["attempt"] == "2"


def test_a_body_at_the_size_limit_still_becomes_a_dead_letter(start: StartWorker, stub: StubServer) -> None:
    body = "bad" + "x" * (1024 * 1024 - 3)
    worker = start(lambda _body: None)

    stub.fill(worker.queue, [body])

    (letter,) = wait_until(lambda: stub.messages(f"{worker.queue}-dlq"), "the dead letter")
    assert letter["body"] == body
    assert letter["attributes"] == {}


def test_a_fault_in_a_middleware_does_not_delete_a_message_that_failed(
    start: StartWorker, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphnode.sqs.consumer.UNDECIDED_BACKOFF_S", 1)
    handled: list[str] = []

    class Broken(dramatiq.Middleware):
        """Removes the first verdict, as a fault in the middleware that gives it would."""

        def before_ack(self, _broker: dramatiq.Broker, message: Any) -> None:
            if len(handled) == 1:
                message.verdict = None

    worker = start(handled.append, threads=1, middleware=[Broken()])
    stub.fill(worker.queue, ["kept"])

    wait_until(lambda: len(handled) == 2 and not stub.messages(worker.queue), "the second delivery")


def test_a_duplicate_delivery_is_settled_like_the_first(start: StartWorker, stub: StubServer) -> None:
    handled: list[str] = []
    stub.order(faults=[{"action": "ReceiveMessage", "kind": "duplicate"}])
    worker = start(handled.append)

    stub.fill(worker.queue, ["twice"])

    wait_until(lambda: len(handled) == 2 and not stub.messages(worker.queue), "both deliveries")


def test_no_verdict_is_left_in_memory_when_the_worker_has_stopped(
    start: StartWorker, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the stop, the verdict would wait for a minute.
    monkeypatch.setattr(settlement, "GATHER_S", 60)
    handled = threading.Event()
    worker = start(lambda _body: handled.set())
    stub.fill(worker.queue, ["last"])
    assert handled.wait(10)

    worker.stop()

    assert stub.messages(worker.queue) == []
