from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.errors import (
    Interrupted,
    InvalidDocument,
    ObjectNotFound,
    WrongOwner,
)
from graphnode.sqs.verdicts import DeadLetter, Nack, Retry, RetryPolicy

POLICY = RetryPolicy(max_attempts=8, backoff_min_s=5, backoff_max_s=900)


@pytest.mark.parametrize("error", [WrongOwner("not yours"), InvalidDocument("nodes[3].id: …")])
def test_a_permanent_error_is_a_dead_letter_at_the_first_attempt(error: WrongOwner | InvalidDocument) -> None:
    assert POLICY.decide(error, attempt=1) == DeadLetter(error.reason, str(error), 1)


def test_a_transient_error_is_tried_again_until_the_attempts_are_used_up() -> None:
    verdicts = [POLICY.decide(ObjectNotFound("busy"), attempt=attempt) for attempt in range(1, 10)]

    assert all(isinstance(verdict, Retry) for verdict in verdicts[:7])
    assert verdicts[7] == DeadLetter("OBJECT_NOT_FOUND", "busy (attempt 8 of 8, the last)", 8)
    assert isinstance(verdicts[8], DeadLetter)


@given(st.integers(min_value=1, max_value=10_000))
def test_a_message_that_a_stop_interrupts_goes_back_at_once_at_any_attempt(attempt: int) -> None:
    assert POLICY.decide(Interrupted(), attempt=attempt) == Nack()


@given(st.integers(min_value=1, max_value=10**9), st.integers())
def test_a_back_off_stays_within_its_ceiling(attempt: int, seed: int) -> None:
    seconds = POLICY.backoff(attempt, jitter=random.Random(seed))

    assert 1 <= seconds <= min(900, 5 * 2 ** min(attempt - 1, 30))


def test_back_offs_grow_and_spread_out() -> None:
    jitter = random.Random(1)
    means = [sum(POLICY.backoff(attempt, jitter=jitter) for _ in range(500)) / 500 for attempt in (1, 3, 5, 7)]

    assert means == sorted(means)
    assert len({POLICY.backoff(5, jitter=jitter) for _ in range(100)}) > 20


@pytest.mark.parametrize("error", [WrongOwner("not yours"), ObjectNotFound("not there")])
def test_a_dead_letter_keeps_its_error_for_those_who_are_told_later(error: WrongOwner | ObjectNotFound) -> None:
    dead = POLICY.decide(error, attempt=8)

    assert isinstance(dead, DeadLetter)
    assert dead.cause is error


@given(st.integers(min_value=1, max_value=10**9))
def test_what_sqs_refuses_is_not_delivered_again_before_the_first_back_off(receive_count: int) -> None:
    assert 5 <= POLICY.backoff_of_refused(receive_count) <= 900
    assert RetryPolicy(backoff_min_s=0.1, backoff_max_s=0.1).backoff_of_refused(receive_count) == 1
