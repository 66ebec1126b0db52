from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.sqs.lanes import (
    FIRST_PACE_S,
    HASTE,
    LONGEST,
    LONGEST_DEFERRAL_S,
    LONGEST_FOR_OFTEN_RECEIVED,
    Lane,
)

#: Keeps a wait as it is.
EVEN: Any = type("Even", (random.Random,), {"uniform": lambda _self, low, high: (low + high) / 2})()


@pytest.fixture
def lane() -> Lane:
    return Lane("ada", now=0.0)


def fill(lane: Lane, count: int) -> None:
    lane.waiting.extend([None] * count)  # type: ignore[list-item]


def test_a_lane_has_room_up_to_its_bound_and_for_what_has_gone_back_often_beyond_it(lane: Lane) -> None:
    fill(lane, LONGEST - 1)
    assert lane.has_room(receive_count=1)
    fill(lane, 1)
    assert not lane.has_room(receive_count=2)
    assert lane.has_room(receive_count=3)
    fill(lane, LONGEST_FOR_OFTEN_RECEIVED - LONGEST)
    assert not lane.has_room(receive_count=3)


def test_messages_go_back_one_behind_the_other_until_it_is_about_their_turn(lane: Lane) -> None:
    fill(lane, LONGEST)

    waits = [lane.deferral(0.0, receive_count=2, jitter=EVEN) for _ in range(1000)]

    assert waits == sorted(waits)
    assert waits[0] >= LONGEST * FIRST_PACE_S
    # The last is behind 1,200 messages of 50 ms. They come back a little early, so that the lane never stands still.
    assert 0.75 * 1200 * FIRST_PACE_S < waits[-1] < 1200 * FIRST_PACE_S


def test_the_first_time_messages_come_back_much_faster_than_the_lane_works(lane: Lane) -> None:
    first = [lane.deferral(0.0, receive_count=1, jitter=EVEN) for _ in range(4000)][-1]

    assert first == pytest.approx(4000 * FIRST_PACE_S / HASTE[0], rel=0.05)


def test_the_pace_is_what_messages_really_take(lane: Lane) -> None:
    now = 0.0
    for _ in range(100):
        now += 2.0
        lane.progress(now)
    fill(lane, 10)

    assert lane.deferral(now, receive_count=2, jitter=EVEN) == pytest.approx(20, abs=3)


def test_a_lane_that_is_blocked_from_outside_sends_messages_back_for_half_the_time_that_it_has_been_blocked(
    lane: Lane,
) -> None:
    fill(lane, 1)

    assert 150 <= lane.deferral(300.0, receive_count=1, jitter=EVEN) <= 155


def test_one_long_message_or_block_says_little_of_the_next_messages(lane: Lane) -> None:
    lane.progress(1000.0)
    fill(lane, 200)

    assert lane.deferral(1000.0, receive_count=2, jitter=EVEN) < 200 * 7 * FIRST_PACE_S


@given(
    waiting=st.integers(0, LONGEST_FOR_OFTEN_RECEIVED),
    receive_count=st.integers(1, 10_000),
    now=st.floats(0, 1e9),
    seed=st.integers(),
)
def test_a_wait_is_always_one_that_sqs_takes(waiting: int, receive_count: int, now: float, seed: int) -> None:
    lane = Lane("ada", now=0.0)
    fill(lane, waiting)

    assert 1 <= lane.deferral(now, receive_count=receive_count, jitter=random.Random(seed)) <= LONGEST_DEFERRAL_S
