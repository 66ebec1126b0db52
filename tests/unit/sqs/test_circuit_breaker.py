from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from graphnode.errors import (
    AwsFault,
    DatabaseConflict,
    DatabaseFault,
    ObjectNotFound,
    S3Fault,
    ServiceFault,
    TimeLimit,
    TransientError,
    Unexpected,
)
from graphnode.sqs import circuit_breaker
from graphnode.sqs.circuit_breaker import ALIKE, MESSAGES, Breaker, CircuitBreaker, Probe

#: Seconds that a test waits for the breaker's thread.
PATIENCE_S = 5.0


class Service:
    """A service that a probe asks. It is away while `is_away` is set."""

    def __init__(self) -> None:
        self.is_away = threading.Event()
        self.asked_about: list[ServiceFault | None] = []

    def probe(self, fault: ServiceFault | None) -> None:
        self.asked_about.append(fault)
        if self.is_away.is_set():
            raise ConnectionError("the service is away")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_breaker, "PROBE_MIN_S", 0.001)
    monkeypatch.setattr(circuit_breaker, "PROBE_MAX_S", 0.01)
    monkeypatch.setattr(circuit_breaker, "TRIAL_MAX_S", 0.01)


@pytest.fixture
def database(quick: None) -> Iterator[Service]:
    service = Service()
    yield service
    service.is_away.clear()


@pytest.fixture
def s3(quick: None) -> Iterator[Service]:
    service = Service()
    yield service
    service.is_away.clear()


@pytest.fixture
def breaker(database: Service, s3: Service) -> Iterator[CircuitBreaker]:
    others = set(threading.enumerate())
    made = CircuitBreaker({DatabaseFault.service: database.probe, S3Fault.service: s3.probe})
    yield made
    # Its thread must not go on during the next tests.
    database.is_away.clear()
    s3.is_away.clear()
    deadline = time.monotonic() + PATIENCE_S
    while not made.is_closed and time.monotonic() < deadline:
        succeed(made)
    for thread in set(threading.enumerate()) - others:
        thread.join(PATIENCE_S)


def fail(breaker: CircuitBreaker, error: TransientError, *, user: str = "ada") -> bool:
    """Let a message fail that starts now."""
    return breaker.is_to_blame(error, since=time.monotonic(), user=user)


def succeed(breaker: CircuitBreaker) -> None:
    """Let a message succeed that starts now."""
    breaker.succeed(since=time.monotonic())


def wait_for(breaker: CircuitBreaker, state: Breaker) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while breaker.state is not state:
        assert time.monotonic() < deadline, f"waited for {state} in vain"
        time.sleep(0.001)


def outage(breaker: CircuitBreaker, service: Service) -> None:
    """Let an outage begin, and the service come back."""
    service.is_away.set()
    assert fail(breaker, DatabaseFault("connection refused"))
    service.is_away.clear()
    wait_for(breaker, Breaker.HALF_OPEN)


def test_a_fault_whose_probe_fails_too_opens_the_breaker(breaker: CircuitBreaker, s3: Service) -> None:
    s3.is_away.set()

    assert fail(breaker, S3Fault("GetObject failed (SlowDown, HTTP 503)", advice="Nothing."))

    assert breaker.state is Breaker.OPEN
    assert breaker.ongoing
    assert breaker.ongoing[0] == "S3"
    assert breaker.ongoing[2:] == ("GetObject failed (SlowDown, HTTP 503)", "Nothing.")
    assert not breaker.may_start(0)
    assert not breaker.may_poll("results", 0)


def test_a_fault_whose_probe_succeeds_is_the_messages_own(breaker: CircuitBreaker, s3: Service) -> None:
    fault = S3Fault("GetObject failed (SlowDown, HTTP 503)", key="a")

    assert not fail(breaker, fault)

    assert s3.asked_about == [fault]
    assert breaker.is_closed


def test_only_the_service_that_failed_is_asked(breaker: CircuitBreaker, database: Service, s3: Service) -> None:
    database.is_away.set()

    assert not fail(breaker, S3Fault())

    assert (len(database.asked_about), len(s3.asked_about)) == (0, 1)


def test_a_failure_that_names_no_service_asks_all_of_them(breaker: CircuitBreaker, s3: Service) -> None:
    s3.is_away.set()

    assert fail(breaker, TimeLimit())

    assert breaker.ongoing
    assert breaker.ongoing.service == "S3"
    assert "ConnectionError" in breaker.ongoing.error


@pytest.mark.parametrize("error", [ObjectNotFound(), DatabaseConflict()])
def test_what_can_only_be_the_messages_own_asks_nothing_and_opens_nothing(
    error: TransientError, breaker: CircuitBreaker, database: Service, s3: Service
) -> None:
    database.is_away.set()
    s3.is_away.set()

    assert not any(fail(breaker, error, user=f"user-{number}") for number in range(3 * ALIKE))

    assert not database.asked_about
    assert not s3.asked_about


def test_a_service_without_a_probe_is_not_asked_for(breaker: CircuitBreaker) -> None:
    assert not fail(breaker, AwsFault("SendMessage failed"))


@pytest.mark.parametrize("error", [S3Fault("HTTP 503"), TimeLimit(), Unexpected("KeyError: 'x'")])
def test_several_users_messages_that_fail_alike_in_a_row_open_the_breaker_although_the_services_answer(
    error: TransientError, breaker: CircuitBreaker
) -> None:
    found = [fail(breaker, error, user=f"user-{number}") for number in range(ALIKE)]

    assert found == [False] * (ALIKE - 1) + [True]
    assert breaker.ongoing
    assert breaker.ongoing.service == ("S3" if isinstance(error, S3Fault) else MESSAGES)


def test_one_users_failures_do_not_open_the_breaker_however_many_they_are(breaker: CircuitBreaker) -> None:
    assert not any(fail(breaker, TimeLimit()) for _ in range(3 * ALIKE))


def test_a_success_in_between_is_evidence_that_the_failures_are_their_messages_own(breaker: CircuitBreaker) -> None:
    for number in range(3 * ALIKE):
        assert not fail(breaker, TimeLimit(), user=f"user-{number}")
        if number % (ALIKE - 1) == 0:
            succeed(breaker)


def test_failures_of_different_kinds_are_not_alike(breaker: CircuitBreaker) -> None:
    for number in range(3 * ALIKE):
        assert not fail(breaker, TimeLimit() if number % 2 else Unexpected("x"), user=f"user-{number}")


def test_a_failure_during_an_outage_belongs_to_it_whatever_it_is(breaker: CircuitBreaker, database: Service) -> None:
    database.is_away.set()
    assert fail(breaker, DatabaseFault())

    assert fail(breaker, TimeLimit())
    assert fail(breaker, Unexpected("x"))


def test_a_failure_of_an_attempt_that_began_in_an_outage_belongs_to_it(
    breaker: CircuitBreaker, database: Service
) -> None:
    began = time.monotonic()
    outage(breaker, database)
    succeed(breaker)
    asked = len(database.asked_about)

    assert breaker.is_to_blame(DatabaseFault(), since=began, user="ada")

    assert len(database.asked_about) == asked


def test_after_an_outage_one_message_at_a_time_may_try_until_one_succeeds(
    breaker: CircuitBreaker, database: Service
) -> None:
    outage(breaker, database)

    assert breaker.may_poll("results", 0)
    assert breaker.may_start(0)
    assert not breaker.may_start(0)
    breaker.end_trial()
    assert breaker.may_start(0)

    succeed(breaker)
    assert breaker.is_closed
    assert breaker.may_start(0)
    assert breaker.may_start(0)


def test_a_message_that_tries_for_long_lets_another_one_try(
    breaker: CircuitBreaker, database: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_breaker, "TRIAL_S", 0)
    outage(breaker, database)

    assert breaker.may_start(0)
    assert breaker.may_start(0)


def test_a_message_that_tries_in_vain_opens_the_breaker_again(breaker: CircuitBreaker, database: Service) -> None:
    outage(breaker, database)
    opened = breaker.ongoing
    database.is_away.set()

    assert fail(breaker, DatabaseFault())

    assert breaker.state is Breaker.OPEN
    assert breaker.ongoing is opened


def test_a_success_of_a_message_from_before_does_not_close_the_breaker(
    breaker: CircuitBreaker, database: Service
) -> None:
    began = time.monotonic()
    outage(breaker, database)

    breaker.succeed(since=began)

    assert breaker.state is Breaker.HALF_OPEN


def test_the_breaker_closes_if_no_queue_has_a_message_that_could_try(
    breaker: CircuitBreaker, database: Service
) -> None:
    outage(breaker, database)

    breaker.find_none("results", queues=2)
    assert breaker.state is Breaker.HALF_OPEN
    breaker.find_none("notifications", queues=2)

    assert breaker.is_closed
    assert breaker.ongoing is None


def test_after_an_outage_each_queue_is_polled_for_one_message_until_that_has_tried(
    breaker: CircuitBreaker, database: Service
) -> None:
    outage(breaker, database)

    assert [breaker.may_poll(queue, 0) for queue in ("results", "results", "notifications")] == [True, False, True]
    breaker.end_trial()
    assert breaker.may_poll("results", 0)


def test_a_message_that_was_received_and_could_not_try_is_followed_by_another_one(
    breaker: CircuitBreaker, database: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_breaker, "TRIAL_S", 0)
    outage(breaker, database)

    assert breaker.may_poll("results", 0)
    assert breaker.may_poll("results", 0)


def test_another_service_that_is_away_by_now_is_another_outage(
    breaker: CircuitBreaker, database: Service, s3: Service
) -> None:
    outage(breaker, database)
    s3.is_away.set()

    assert fail(breaker, S3Fault("HTTP 503"))

    assert breaker.ongoing
    assert breaker.ongoing.service == "S3"
    asked = len(s3.asked_about)
    deadline = time.monotonic() + PATIENCE_S
    while len(s3.asked_about) == asked:
        assert time.monotonic() < deadline, "waited for a probe of S3 in vain"
        time.sleep(0.001)


def test_an_outage_is_told_once_when_it_begins_and_once_when_it_is_over(
    breaker: CircuitBreaker, database: Service
) -> None:
    with capture_logs() as lines:
        database.is_away.set()
        for number in range(20):
            assert fail(breaker, DatabaseFault("connection refused", advice="Start it."), user=f"user-{number}")
        database.is_away.clear()
        for _ in range(3):
            wait_for(breaker, Breaker.HALF_OPEN)
            fail(breaker, DatabaseFault("connection refused"))
        wait_for(breaker, Breaker.HALF_OPEN)
        succeed(breaker)
        deadline = time.monotonic() + PATIENCE_S
        while lines[-1]["event"] != "outage over: taking messages":
            assert time.monotonic() < deadline, "waited for the end in vain"
            time.sleep(0.001)

    told = [line for line in lines if line["log_level"] != "debug"]
    assert [line["event"] for line in told] == ["outage began: no messages are taken", "outage over: taking messages"]
    assert [told[0][name] for name in ("service", "reason", "error", "advice")] == [
        "PostgreSQL",
        "DATABASE_FAULT",
        "connection refused",
        "Start it.",
    ]


def test_a_breaker_whose_thread_cannot_start_stays_closed(
    breaker: CircuitBreaker, database: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    database.is_away.set()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert not fail(breaker, DatabaseFault())

    assert breaker.is_closed
    assert fail(breaker, DatabaseFault())


def test_threads_that_ask_at_once_share_the_answer_of_a_later_question() -> None:
    asked, go_on = threading.Semaphore(0), threading.Event()
    calls = []

    def ask(_fault: ServiceFault | None) -> None:
        calls.append(threading.get_ident())
        asked.release()
        assert go_on.wait(PATIENCE_S)
        raise ConnectionError("away")

    probe, answers = Probe(ask), []
    run: Callable[[], None] = lambda: answers.append(probe.ask())  # noqa: E731
    threads = [threading.Thread(target=run) for _ in range(8)]
    threads[0].start()
    assert asked.acquire(timeout=PATIENCE_S)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)

    # The first question may have been asked before the others' services failed.
    assert len(calls) <= 3
    assert [type(answer).__name__ for answer in answers] == ["Unexpected"] * 8
