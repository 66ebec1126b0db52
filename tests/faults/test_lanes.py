"""One key's messages hold up nobody else's, however many they are and whatever holds their lock."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict

from structlog.testing import capture_logs

from benchmarks.sqs_stub import StubServer
from graphnode.clients.memory import SMALL_BYTES, admit
from graphnode.errors import UserLocked
from tests.faults.conftest import StartWorker, wait_until


def lane_of_body(body: str) -> str | None:
    """The body's first word, if it is a name."""
    name = body.partition(" ")[0]
    return name if name.isalpha() else None


class Users:
    """Handles messages `NAME NUMBER` under their users' locks, which another session may hold as well."""

    def __init__(self, *, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.locked: set[str] = set()
        self.locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self.handled: list[str] = []
        self.tries = Counter[str]()
        self.met = Counter[str]()

    def handle(self, body: str) -> None:
        name = body.partition(" ")[0]
        self.tries[name] += 1
        if name in self.locked or not self.locks[name].acquire(blocking=False):
            self.met[name] += name not in self.locked
            raise UserLocked
        try:
            time.sleep(self.takes_s)
            self.handled.append(body)
        finally:
            self.locks[name].release()

    def of(self, name: str) -> list[str]:
        """The messages of a user in the order in which they were handled."""
        return [body for body in self.handled if body.startswith(f"{name} ")]


def bodies(name: str, count: int) -> list[str]:
    return [f"{name} {number}" for number in range(count)]


def test_a_users_messages_run_in_the_order_of_their_receipt_and_never_two_at_a_time(
    start: StartWorker, stub: StubServer
) -> None:
    users = Users(takes_s=0.01)
    worker = start(users.handle, threads=4, lane_of_body=lane_of_body)

    stub.fill(worker.queue, bodies("ada", 10))
    wait_until(lambda: not stub.messages(worker.queue), "an empty queue")
    # Two pollers bring more than ten, in any order.
    stub.fill(worker.queue, bodies("bob", 50))

    wait_until(lambda: not stub.messages(worker.queue), "an empty queue")
    assert users.of("ada") == bodies("ada", 10)
    assert sorted(users.of("bob")) == sorted(bodies("bob", 50))
    assert users.met == {}


def test_a_locked_users_messages_wait_without_a_thread_an_attempt_or_a_log_line(
    start: StartWorker, stub: StubServer
) -> None:
    users = Users()
    users.locked.add("ada")
    worker = start(users.handle, threads=2, lane_of_body=lane_of_body, visibility_s=5)
    with capture_logs() as lines:
        stub.fill(worker.queue, bodies("ada", 60))
        wait_until(lambda: users.tries["ada"] >= 3, "three tries of the lock")
        stub.fill(worker.queue, bodies("bob", 60))

        wait_until(lambda: len(users.of("bob")) == 60, "the other user's messages")
        # They are kept alive for several visibility time-outs.
        wait_until(lambda: stub.calls("ChangeMessageVisibilityBatch") > 20, "several extensions")
        most_received = max(message["receive_count"] for message in stub.messages(worker.queue))
        users.locked.clear()
        wait_until(lambda: not stub.messages(worker.queue), "all messages of the locked user")

    assert sorted(users.of("ada")) == sorted(bodies("ada", 60))
    assert most_received == 1
    assert worker.ledger.failures == Counter()
    assert stub.messages(f"{worker.queue}-dlq") == []
    assert [line for line in lines if line["log_level"] in ("warning", "error")] == []
    # A blocked lane tries seldom: each try takes a thread.
    assert users.tries["ada"] < 60 + 100


def test_a_backlog_of_one_user_goes_back_once_or_twice_and_the_others_get_through(
    start: StartWorker, stub: StubServer
) -> None:
    users = Users(takes_s=0.002)
    worker = start(users.handle, threads=2, lane_of_body=lane_of_body)
    received: dict[str, int] = {}

    stub.fill(worker.queue, [*bodies("ada", 1200), "bob 1"])
    wait_until(lambda: users.of("bob"), "the message behind the backlog")
    behind = len(users.of("ada"))

    def is_drained() -> bool:
        received.update({message["body"]: message["receive_count"] for message in stub.messages(worker.queue)})
        return not received.keys() - set(users.handled)

    wait_until(is_drained, "the backlog")
    assert behind < 1000
    assert sorted(users.of("ada")) == sorted(bodies("ada", 1200))
    assert sum(received.values()) / len(received) <= 3
    assert max(received.values()) <= 5


def test_two_workers_share_a_users_backlog_without_a_failure(start: StartWorker, stub: StubServer) -> None:
    users = Users(takes_s=0.005)
    worker = start(users.handle, threads=2, lane_of_body=lane_of_body)
    start(users.handle, threads=2, lane_of_body=lane_of_body)

    stub.fill(worker.queue, bodies("ada", 100))

    wait_until(lambda: not stub.messages(worker.queue), "an empty queue")
    assert sorted(users.handled) == sorted(bodies("ada", 100))
    assert worker.ledger.failures == Counter()


def test_a_locked_user_keeps_no_memory_for_big_documents(start: StartWorker, stub: StubServer) -> None:
    users = Users()
    users.locked.add("ada")

    def handle(body: str) -> None:
        admit(body, 2 * SMALL_BYTES)
        users.handle(body)

    worker = start(handle, threads=4, lane_of_body=lane_of_body)
    stub.fill(worker.queue, bodies("ada", 3))
    wait_until(lambda: users.tries["ada"] >= 2, "the locked user to be parked")

    stub.fill(worker.queue, [f"{name} 1" for name in ("bob", "cleo", "dan")])

    wait_until(lambda: len(users.handled) == 3, "the others' big documents")
    users.locked.clear()
    wait_until(lambda: len(users.handled) == 6, "the locked user's")


def test_a_stop_gives_a_lane_back_at_once(start: StartWorker, stub: StubServer) -> None:
    users = Users()
    users.locked.add("ada")
    worker = start(users.handle, threads=2, lane_of_body=lane_of_body, visibility_s=600, poll_wait_s=1, poll_grace_s=10)
    stub.fill(worker.queue, bodies("ada", 25))
    wait_until(lambda: len(worker.broker.in_flight) == 25, "all to be in flight")

    worker.stop()

    assert [message["visible"] for message in stub.messages(worker.queue)] == [True] * 25


def test_messages_behind_slow_ones_go_to_an_idle_machine(start: StartWorker, stub: StubServer) -> None:
    release = threading.Event()
    handled: list[str] = []

    def handle_slowly(body: str) -> None:
        if body.startswith("slow"):
            release.wait(60)
        handled.append(body)

    busy = start(handle_slowly, threads=1)
    stub.fill(busy.queue, ["fast"])
    wait_until(lambda: handled == ["fast"], "the thread to get on")
    stub.fill(busy.queue, ["slow", *(f"m {number}" for number in range(9))])
    wait_until(lambda: len(busy.broker.in_flight) == 10, "messages fetched ahead")

    start(handle_slowly, threads=1)

    wait_until(lambda: len(handled) == 10, "the idle machine to take them")
    release.set()


def test_a_body_that_unpacks_to_very_much_is_decoded_by_one_thread_at_a_time(
    start: StartWorker, stub: StubServer
) -> None:
    users = Users()
    worker = start(users.handle, threads=1, lane_of_body=lane_of_body)
    large = "x" * (1 << 20)

    stub.fill(worker.queue, [f"{number} {large}" for number in range(57)])

    wait_until(lambda: len(users.handled) == 57, "all of them")
    # In flight is bounded by bytes, too: each poll brings ten.
    assert len(worker.broker.in_flight) <= 40


def test_a_queue_with_too_many_messages_in_flight_is_a_warning_and_no_storm(
    start: StartWorker, stub: StubServer
) -> None:
    stub.order(faults=[{"action": "ReceiveMessage", "kind": "over_limit", "times": 2}])
    handled: list[str] = []

    with capture_logs() as lines:
        worker = start(handled.append)
        stub.fill(worker.queue, ["one"])
        wait_until(lambda: handled, "the message")

    logged = [(line["log_level"], line["event"]) for line in lines if "in flight" in line["event"]]
    assert logged == [("warning", "SQS gives no messages: the queue has 120,000 in flight")]


def test_one_entry_of_a_batch_without_its_attributes_costs_itself(start: StartWorker, stub: StubServer) -> None:
    stub.order(faults=[{"action": "ReceiveMessage", "kind": "odd_entry"}])
    handled: list[str] = []
    worker = start(handled.append, visibility_s=2)

    stub.fill(worker.queue, [f"m {number}" for number in range(8)])

    wait_until(lambda: len(handled) == 8, "all of them")
    wait_until(lambda: not stub.messages(worker.queue), "an empty queue")
    assert stub.messages(f"{worker.queue}-dlq") == []
