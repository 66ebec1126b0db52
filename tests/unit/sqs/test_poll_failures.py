from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from structlog.testing import capture_logs

from graphnode.remedies import AWS
from graphnode.sqs import poll_failures
from graphnode.sqs.poll_failures import (
    ALARM_S,
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    STALE_AFTER_S,
    PollFailures,
    failing_polls,
)
from graphnode.steps import subscribed

#: An event of `steps.py`: its name, its amount and its labels.
Counted = tuple[str, float, dict[str, str]]


class Clock:
    """A monotonic clock that stands still until the test moves it."""

    now = 0.0

    def monotonic(self) -> float:
        """Seconds since the test began."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of a process whose polls have never failed."""
    clock = Clock()
    monkeypatch.setattr(poll_failures, "time", clock)
    monkeypatch.setattr(poll_failures, "_failing", {})
    return clock


@pytest.fixture
def failures(clock: Clock) -> PollFailures:
    return PollFailures("results")


@pytest.fixture
def gauges() -> Iterator[list[Counted]]:
    """The changes of the gauge of failing polls."""
    taken: list[Counted] = []

    def take(*counted: Any) -> None:
        if counted[0] == "polls_failing":
            taken.append(counted)

    with subscribed(count=take):
        yield taken


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "https://sqs/secret"}}, "ReceiveMessage")


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
    assert lines[0]["advice"] == AWS[""]


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
    taken: list[Counted] = []
    with subscribed(count=lambda *counted: taken.append(counted)):
        failures.backoff_after(ConnectionError("refused"))
        failures.backoff_after(ConnectionError("refused"))

    assert taken == [("poll_failed", 1, {"queue": "results"})] * 2


def test_a_queue_fails_once_its_polls_have_failed_for_a_minute(failures: PollFailures, clock: Clock) -> None:
    failures.backoff_after(ConnectionError("refused"))
    clock.now += ALARM_S - 1
    failures.backoff_after(refusal("AWS.SimpleQueueService.NonExistentQueue"))
    assert failing_polls() == []

    # Also between two polls.
    clock.now += 1
    (polls,) = failing_polls()

    assert (polls.queue_name, polls.began) == ("results", 0.0)
    assert polls.error == "ReceiveMessage failed (AWS.SimpleQueueService.NonExistentQueue, HTTP 0)"


def test_failures_from_before_a_long_time_without_polls_do_not_count(failures: PollFailures, clock: Clock) -> None:
    for _ in range(2):
        failures.backoff_after(ConnectionError("refused"))
        clock.now += ALARM_S
    assert len(failing_polls()) == 1

    clock.now += STALE_AFTER_S
    assert failing_polls() == []
    failures.backoff_after(ConnectionError("refused"))
    assert failing_polls() == []

    clock.now += ALARM_S

    assert len(failing_polls()) == 1


def test_a_good_poll_of_either_poller_ends_the_failures_of_its_queue_alone(
    failures: PollFailures, clock: Clock
) -> None:
    others = PollFailures("notifications")
    for _ in range(2):
        failures.backoff_after(ConnectionError("refused"))
        others.backoff_after(ConnectionError("refused"))
        clock.now += ALARM_S
    assert [polls.queue_name for polls in failing_polls()] == ["results", "notifications"]

    PollFailures("results").end()

    assert [polls.queue_name for polls in failing_polls()] == ["notifications"]
    failures.backoff_after(ConnectionError("refused"))
    assert len(failing_polls()) == 1


def test_the_gauge_is_set_while_the_polls_of_a_queue_have_failed_for_a_minute(
    failures: PollFailures, clock: Clock, gauges: list[Counted]
) -> None:
    second = PollFailures("results")
    failures.backoff_after(ConnectionError("refused"))
    clock.now += ALARM_S
    second.backoff_after(ConnectionError("refused"))
    failures.backoff_after(ConnectionError("refused"))
    assert gauges == [("polls_failing", 1, {"queue": "results"})]

    second.end()
    failures.end()

    assert gauges == [("polls_failing", amount, {"queue": "results"}) for amount in (1, 0)]


def test_a_queue_with_too_many_messages_in_flight_is_answered(failures: PollFailures, clock: Clock) -> None:
    for code in ("InternalError", "OverLimit", "InternalError"):
        failures.backoff_after(refusal(code))
        clock.now += ALARM_S - 1

    assert failing_polls() == []


@pytest.mark.parametrize(
    ("error", "said", "advice"),
    [
        (refusal("AWS.SimpleQueueService.NonExistentQueue"), "AWS.SimpleQueueService.NonExistentQueue", "Create the q"),
        (refusal("QueueDoesNotExist"), "ReceiveMessage failed (QueueDoesNotExist, HTTP 0)", "Create the queue again"),
        (refusal("AccessDeniedException"), "(AccessDeniedException, HTTP 0)", "sqs:ReceiveMessage on the queue"),
        (refusal("KMS.DisabledException"), "(KMS.DisabledException, HTTP 0)", "the queue's KMS key"),
        (refusal("ExpiredToken"), "(ExpiredToken, HTTP 0)", "Renew the AWS credentials"),
        (
            ReadTimeoutError(endpoint_url="https://secret"),
            "cannot be reached (ReadTimeoutError)",
            "Nothing, if AWS has",
        ),
    ],
)
def test_failing_polls_say_why_and_what_mends_them_and_quote_nothing(
    failures: PollFailures, clock: Clock, error: Exception, said: str, advice: str
) -> None:
    failures.backoff_after(error)
    clock.now += ALARM_S

    (polls,) = failing_polls()

    assert said in polls.error
    assert advice in polls.advice
    assert "secret" not in polls.error
