from __future__ import annotations

import threading
from typing import Any

import psycopg2
import pytest
from structlog.testing import capture_logs

from graphnode.errors import ServiceFault
from graphnode.worker import sweeps as sweeps_module
from graphnode.worker.sweeps import Attempts, Run, Sweep, Sweeps

PATIENCE_S = 20.0


class CircuitBreaker:
    def __init__(self) -> None:
        self.is_closed = True
        self.judged: list[ServiceFault] = []
        self.is_outage = True

    def is_to_blame(self, error: ServiceFault, *, since: float, user: str) -> bool:
        self.judged.append(error)
        return self.is_outage


class Broker:
    """The part of the broker that sweeps use. It counts how often they check for a stop."""

    def __init__(self) -> None:
        self.breaker = CircuitBreaker()
        self.stop = self
        self.is_stopping = False
        self.checks = threading.Semaphore(0)

    @property
    def requested(self) -> bool:
        self.checks.release()
        return self.is_stopping


@pytest.fixture
def broker() -> Any:
    return Broker()


def releasing(rounds: threading.Semaphore) -> Run:
    """A sweep that counts its rounds in the semaphore."""
    return lambda _broker: rounds.release()


def raising(errors: list[Exception | None]) -> Run:
    """A sweep whose rounds raise these errors, one each. A round with None succeeds."""

    def run(_broker: Any) -> None:
        if error := errors.pop(0):
            raise error

    return run


def test_sweeps_repeat_until_the_worker_stops(broker: Any) -> None:
    rounds = threading.Semaphore(0)
    sweeps = Sweeps([Sweep("first", releasing(rounds)), Sweep("second", releasing(rounds))], interval_s=0.01)
    worker: Any = None

    sweeps.after_worker_boot(broker, worker)
    assert all(rounds.acquire(timeout=PATIENCE_S) for _ in range(6))
    sweeps.before_worker_shutdown(broker, worker)

    for thread in [thread for thread in threading.enumerate() if thread.name == "sweeps"]:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("reason", ["stopping", "outage"])
def test_no_sweep_runs_during_an_outage_or_a_stop(broker: Any, reason: str) -> None:
    swept: list[str] = []
    sweeps = Sweeps([Sweep("any", lambda _: swept.append("any"))], interval_s=0.001)
    worker: Any = None
    broker.is_stopping = reason == "stopping"
    broker.breaker.is_closed = reason != "outage"

    sweeps.after_worker_boot(broker, worker)
    assert all(broker.checks.acquire(timeout=PATIENCE_S) for _ in range(5))
    sweeps.before_worker_shutdown(broker, worker)

    assert swept == []


def test_a_sweep_declared_for_outages_runs_during_an_outage(broker: Any) -> None:
    rounds = threading.Semaphore(0)
    others: list[str] = []
    sweeps = Sweeps(
        [Sweep("other", lambda _: others.append("swept")), Sweep("always", releasing(rounds), in_outages=True)],
        interval_s=0.001,
    )
    worker: Any = None
    broker.breaker.is_closed = False

    sweeps.after_worker_boot(broker, worker)
    assert all(rounds.acquire(timeout=PATIENCE_S) for _ in range(5))
    sweeps.before_worker_shutdown(broker, worker)

    assert others == []


class Clock:
    """A monotonic clock that stands still until the test moves it."""

    now = 0.0

    def monotonic(self) -> float:
        """Seconds since the test began."""
        return self.now


def test_a_sweep_declared_for_outages_is_not_held_up_by_a_slow_one(
    broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[str] = []
    ended, clock = threading.Event(), Clock()
    monkeypatch.setattr(sweeps_module, "time", clock)

    def be_slow(_broker: Any) -> None:
        swept.append("slow")
        clock.now += 60

    def end(_broker: Any) -> None:
        ended.set()
        broker.is_stopping = True

    sweeps = Sweeps(
        [
            Sweep("slow", be_slow),
            Sweep("quick", end),
            Sweep("urgent", lambda _: swept.append("urgent"), in_outages=True),
        ],
        interval_s=0.01,
    )
    worker: Any = None

    sweeps.after_worker_boot(broker, worker)
    assert ended.wait(PATIENCE_S)
    sweeps.before_worker_shutdown(broker, worker)

    # At the start, at the round's beginning, and after the slow one.
    assert swept == ["urgent", "urgent", "slow", "urgent"]


@pytest.mark.parametrize(("is_outage", "lines_logged"), [(True, 0), (False, 1)])
def test_a_sweep_that_a_service_fails_leaves_it_to_the_breaker_whether_that_is_an_outage(
    broker: Any, is_outage: bool, lines_logged: int
) -> None:
    attempts = Attempts()
    broker.breaker.is_outage = is_outage

    with capture_logs() as lines:
        attempts.run(broker, Sweep("any", raising([psycopg2.OperationalError("connection refused")])))

    assert [type(error).__name__ for error in broker.breaker.judged] == ["DatabaseFault"]
    assert len(lines) == lines_logged


def test_a_failing_sweep_is_logged_once_and_its_recovery_once(broker: Any) -> None:
    attempts = Attempts()
    sweep = Sweep("any", raising([KeyError("x"), KeyError("x"), None, None]))

    with capture_logs() as lines:
        for _ in range(4):
            attempts.run(broker, sweep)

    assert [line["event"] for line in lines] == ["sweep failed, trying again until it works", "sweep works again"]
