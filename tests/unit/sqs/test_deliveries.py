from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.sqs.deliveries import (
    MOST_IN_FLIGHT,
    MOST_PARKED,
    MOST_WAITING,
    InFlight,
    State,
    batch_to_ask_for,
    room,
    room_in_share,
)
from tests.unit.conftest import MakeDelivery


def test_one_message_is_fetched_for_each_idle_thread() -> None:
    assert room(threads=8, running=3, waiting=0, in_flight=3, parked=0, handled_per_s=0) == 5


def test_slow_messages_are_not_fetched_ahead() -> None:
    assert room(threads=8, running=8, waiting=0, in_flight=8, parked=0, handled_per_s=0.5) == 0


def test_fast_messages_are_fetched_ahead() -> None:
    assert room(threads=8, running=8, waiting=0, in_flight=8, parked=0, handled_per_s=100) == 20


def test_waiting_messages_take_room() -> None:
    assert room(threads=8, running=0, waiting=8, in_flight=8, parked=0, handled_per_s=0) == 0


def test_only_very_many_parked_messages_stop_the_polls() -> None:
    assert room(threads=8, running=1, waiting=0, in_flight=1, parked=MOST_PARKED * 8 - 1, handled_per_s=0) == 7
    assert room(threads=8, running=1, waiting=0, in_flight=1, parked=MOST_PARKED * 8, handled_per_s=0) == 0


def test_messages_that_cannot_be_deleted_stop_the_polls() -> None:
    assert room(threads=8, running=0, waiting=0, in_flight=MOST_IN_FLIGHT * 8, parked=0, handled_per_s=1000) == 0


@given(
    threads=st.integers(1, 64),
    running=st.integers(0, 64),
    waiting=st.integers(0, 500),
    settling=st.integers(0, 500),
    rate=st.floats(0, 1e6),
)
def test_the_room_is_bounded_whatever_the_rate(
    threads: int, running: int, waiting: int, settling: int, rate: float
) -> None:
    running = min(running, threads)
    in_flight = running + waiting + settling
    found = room(threads=threads, running=running, waiting=waiting, in_flight=in_flight, parked=0, handled_per_s=rate)

    assert 0 <= found <= MOST_WAITING * threads
    assert found == 0 or in_flight + found <= MOST_IN_FLIGHT * threads


@pytest.mark.parametrize(
    ("free", "waiting", "asked"),
    [(25, True, 10), (10, True, 10), (9, True, 0), (9, False, 9), (1, False, 1), (0, False, 0), (-2, False, 0)],
)
def test_a_poll_asks_for_a_full_batch_or_for_what_idle_threads_can_take(free: int, waiting: bool, asked: int) -> None:
    assert batch_to_ask_for(free, waiting=waiting) == asked


def test_messages_in_flight_take_room_until_they_are_removed(make_delivery: MakeDelivery) -> None:
    in_flight = InFlight(threads=2)
    running, waiting = make_delivery(), make_delivery()

    in_flight.add([running, waiting])
    in_flight.move(running, State.RUNNING)
    with in_flight.changed:
        assert in_flight.room("https://sqs/results", thread_share=1) == 0

    in_flight.remove(waiting)
    with in_flight.changed:
        assert in_flight.room("https://sqs/results", thread_share=1) == 1
    assert running in in_flight
    assert waiting not in in_flight


@pytest.mark.parametrize(
    ("threads", "share", "taken", "expected"),
    [(8, 0.5, 0, 4), (8, 0.5, 3, 1), (8, 0.5, 4, 0), (8, 0.5, 6, 0), (3, 0.5, 0, 1), (1, 0.5, 0, 1), (1, 0.5, 1, 0)],
)
def test_a_queue_takes_no_more_than_its_share_of_the_threads(
    threads: int, share: float, taken: int, expected: int
) -> None:
    assert room_in_share(threads=threads, share=share, taken=taken) == expected


@given(threads=st.integers(1, 64), taken=st.integers(0, 1000))
def test_a_queue_with_a_full_share_is_bounded_only_by_the_messages_in_flight(threads: int, taken: int) -> None:
    assert room_in_share(threads=threads, share=1, taken=taken) == MOST_IN_FLIGHT * threads


def test_slow_messages_of_one_queue_leave_threads_to_the_other(make_delivery: MakeDelivery) -> None:
    in_flight = InFlight(threads=8)
    pushes = [make_delivery(queue_url="https://sqs/notifications") for _ in range(4)]
    in_flight.add(pushes)
    for push in pushes[:3]:
        in_flight.move(push, State.RUNNING)

    with in_flight.changed:
        assert in_flight.room("https://sqs/notifications", thread_share=0.5) == 0
        assert in_flight.room("https://sqs/results", thread_share=1) == 4
        assert in_flight.has_waiting("https://sqs/notifications")
        assert not in_flight.has_waiting("https://sqs/results")


def test_a_backlog_of_one_queue_does_not_stop_the_polls_of_another(make_delivery: MakeDelivery) -> None:
    in_flight = InFlight(threads=2)
    for _ in range(200):
        in_flight.add([done := make_delivery()])
        in_flight.move(done, State.RUNNING)
        in_flight.move(done, State.DELETING)
        in_flight.remove(done)
    results = [make_delivery() for _ in range(10)]
    in_flight.add(results)
    for result in results[:2]:
        in_flight.move(result, State.RUNNING)

    with in_flight.changed:
        assert in_flight.room("https://sqs/results", thread_share=1) == 0
        assert in_flight.room("https://sqs/notifications", thread_share=0.5) == 1


def test_messages_that_wait_for_their_deletion_take_no_share(make_delivery: MakeDelivery) -> None:
    in_flight = InFlight(threads=2)
    pushed = make_delivery(queue_url="https://sqs/notifications")
    in_flight.add([pushed])
    in_flight.move(pushed, State.RUNNING)
    in_flight.move(pushed, State.DELETING)

    with in_flight.changed:
        assert in_flight.room("https://sqs/notifications", thread_share=0.5) == 1


def test_a_delivery_is_ours_until_its_visibility_ends_or_is_lost(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery(visibility_s=60)

    assert delivery.is_ours(delivery.received + 59)
    assert not delivery.is_ours(delivery.received + 60)
    delivery.lost = True
    assert not delivery.is_ours(delivery.received)
