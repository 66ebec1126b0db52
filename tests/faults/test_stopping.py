from __future__ import annotations

import threading
import time
from typing import Any

from benchmarks.sqs_stub import StubServer
from graphnode.broker import SQSBroker
from tests.faults.conftest import StartWorker, wait_until


def test_no_poll_starts_once_a_stop_has_begun(start: StartWorker, stub: StubServer) -> None:
    worker = start(lambda _body: None)
    wait_until(lambda: stub.calls("ReceiveMessage"), "the first poll")

    worker.broker.stop.request()
    stub.fill(worker.queue, ["too late"])
    wait_until(lambda: [m for m in stub.messages(worker.queue) if m["visible"]], "the message to be back")

    assert stub.calls("ReceiveMessage") == 1


def test_messages_of_the_poll_in_progress_go_back_at_once(start: StartWorker, stub: StubServer) -> None:
    handled: list[str] = []
    worker = start(handled.append, poll_grace_s=10)
    wait_until(lambda: stub.calls("ReceiveMessage"), "the first poll")
    stop = threading.Thread(target=worker.stop)
    stop.start()
    wait_until(lambda: worker.broker.stop.requested, "the stop to begin")

    stub.fill(worker.queue, ["swallowed?"])
    stop.join(20)

    assert not stop.is_alive()
    assert handled == []
    (message,) = stub.messages(worker.queue)
    assert message["visible"]


def test_running_messages_finish_and_waiting_ones_go_back(start: StartWorker, stub: StubServer) -> None:
    release = threading.Event()
    handled: list[str] = []

    def handle(body: str) -> None:
        release.wait(30)
        handled.append(body)

    worker = start(handle, threads=1, visibility_s=600)
    release.set()
    stub.fill(worker.queue, [f"fast {number}" for number in range(40)])
    wait_until(lambda: len(handled) == 40, "the fast messages")
    release.clear()
    stub.fill(worker.queue, [f"slow {number}" for number in range(3)])

    def states() -> list[str]:
        return sorted(delivery.state.name for delivery in worker.broker.in_flight.snapshot())

    wait_until(lambda: states() == ["RUNNING", "WAITING", "WAITING"], "one message to run and two to wait")
    stop = threading.Thread(target=worker.stop)
    stop.start()

    def waiting() -> list[Any]:
        return [message for message in stub.messages(worker.queue) if message["visible"]]

    wait_until(lambda: len(waiting()) == 2, "the waiting messages to be back while one still runs")
    assert len(handled) == 40
    release.set()
    stop.join(20)

    assert len(handled) == 41
    assert len(stub.messages(worker.queue)) == 2


def test_an_actor_that_outlasts_the_shutdown_timeout_is_interrupted_and_its_message_goes_back(
    start: StartWorker, stub: StubServer
) -> None:
    running = threading.Event()

    def handle(_body: str) -> None:
        running.set()
        while True:
            time.sleep(0.01)

    worker = start(handle, threads=1, visibility_s=600, shutdown_timeout_s=0.2)
    stub.fill(worker.queue, ["endless"])
    assert running.wait(10)
    polls = stub.calls("ReceiveMessage")

    worker.stop()

    # The interruption frees the thread: no poll starts for it.
    assert stub.calls("ReceiveMessage") == polls
    (message,) = stub.messages(worker.queue)
    assert message["visible"]
    assert stub.messages(f"{worker.queue}-dlq") == []


def test_an_idle_worker_stops_within_its_poll_grace(start: StartWorker, stub: StubServer) -> None:
    worker = start(lambda _body: None, poll_grace_s=0.3)
    wait_until(lambda: stub.calls("ReceiveMessage"), "the first poll")
    broker: SQSBroker = worker.broker

    worker.stop()

    assert time.monotonic() - broker.stop.began < 5
