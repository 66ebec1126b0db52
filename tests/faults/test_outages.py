from __future__ import annotations

import threading
import time

from structlog.testing import capture_logs

from benchmarks.sqs_stub import StubServer
from graphnode.errors import DatabaseFault
from graphnode.sqs.deliveries import State
from graphnode.sqs.verdicts import RetryPolicy
from tests.faults.conftest import PATIENCE_S, StartWorker, wait_until

VISIBILITY_S = 2


class Database:
    """The service that a handler needs. It is away while `is_away` is set."""

    def __init__(self) -> None:
        self.is_away = False
        self.handled: list[str] = []

    def store(self, body: str) -> None:
        if self.is_away:
            raise DatabaseFault("connection refused")
        self.handled.append(body)


def test_an_outage_of_many_visibility_timeouts_uses_up_no_receives_and_makes_no_dead_letter(
    start: StartWorker, stub: StubServer
) -> None:
    database = Database()
    worker = start(database.store, threads=4, visibility_s=VISIBILITY_S)
    worker.service_is_back, database.is_away = False, True
    stub.fill(worker.queue, [f"m {number}" for number in range(100)])
    wait_until(lambda: not worker.broker.breaker.is_closed, "the outage to be seen")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 4 * VISIBILITY_S, "four visibility timeouts")

    most_received = max(message["receive_count"] for message in stub.messages(worker.queue))
    database.is_away, worker.service_is_back = False, True

    wait_until(lambda: not stub.messages(worker.queue), "the queue to be drained")
    assert sorted(database.handled) == sorted(f"m {number}" for number in range(100))
    assert most_received <= 2
    assert stub.messages(f"{worker.queue}-dlq") == []


def test_nothing_is_polled_while_a_service_is_away(start: StartWorker, stub: StubServer) -> None:
    database = Database()
    worker = start(database.store, poll_wait_s=1)
    worker.service_is_back, database.is_away = False, True
    stub.fill(worker.queue, ["first"])
    wait_until(lambda: not worker.broker.breaker.is_closed, "the outage to be seen")
    # After five probes, the poll that was in progress when the outage began has ended.
    wait_until(lambda: len(worker.probes) >= 5, "five probes")

    stub.fill(worker.queue, ["second"])
    wait_until(lambda: len(worker.probes) >= 6, "a sixth probe")

    assert [message["receive_count"] for message in stub.messages(worker.queue) if message["body"] == "second"] == [0]
    database.is_away, worker.service_is_back = False, True
    wait_until(lambda: sorted(database.handled) == ["first", "second"], "both messages")


def test_messages_that_fail_alike_although_the_probe_succeeds_are_an_outage_that_is_told_once(
    start: StartWorker, stub: StubServer
) -> None:
    database = Database()
    # The probes always succeed, and the handlers still fail.
    worker = start(database.store, threads=4)
    database.is_away = True
    stub.fill(worker.queue, [f"m {number}" for number in range(20)])

    with capture_logs() as lines:
        wait_until(lambda: not worker.broker.breaker.is_closed, "the breaker to open")
        seen = len(worker.probes)
        wait_until(lambda: len(worker.probes) >= seen + 3, "three messages to try in vain")
        database.is_away = False
        wait_until(lambda: len(database.handled) == 20, "all to be handled")

    assert sum(line["event"].startswith("outage began") for line in lines) == 1
    assert not worker.ledger.failures


def test_a_stop_during_an_outage_gives_back_the_parked_messages(start: StartWorker, stub: StubServer) -> None:
    database = Database()
    # The stop waits for its polls: a poll left behind could receive the message that the stop gives back.
    worker = start(database.store, visibility_s=600, poll_wait_s=1, poll_grace_s=10)
    worker.service_is_back, database.is_away = False, True
    stub.fill(worker.queue, ["parked"])
    wait_until(lambda: not worker.broker.breaker.is_closed, "the outage to be seen")

    worker.stop()

    (message,) = stub.messages(worker.queue)
    assert message["visible"]


def test_a_poison_message_that_brings_the_service_down_does_not_stall_the_others(
    start: StartWorker, stub: StubServer
) -> None:
    handled: list[str] = []

    def handle(body: str) -> None:
        if body == "poison":
            raise DatabaseFault("server closed the connection unexpectedly")
        handled.append(body)

    # The probe succeeds each time: only this message loses the service.
    worker = start(handle, threads=4, retry=RetryPolicy(max_attempts=3, backoff_min_s=60, backoff_max_s=60))
    stub.fill(worker.queue, ["poison", *(f"m {number}" for number in range(100))])

    wait_until(lambda: len(handled) == 100, "the others")
    wait_until(lambda: len(stub.messages(worker.queue)) == 1, "only the poison message to be left")
    assert stub.messages(f"{worker.queue}-dlq") == []


def test_after_an_outage_one_message_tries_and_the_others_start_when_it_has_succeeded(
    start: StartWorker, stub: StubServer
) -> None:
    database, started, go_on = Database(), list[str](), threading.Event()

    def handle(body: str) -> None:
        started.append(body)
        database.store(body)
        if not database.is_away:
            assert go_on.wait(PATIENCE_S)

    worker = start(handle, threads=4)
    worker.service_is_back, database.is_away = False, True
    stub.fill(worker.queue, [f"m {number}" for number in range(8)])
    wait_until(lambda: len(started) >= 4, "all threads to meet the outage")
    wait_until(lambda: not worker.broker.breaker.is_closed, "the breaker to open")
    wait_until(
        lambda: all(each.state is not State.RUNNING for each in worker.broker.in_flight.snapshot()), "the threads"
    )

    met = len(started)
    database.is_away, worker.service_is_back = False, True
    wait_until(lambda: len(started) == met + 1, "the first message to try")
    wait_until(lambda: not worker.broker.breaker.may_start(0), "nobody else to be let through")
    assert len(started) == met + 1

    go_on.set()
    wait_until(lambda: len(database.handled) == 8, "all messages")
    assert not worker.ledger.failures
