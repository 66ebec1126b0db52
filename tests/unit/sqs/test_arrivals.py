from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.sqs.arrivals import SLICES, UNKNOWN, Arrivals

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)
LATELY_S = 60.0


@pytest.fixture
def arrivals() -> Arrivals:
    """A queue that was polled from 0 on, each ten seconds until 100: nothing came."""
    made = Arrivals(lately_s=LATELY_S, now=0)
    for now in range(0, 101, 10):
        made.note_poll(now)
    return made


def test_all_is_unknown_until_the_queue_was_polled_for_long_enough() -> None:
    arrivals = Arrivals(lately_s=LATELY_S, now=0)
    arrivals.note_poll(30)
    arrivals.add(NOON, 30)
    assert arrivals.oldest(50) == UNKNOWN

    arrivals.note_poll(62)
    assert arrivals.oldest(62) == NOON


def test_all_is_unknown_again_after_a_time_without_polls(arrivals: Arrivals) -> None:
    assert arrivals.oldest(100) is None
    assert arrivals.oldest(161) == UNKNOWN

    arrivals.note_poll(161)
    arrivals.add(NOON, 161)
    assert arrivals.oldest(161) == UNKNOWN


def test_an_arrival_counts_for_so_long_and_no_longer(arrivals: Arrivals) -> None:
    arrivals.add(NOON, 100)
    arrivals.note_poll(150)

    assert arrivals.oldest(160) == NOON
    assert arrivals.oldest(162) is None


@given(
    st.lists(
        st.tuples(st.floats(0.0, 5.0), st.integers(0, 5)).map(lambda one: (one[0], NOON + timedelta(seconds=one[1]))),
        min_size=1,
    )
)
def test_the_oldest_of_those_that_count_is_found_in_little_memory(came: list[tuple[float, datetime]]) -> None:
    arrivals = Arrivals(lately_s=LATELY_S, now=-1000)
    now, at = 0.0, []
    for pause_s, sent_at in came:
        now += pause_s
        arrivals.note_poll(now)
        arrivals.add(sent_at, now)
        at.append((now, sent_at))

    slice_s = LATELY_S / SLICES
    certain = [sent_at for when, sent_at in at if now - when <= LATELY_S]
    possible = [sent_at for when, sent_at in at if now - when <= LATELY_S + 2 * slice_s]
    oldest = arrivals.oldest(now)
    assert oldest is not None
    # The beginning counts as long as an arrival.
    assert min(possible) <= oldest <= min(certain) or (oldest == UNKNOWN and now <= LATELY_S + 2 * slice_s)
    assert len(arrivals._oldest) <= SLICES + 3
