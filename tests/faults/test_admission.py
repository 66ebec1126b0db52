from __future__ import annotations

import threading
from collections import Counter

from benchmarks.sqs_stub import StubServer
from graphnode.clients.memory import SMALL_BYTES, admit
from graphnode.errors import DatabaseFault
from tests.faults.conftest import StartWorker, wait_until

VISIBILITY_S = 2


class Documents:
    """Handles big and small documents. A big one blocks until `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.done = Counter[str]()
        self.at_work = self.most_at_work = 0

    def handle(self, body: str) -> None:
        if body.startswith("big"):
            admit(body, 2 * SMALL_BYTES)
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            self.go_on.wait()
            self.at_work -= 1
        self.done[body] += 1


def test_big_documents_wait_parked_and_kept_alive_while_small_ones_pass(start: StartWorker, stub: StubServer) -> None:
    documents = Documents()
    worker = start(documents.handle, threads=4, visibility_s=VISIBILITY_S)
    big = [f"big {number}" for number in range(8)]
    stub.fill(worker.queue, big)
    wait_until(lambda: stub.calls("ChangeMessageVisibilityBatch") >= 5, "several rounds of the heartbeat")

    small = [f"small {number}" for number in range(20)]
    stub.fill(worker.queue, small)
    wait_until(lambda: len(documents.done) == len(small), "the small documents")
    assert documents.at_work == 1
    most_received = max(message["receive_count"] for message in stub.messages(worker.queue))
    documents.go_on.set()

    wait_until(lambda: not stub.messages(worker.queue), "the queue to be drained")
    assert documents.done == Counter(big + small)
    assert documents.most_at_work == 1
    # It was given back once, for another machine.
    assert most_received <= 2
    assert stub.messages(f"{worker.queue}-dlq") == []


def test_a_stop_gives_back_a_message_that_is_parked_for_memory(start: StartWorker, stub: StubServer) -> None:
    documents = Documents()
    worker = start(documents.handle, threads=4)
    stub.fill(worker.queue, ["big 1", "big 2"])
    wait_until(
        lambda: sorted(message["receive_count"] for message in stub.messages(worker.queue))[-1] == 2, "one to be parked"
    )
    stop = threading.Thread(target=worker.stop)
    stop.start()

    wait_until(lambda: any(message["visible"] for message in stub.messages(worker.queue)), "the parked one to be back")
    documents.go_on.set()
    stop.join(20)

    assert [message["visible"] for message in stub.messages(worker.queue)] == [True]
    assert len(documents.done) == 1


def test_a_message_that_is_lost_before_it_is_parked_frees_its_memory(start: StartWorker, stub: StubServer) -> None:
    running, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def handle(body: str) -> None:
        admit(body, 2 * SMALL_BYTES)
        if not go_on.is_set():
            running.set()
            go_on.wait()
            raise DatabaseFault("the connection is closed")
        done.append(body)

    worker = start(handle, threads=4, visibility_s=VISIBILITY_S)
    stub.fill(worker.queue, ["big"])
    assert running.wait(30)
    (delivery,) = worker.broker.in_flight.snapshot()
    delivery.lost = True
    go_on.set()

    wait_until(lambda: not stub.messages(worker.queue), "its next delivery to be handled")
    assert done == ["big"]
