from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from graphnode.sqs import consumer
from graphnode.sqs.consumer import ALARM_S, BACKOFF_MAX_S, BACKOFF_MIN_S, PollFailures
from graphnode.steps import subscribed


class Clock:
    """A monotonic clock that stands still until the test moves it."""

    now = 0.0

    def monotonic(self) -> float:
        """Seconds since the test began."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(consumer, "time", clock)
    return clock


@pytest.fixture
def failures(clock: Clock) -> PollFailures:
    return PollFailures("results")


def logged(lines: list[Any]) -> list[tuple[str, str]]:
    return [(line["log_level"], line["event"]) for line in lines]


def test_only_the_first_of_several_failed_polls_is_logged(failures: PollFailures) -> None:
    with capture_logs() as lines:
        for _ in range(5):
            failures.backoff_after(ConnectionError("refused"))

    assert logged(lines) == [("warning", "polling failed, trying again until it works")]


def test_a_minute_of_failed_polls_is_logged_once_as_an_error(failures: PollFailures, clock: Clock) -> None:
    failures.backoff_after(ConnectionError("refused"))

    with capture_logs() as lines:
        for seconds in (ALARM_S, 1, 1):
            clock.now += seconds
            failures.backoff_after(ConnectionError("refused"))

    assert logged(lines) == [("error", "polling has failed for a minute")]


def test_a_good_poll_logs_the_end_of_the_failures_once_and_resets_them(failures: PollFailures, clock: Clock) -> None:
    failures.backoff_after(ConnectionError("refused"))
    failures.backoff_after(ConnectionError("refused"))

    with capture_logs() as lines:
        failures.end()
        failures.end()
        clock.now += 2 * ALARM_S
        failures.backoff_after(ConnectionError("refused"))

    assert logged(lines) == [
        ("warning", "polling works again"),
        ("warning", "polling failed, trying again until it works"),
    ]
    assert lines[0]["failures"] == 2


def test_the_back_off_after_failed_polls_grows_to_its_longest(failures: PollFailures) -> None:
    seconds = [failures.backoff_after(ConnectionError("refused")) for _ in range(100)]

    assert BACKOFF_MIN_S / 2 <= seconds[0] <= BACKOFF_MIN_S
    assert all(BACKOFF_MAX_S / 2 <= later <= BACKOFF_MAX_S for later in seconds[6:])


def test_each_failed_poll_is_counted_for_its_queue(failures: PollFailures) -> None:
    taken: list[tuple[str, float, dict[str, str]]] = []
    with subscribed(count=lambda *counted: taken.append(counted)):
        failures.backoff_after(ConnectionError("refused"))
        failures.backoff_after(ConnectionError("refused"))

    assert taken == [("poll_failed", 1, {"queue": "results"})] * 2
