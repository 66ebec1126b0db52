from __future__ import annotations

import threading
import time

import pytest
from structlog.testing import capture_logs

from benchmarks.sqs_stub import StubServer
from graphnode.errors import GraphNodeError, InvalidDocument, ObjectNotFound
from graphnode.sqs.deliveries import Delivery, State
from tests.faults.conftest import StartWorker, wait_until

#: Seconds. The heartbeat then beats every 0.2 s.
VISIBILITY_S = 2


def test_a_message_that_runs_for_five_visibility_timeouts_is_handled_once_by_two_workers(
    start: StartWorker, stub: StubServer
) -> None:
    handled: list[str] = []

    def handle(body: str) -> None:
        handled.append(body)
        time.sleep(5 * VISIBILITY_S)

    first = start(handle, visibility_s=VISIBILITY_S)
    start(handle, visibility_s=VISIBILITY_S)
    stub.fill(first.queue, ["long"])

    wait_until(lambda: handled and not stub.messages(first.queue), "the message to be deleted")
    assert handled == ["long"]


def test_waiting_messages_are_kept_alive_too(start: StartWorker, stub: StubServer) -> None:
    release = threading.Event()
    handled: list[str] = []

    def handle(body: str) -> None:
        handled.append(body)
        release.wait(30)

    worker = start(handle, threads=1, visibility_s=VISIBILITY_S)
    # Fast messages make the worker fetch ahead.
    release.set()
    stub.fill(worker.queue, [f"fast {number}" for number in range(40)])
    wait_until(lambda: len(handled) == 40, "the fast messages")
    release.clear()
    stub.fill(worker.queue, [f"slow {number}" for number in range(3)])
    wait_until(lambda: len(handled) == 41, "the first slow one")
    stub.order(reset=True)
    wait_until(lambda: stub.calls("ChangeMessageVisibilityBatch") >= 4, "four beats of the heartbeat")
    release.set()

    wait_until(lambda: not stub.messages(worker.queue), "all to be deleted")
    assert len(handled) == 43


def test_a_running_message_that_is_lost_is_still_deleted_and_the_loss_is_logged(
    start: StartWorker, stub: StubServer
) -> None:
    release = threading.Event()
    worker = start(lambda _body: bool(release.wait(30)) and None, visibility_s=VISIBILITY_S)
    stub.order(faults=[{"action": "ChangeMessageVisibilityBatch", "kind": "gone", "times": 1}])

    with capture_logs() as lines:
        stub.fill(worker.queue, ["lost"])
        wait_until(lambda: any("message lost" in line["event"] for line in lines), "the loss to be logged")
        release.set()
        wait_until(lambda: stub.calls("DeleteMessageBatch"), "the deletion to be tried")


@pytest.mark.parametrize("error", [InvalidDocument("nodes[3].id: …"), ObjectNotFound("throttled")])
def test_a_running_message_that_is_lost_and_then_fails_is_left_to_the_other_worker(
    start: StartWorker, stub: StubServer, error: GraphNodeError
) -> None:
    release = threading.Event()

    def handle(_body: str) -> None:
        release.wait(30)
        raise error

    worker = start(handle, visibility_s=600)
    stub.fill(worker.queue, ["lost"])

    def running() -> list[Delivery]:
        return [delivery for delivery in worker.broker.in_flight.snapshot() if delivery.state is State.RUNNING]

    (delivery,) = wait_until(running, "the message to run")
    delivery.lost = True
    release.set()
    wait_until(lambda: not worker.broker.in_flight.snapshot(), "the message to be abandoned")

    assert stub.messages(f"{worker.queue}-dlq") == []
    assert stub.calls("ChangeMessageVisibilityBatch") == 0
    assert [message["visible"] for message in stub.messages(worker.queue)] == [False]


def test_a_heartbeat_that_fails_is_tried_again_in_time(start: StartWorker, stub: StubServer) -> None:
    handled: list[str] = []

    def handle(body: str) -> None:
        handled.append(body)
        time.sleep(3 * VISIBILITY_S)

    stub.order(faults=[{"action": "ChangeMessageVisibilityBatch", "kind": "throttle", "times": 3}])
    worker = start(handle, threads=2, visibility_s=4)
    stub.fill(worker.queue, ["long"])

    wait_until(lambda: handled and not stub.messages(worker.queue), "the message to be deleted")
    assert handled == ["long"]


def test_a_message_that_is_lost_while_it_waits_is_not_started(start: StartWorker, stub: StubServer) -> None:
    release = threading.Event()
    release.set()
    handled: list[str] = []

    def handle(body: str) -> None:
        handled.append(body)
        release.wait(30)

    worker = start(handle, threads=1, visibility_s=VISIBILITY_S)
    stub.fill(worker.queue, [f"fast {number}" for number in range(40)])
    wait_until(lambda: len(handled) == 40, "the fast messages")
    release.clear()
    stub.fill(worker.queue, ["running", "waiting"])

    def waiting() -> list[Delivery]:
        return [delivery for delivery in worker.broker.in_flight.snapshot() if delivery.state is State.WAITING]

    wait_until(lambda: len(handled) == 41 and waiting(), "one message to run and one to wait")
    (delivery,) = waiting()
    delivery.lost = True

    with capture_logs() as lines:
        release.set()
        wait_until(lambda: len(handled) == 42, "the message's next delivery")

    assert any("not started" in line["event"] for line in lines)
    wait_until(lambda: not stub.messages(worker.queue), "the message to be deleted")
