"""The health of a worker whose polls fail, or whose threads are stuck or die."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.sqs_stub import StubServer
from graphnode.sqs import liveness as liveness_module
from graphnode.sqs import poll_failures
from graphnode.worker.health import Health, HealthReports, Report, liveness, readiness
from tests.faults.conftest import RunningWorker, StartWorker, wait_until


@pytest.fixture
def reports() -> HealthReports:
    """A middleware that makes the worker's reports when it is asked."""
    return HealthReports()


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which no thread has died, and no poll has failed."""
    monkeypatch.setattr(liveness_module, "_signs", {})
    monkeypatch.setattr(poll_failures, "_failing", {})


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of failing polls counts as a minute."""
    monkeypatch.setattr(poll_failures, "ALARM_S", 0.5)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Ends the messages that are stuck, at the test's end at the latest."""
    released = threading.Event()
    yield released
    released.set()


def is_live(report: Report) -> Health:
    return liveness([report], now=time.monotonic(), since=0.0)


def is_ready(report: Report) -> Health:
    return readiness([report], now=time.monotonic(), since=0.0)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("kind", "code"), [("denied", "AccessDeniedException"), ("no_queue", "QueueDoesNotExist")])
def test_a_worker_whose_polls_are_refused_is_unready_until_one_succeeds_and_stays_alive(
    start: StartWorker, stub: StubServer, reports: HealthReports, kind: str, code: str
) -> None:
    stub.order(faults=[{"action": "ReceiveMessage", "kind": kind, "times": 1000}])
    worker = start(lambda _body: None, middleware=[reports])

    refused = wait_until(lambda: is_ready(reports.report(worker.broker)).problems, "the worker to be unready")

    assert len(refused) == 1
    assert "polls of work have failed for" in refused[0]
    assert code in refused[0]
    assert is_live(reports.report(worker.broker)).ok
    stub.order(reset=True)
    stub.fill(worker.queue, ["hello"])
    wait_until(lambda: is_ready(reports.report(worker.broker)).ok, "the worker to be ready")


@pytest.mark.usefixtures("hasty")
def test_a_queue_with_too_many_messages_in_flight_leaves_a_worker_ready(
    start: StartWorker, stub: StubServer, reports: HealthReports
) -> None:
    stub.order(faults=[{"action": "ReceiveMessage", "kind": "over_limit", "times": 1000}])
    worker = start(lambda _body: None, middleware=[reports])

    wait_until(lambda: stub.calls("ReceiveMessage") >= 3, "three refused polls")

    assert is_ready(reports.report(worker.broker)).ok
    stub.order(reset=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_poller_that_an_exception_has_ended_fails_liveness(
    start: StartWorker, stub: StubServer, reports: HealthReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start(lambda _body: None, middleware=[reports])
    wait_until(lambda: stub.calls("ReceiveMessage"), "the first poll")
    assert is_live(reports.report(worker.broker)).ok

    monkeypatch.setattr(worker.broker.in_flight, "ask", failing)
    stub.fill(worker.queue, ["hello"])

    wait_until(lambda: died(worker, reports, "poller-work-0"), "the dead poller to be named")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_settling_thread_that_an_exception_has_ended_fails_liveness(
    start: StartWorker, reports: HealthReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start(lambda _body: None, middleware=[reports], visibility_s=2)
    wait_until(lambda: reports.report(worker.broker).last_signs, "the first sign of life")

    monkeypatch.setattr("graphnode.sqs.heartbeat.due", failing)

    wait_until(lambda: died(worker, reports, f"settlement-{worker.queue}-0"), "the dead thread to be named")


def test_a_worker_is_unready_when_all_threads_are_late_and_dead_when_all_are_stuck_and_not_for_one_of_them(
    start: StartWorker, stub: StubServer, reports: HealthReports, release: threading.Event
) -> None:
    # The lock of an event is not interrupted, as a system call is not.
    worker = start(lambda _body: bool(release.wait()) and None, middleware=[reports], threads=2, time_limit=500)
    stub.fill(worker.queue, ["one"])
    wait_until(lambda: reports.report(worker.broker).threads.stuck == 1, "one stuck thread")
    assert is_ready(reports.report(worker.broker)).ok

    stub.fill(worker.queue, ["another"])

    unready = wait_until(lambda: is_ready(reports.report(worker.broker)).problems, "the worker to be unready")
    assert "all 2 worker threads are over their time limits" in unready[0]
    dead = wait_until(lambda: is_live(reports.report(worker.broker)).problems, "the worker to be dead")
    assert "all 2 worker threads are stuck" in dead[0]
    release.set()
    wait_until(lambda: is_ready(reports.report(worker.broker)).ok, "the threads to work again")


def failing(*_: Any, **__: Any) -> Any:
    """Stands for a fault in this program."""
    raise ZeroDivisionError


def died(worker: RunningWorker, reports: HealthReports, name: str) -> bool:
    """Whether liveness fails because this thread has died."""
    return any(problem.endswith(f"{name} has died") for problem in is_live(reports.report(worker.broker)).problems)
