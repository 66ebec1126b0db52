from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from benchmarks.sqs_stub import StubServer
from graphnode.sqs.arrivals import UNKNOWN
from graphnode.sqs.consumer import SQSConsumer
from graphnode.sqs.deliveries import Delivery
from tests.faults.conftest import PATIENCE_S, StartWorker, wait_until


def test_an_idle_worker_makes_one_long_poll_whatever_dramatiqs_own_timeout(
    start: StartWorker, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts = threading.Semaphore(0)
    take_next = SQSConsumer.__next__

    def count_timeouts(consumer: SQSConsumer) -> Delivery | None:
        found = take_next(consumer)
        timeouts.release()
        return found

    monkeypatch.setattr(SQSConsumer, "__next__", count_timeouts)
    start(lambda _body: None)
    wait_until(lambda: stub.calls("ReceiveMessage"), "the first poll")

    # Dramatiq waits 250 ms for a message: a poll that ended with this wait would be followed by others.
    assert all(timeouts.acquire(timeout=20) for _ in range(6))

    assert stub.calls("ReceiveMessage") == 1


def test_a_message_is_handled_as_soon_as_it_arrives_in_a_long_poll(start: StartWorker, stub: StubServer) -> None:
    handled = threading.Event()
    worker = start(lambda _body: handled.set())
    wait_until(lambda: stub.calls("ReceiveMessage"), "the first poll")

    stub.fill(worker.queue, ["hello"])

    assert handled.wait(5)


def test_a_slow_message_delays_no_others(start: StartWorker, stub: StubServer) -> None:
    release = threading.Event()
    handled: list[str] = []

    def handle(body: str) -> None:
        if body == "slow":
            release.wait(30)
        handled.append(body)

    worker = start(handle, threads=2)
    stub.fill(worker.queue, ["slow", *(f"fast {number}" for number in range(30))])

    wait_until(lambda: len(handled) == 30, "the fast messages")
    assert "slow" not in handled
    release.set()
    wait_until(lambda: len(handled) == 31, "the slow one")


def test_no_more_is_fetched_than_the_threads_can_take_soon(start: StartWorker, stub: StubServer) -> None:
    release = threading.Event()
    running: list[str] = []

    def handle(body: str) -> None:
        running.append(body)
        release.wait(30)

    worker = start(handle, threads=3)
    stub.fill(worker.queue, [f"m {number}" for number in range(50)])
    wait_until(lambda: len(running) == 3, "three running messages")

    in_flight = [message for message in stub.messages(worker.queue) if not message["visible"]]
    release.set()

    assert len(in_flight) == 3


def test_a_failing_poll_is_logged_once_and_repeated_until_it_works(start: StartWorker, stub: StubServer) -> None:
    handled = threading.Event()
    stub.order(faults=[{"action": "ReceiveMessage", "kind": "server_error", "times": 2}])

    with capture_logs() as lines:
        worker = start(lambda _body: handled.set())
        stub.fill(worker.queue, ["hello"])
        assert handled.wait(20)
        wait_until(lambda: any(line["event"] == "polling works again" for line in lines), "the recovery to be logged")

    logged = [line["event"] for line in lines if "poll" in line["event"]]
    assert logged == ["polling failed, trying again until it works", "polling works again"]


def test_a_dropped_connection_loses_no_message(start: StartWorker, stub: StubServer) -> None:
    handled = threading.Event()
    stub.order(faults=[{"action": "ReceiveMessage", "kind": "drop"}])

    worker = start(lambda _body: handled.set())
    stub.fill(worker.queue, ["hello"])

    assert handled.wait(20)


def test_an_undecodable_body_becomes_a_dead_letter_and_the_other_messages_are_handled(
    start: StartWorker, stub: StubServer
) -> None:
    handled: list[str] = []
    worker = start(handled.append)

    stub.fill(worker.queue, ["good 1", "bad  body\n", "good 2"])

    (letter,) = wait_until(lambda: stub.messages(f"{worker.queue}-dlq"), "the dead letter")
    assert letter["body"] == "bad  body\n"
    assert letter["attributes"]["reason"] == "INVALID_ENVELOPE"
    wait_until(lambda: sorted(handled) == ["good 1", "good 2"], "the good messages")
    wait_until(lambda: not stub.messages(worker.queue), "an empty queue")


def test_a_fault_in_a_decoder_delays_its_own_message_and_no_other(start: StartWorker, stub: StubServer) -> None:
    handled: list[str] = []
    worker = start(handled.append)
    stub.fill(worker.queue, ["faulty"])
    wait_until(lambda: stub.calls("ChangeMessageVisibilityBatch"), "the back-off")

    stub.fill(worker.queue, ["good"])

    wait_until(lambda: handled == ["good"], "the next message")


def test_a_worker_that_has_polled_for_long_enough_knows_the_oldest_message_that_came(
    start: StartWorker, stub: StubServer
) -> None:
    handled = threading.Event()
    worker = start(lambda _body: handled.set(), visibility_s=1, poll_wait_s=1)
    url = stub.queue_url(worker.queue)
    assert worker.broker.in_flight.oldest_sent(url) == UNKNOWN

    wait_until(lambda: worker.broker.in_flight.oldest_sent(url) is None, "long enough without a message")
    before = datetime.now(UTC) - timedelta(seconds=1)
    stub.fill(worker.queue, ["hello"])
    assert handled.wait(PATIENCE_S)
    wait_until(lambda: not worker.broker.in_flight.snapshot(), "its deletion")

    oldest = worker.broker.in_flight.oldest_sent(url)
    assert oldest is not None
    assert oldest > before
