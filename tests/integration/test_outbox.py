"""The pushes of a process: woken after a commit, held up by nobody, and ended without a loss."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import peewee
import pytest
from structlog.testing import capture_logs

from benchmarks import fcm_stub
from benchmarks.fcm_stub import Answer, FcmServer
from graphnode.broker import SQSBroker
from graphnode.clients import fcm as fcm_client
from graphnode.clients.aws import Aws
from graphnode.dev.outcomes import wait_for
from graphnode.errors import DatabaseFault
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.liveness import dead_threads, last_signs
from graphnode.sqs.queues import Options
from graphnode.storage import notifications
from graphnode.worker import outbox
from graphnode.worker.outbox import Pushes
from tests.conftest import use_settings
from tests.integration.conftest import PATIENCE_S, Query
from tests.integration.test_delivering import local_fcm

WORKER: Any = None

#: The most calls at once, and the most notifications that are claimed.
CALLS, CLAIMED = 4, 8

#: Whether a query has rows.
Until = Callable[[str], None]


@pytest.fixture
def fcm(storage: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FcmServer]:
    with local_fcm(monkeypatch) as server:
        fcm_client.firebase()
        yield server
        # A call may outlast its stop.
        wait_for(lambda: "pushes-call" not in {thread.name for thread in threading.enumerate()} or None, timeout_s=30)


@pytest.fixture
def broker() -> SQSBroker:
    options = Options(queues={}, aws=Aws(region="eu-central-1"), shutdown_timeout_s=PATIENCE_S)
    return SQSBroker(lambda: options, breaker=CircuitBreaker({}), middleware=[])


@pytest.fixture
def pushes(fcm: FcmServer, broker: SQSBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pushes]:
    """Running pushes, which look for themselves only at the start."""
    monkeypatch.setattr(outbox, "MOST_CALLS", CALLS)
    monkeypatch.setattr(outbox, "MOST_CLAIMED", CLAIMED)
    with running(Pushes(interval_s=3600), broker, monkeypatch) as made:
        # What is written from now on is found only by its ID.
        wait_for(lambda: made._look_at > 0 or None, timeout_s=PATIENCE_S)
        yield made


@contextmanager
def running(made: Pushes, broker: SQSBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pushes]:
    monkeypatch.setattr(outbox, "_pushes", None)
    made.after_worker_boot(broker, WORKER)
    yield made
    stop(made, broker)


@pytest.fixture
def until(query: Query) -> Until:
    """Wait until a query has rows."""

    def wait(statement: str) -> None:
        assert wait_for(lambda: query(statement) or None, timeout_s=PATIENCE_S), statement

    return wait


def stop(pushes: Pushes, broker: SQSBroker) -> None:
    pushes.before_worker_shutdown(broker, WORKER)
    pushes.after_worker_shutdown(broker, WORKER)


def write(query: Query, *users: str, kind: str = "GRAPH_GENERATION_COMPLETED") -> list[str]:
    """Commit a notification for each of these users, who have a device each."""
    ids = []
    for user_id in users:
        query("INSERT INTO device_tokens (token, user_id) VALUES (%s, %s)", f"phone of {user_id}", user_id)
        payload = {"taskId": f"t-{user_id}", "nodeCount": 12}
        ids.append(notifications.write(user_id=user_id, type=kind, payload=payload, event=user_id, push=True) or "")
    return ids


def hanging(fcm: FcmServer, is_hanging: Callable[[str], bool] = lambda _token: True) -> threading.Event:
    """Have calls for these devices hang until the event is set."""
    ended = threading.Event()

    def answer(message: fcm_stub.Message) -> Answer:
        if is_hanging(message["token"]):
            ended.wait(PATIENCE_S)
        return fcm_stub.TAKEN

    fcm.answer = answer
    return ended


SENT = "SELECT 1 FROM notifications HAVING bool_and(push_status = 'SENT' AND due_at IS NULL)"


def test_a_commit_wakes_the_pushes_and_what_a_crash_left_is_found_at_the_start(
    fcm: FcmServer, broker: SQSBroker, query: Query, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(query, "left")
    with running(Pushes(interval_s=3600), broker, monkeypatch):
        until(SENT)

        outbox.wake(write(query, "ada", "grace"))

        until(SENT)
    assert sorted(message["token"] for message in fcm.messages) == ["phone of ada", "phone of grace", "phone of left"]


def test_what_nobody_has_woken_is_found_by_the_next_look(
    fcm: FcmServer, broker: SQSBroker, query: Query, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Pushes(interval_s=0.1), broker, monkeypatch):
        outbox.wake(write(query, "ada"))
        until(SENT)

        write(query, "left")

        until(SENT)


def test_a_push_is_tried_again_when_its_back_off_is_over(
    pushes: Pushes, fcm: FcmServer, query: Query, until: Until
) -> None:
    answers = [fcm_stub.TAKEN, fcm_stub.UNAVAILABLE]
    fcm.answer = lambda _: answers.pop()

    outbox.wake(write(query, "ada"))

    until(SENT)
    assert query("SELECT push_attempts FROM notifications") == [(2,)]


def test_a_device_that_hangs_holds_up_nobody_else(pushes: Pushes, fcm: FcmServer, query: Query, until: Until) -> None:
    ended = hanging(fcm, lambda token: token == "phone of eve")
    outbox.wake(write(query, "eve"))
    until("SELECT 1 FROM notifications WHERE push_status = 'SENDING'")

    outbox.wake(write(query, *(f"user-{number}" for number in range(2 * CLAIMED))))

    until("SELECT 1 FROM notifications WHERE user_id <> 'eve' HAVING bool_and(push_status = 'SENT')")
    assert query("SELECT push_status FROM notifications WHERE user_id = 'eve'") == [("SENDING",)]
    ended.set()
    until(SENT)


def test_the_pushes_of_one_result_are_sent_whoever_is_in_its_context(
    pushes: Pushes, query: Query, until: Until
) -> None:
    context = copy_context()
    context.run(pushes.wake, write(query, "ada", "grace"), context)

    context.run(until, SENT)


def test_while_fcm_hangs_no_more_is_claimed_than_is_sent_soon(
    pushes: Pushes, fcm: FcmServer, query: Query, until: Until
) -> None:
    ended = hanging(fcm)
    outbox.wake(write(query, *(f"user-{number}" for number in range(3 * CLAIMED))))

    wait_for(lambda: fcm.most_at_once == CALLS or None, timeout_s=PATIENCE_S)

    assert query("SELECT count(*) FROM notifications WHERE push_status = 'SENDING'") == [(CLAIMED,)]
    ended.set()
    until(SENT)
    assert max(fcm.times_taken().values()) == 1


def test_a_stop_settles_what_is_sent_gives_the_rest_back_at_once_and_claims_nothing_more(
    pushes: Pushes, fcm: FcmServer, broker: SQSBroker, query: Query, until: Until
) -> None:
    ended = hanging(fcm)
    outbox.wake(write(query, *(f"user-{number}" for number in range(CLAIMED))))
    wait_for(lambda: fcm.most_at_once == CALLS or None, timeout_s=PATIENCE_S)

    pushes.before_worker_shutdown(broker, WORKER)
    outbox.wake(write(query, "late"))
    ended.set()
    pushes.after_worker_shutdown(broker, WORKER)

    sent = len(fcm.times_taken())
    found = query("SELECT push_status, push_attempts, due_at <= now(), count(*) FROM notifications GROUP BY 1, 2, 3")
    assert sorted(found) == [("PENDING", 0, True, CLAIMED + 1 - sent), ("SENT", 1, None, sent)]
    assert CALLS <= sent < CLAIMED


def test_a_stop_waits_no_longer_than_it_may_and_what_hangs_is_due_after_its_lease(
    fcm: FcmServer, query: Query, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(queues={}, aws=Aws(region="eu-central-1"), shutdown_timeout_s=0.1)
    broker = SQSBroker(lambda: options, breaker=CircuitBreaker({}), middleware=[])
    ended = hanging(fcm)
    with running(Pushes(interval_s=3600), broker, monkeypatch):
        outbox.wake(write(query, "ada"))
        wait_for(lambda: fcm.calls or None, timeout_s=PATIENCE_S)

    assert query("SELECT push_status, due_at > now() FROM notifications") == [("SENDING", True)]
    assert "pushes" not in last_signs()
    ended.set()


def test_when_a_pause_is_over_one_push_tries_and_then_all_go(
    pushes: Pushes, fcm: FcmServer, query: Query, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcm_client, "PAUSE_MIN_S", 0.2)
    monkeypatch.setattr(fcm_client, "PAUSE_MAX_S", 0.2)
    ids = write(query, *(f"user-{number}" for number in range(20)))
    fcm.answer = lambda _: fcm_stub.DENIED
    outbox.wake(ids[:1])
    wait_for(lambda: fcm.calls >= 3 or None, timeout_s=PATIENCE_S)

    outbox.wake(ids[1:])
    calls = fcm.calls
    wait_for(lambda: fcm.calls >= calls + 3 or None, timeout_s=PATIENCE_S)
    assert fcm.most_at_once == 1
    fcm.answer = lambda _: fcm_stub.TAKEN

    until(SENT)


def test_an_outage_of_postgresql_is_waited_out_and_told_by_the_breaker_alone(
    pushes: Pushes, fcm: FcmServer, broker: SQSBroker, query: Query, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Any] = []
    claim = notifications.claim_pushes

    def fail(ids: Any = None, **options: Any) -> Any:
        tries.append(ids)
        raise DatabaseFault("PostgreSQL cannot be reached")

    probing = threading.Event()
    is_back = threading.Event()

    def probe(_fault: Any) -> None:
        probing.set()
        if not is_back.is_set():
            raise DatabaseFault("PostgreSQL cannot be reached")

    broker.breaker.probes |= CircuitBreaker({DatabaseFault.service: probe}).probes
    monkeypatch.setattr(notifications, "claim_pushes", fail)
    monkeypatch.setattr(outbox, "PAUSE_S", 0.05)
    with capture_logs() as lines:
        outbox.wake(write(query, "ada"))
        assert probing.wait(PATIENCE_S)
        wait_for(lambda: broker.breaker.ongoing, timeout_s=PATIENCE_S)
        failed = len(tries)
        outbox.wake(write(query, "grace"))
        # Probes take longer and longer: the pushes meet many of their own pauses meanwhile.
        probing.clear()
        assert probing.wait(PATIENCE_S)
        assert len(tries) == failed
        monkeypatch.setattr(notifications, "claim_pushes", claim)
        is_back.set()
        # A message shows that it works for messages, too.
        wait_for(lambda: broker.breaker.may_start(0.1) or None, timeout_s=PATIENCE_S)
        broker.breaker.succeed(since=float("inf"))

        until(SENT)
    assert [line["event"] for line in lines if line["log_level"] == "warning" and "sweep" in line["event"]] == []


def test_a_failure_that_is_no_outage_is_told_once_until_it_works_again(
    pushes: Pushes, query: Query, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, failures = notifications.claim_pushes, [peewee.DatabaseError()] * 3

    def fail(*ids: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return claim(*ids, **options)

    monkeypatch.setattr(notifications, "claim_pushes", fail)
    monkeypatch.setattr(outbox, "PAUSE_S", 0.01)
    with capture_logs() as lines:
        outbox.wake(write(query, "ada"))
        until(SENT)

    told = [line["event"] for line in lines if line["log_level"] == "warning"]
    assert told == ["sweep failed, trying again until it works", "sweep works again"]


def test_a_notification_of_a_type_that_this_release_does_not_know_is_kept_and_holds_up_no_other(
    pushes: Pushes, query: Query, until: Until
) -> None:
    with capture_logs() as lines:
        outbox.wake([*write(query, "eve", kind="OF_A_LATER_RELEASE"), *write(query, "ada")])

        until("SELECT 1 FROM notifications WHERE user_id = 'ada' AND push_status = 'SENT'")
        until("SELECT 1 FROM notifications WHERE user_id = 'eve' AND push_status = 'PENDING' AND push_attempts = 1")
    assert "push not made" in [line["event"] for line in lines]


def test_without_credentials_what_is_due_is_skipped(
    fcm: FcmServer, broker: SQSBroker, query: Query, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREBASE_CREDENTIALS_JSON", "")
    use_settings(None, monkeypatch)
    fcm_client.firebase.cache_clear()
    write(query, "ada")
    with running(Pushes(interval_s=3600), broker, monkeypatch):
        until("SELECT 1 FROM notifications WHERE push_status = 'SKIPPED' AND due_at IS NULL")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_pushes_that_have_died_are_noticed(fcm: FcmServer, broker: SQSBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Pushes(interval_s=3600)

    def die(_broker: SQSBroker) -> bool:
        # It ends the thread, and no test.
        raise SystemExit

    monkeypatch.setattr(made, "wait", die)
    with running(made, broker, monkeypatch):
        assert wait_for(lambda: "pushes" in dead_threads() or None, timeout_s=PATIENCE_S)
