from __future__ import annotations

import math
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphnode.sqs import deliveries
from graphnode.sqs.deliveries import (
    FETCHED_AHEAD,
    MOST_BYTES,
    MOST_IN_FLIGHT,
    PATIENCE_IN_OUTAGE_S,
    PATIENCE_S,
    Delivery,
    InFlight,
    State,
    batch_to_ask_for,
    goes_back,
)
from graphnode.sqs.lanes import LONGEST
from graphnode.sqs.queues import BATCH_ENTRIES
from tests.unit.conftest import MakeDelivery

QUEUE = "https://sqs/results"
OTHER_QUEUE = "https://sqs/notifications"


@pytest.fixture
def in_flight() -> InFlight:
    made = InFlight(threads=4)
    made.open(QUEUE)
    made.open(OTHER_QUEUE, thread_share=0.5)
    return made


def take(in_flight: InFlight, queue: str = QUEUE) -> Delivery | None:
    return in_flight.take(queue, timeout_s=0)


def test_messages_of_one_lane_run_one_at_a_time_and_in_order(in_flight: InFlight, make_delivery: MakeDelivery) -> None:
    first, second, third = (make_delivery(lane="ada") for _ in range(3))
    for delivery in (first, second, third):
        assert in_flight.add(delivery) is None

    assert take(in_flight) is first
    assert take(in_flight) is None
    in_flight.leave(first, State.DELETING)
    assert take(in_flight) is second
    assert take(in_flight) is None
    in_flight.remove(second)
    assert take(in_flight) is third


def test_a_message_that_comes_while_another_of_its_lane_runs_waits_for_it(
    in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    first, second = make_delivery(lane="ada"), make_delivery(lane="ada")
    in_flight.add(first)
    assert take(in_flight) is first

    in_flight.add(second)

    assert take(in_flight) is None
    in_flight.remove(first)
    assert take(in_flight) is second


def test_lanes_take_turns_and_messages_without_a_lane_wait_for_nobody(
    in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    hot = [make_delivery(lane="ada") for _ in range(3)]
    others = [make_delivery(lane="bob"), make_delivery(), make_delivery()]
    for delivery in (*hot, *others):
        in_flight.add(delivery)

    assert [take(in_flight) for _ in range(4)] == [hot[0], *others]
    in_flight.leave(hot[0], State.DELETING)
    assert take(in_flight) is hot[1]


def test_no_message_is_handed_out_without_an_idle_thread(in_flight: InFlight, make_delivery: MakeDelivery) -> None:
    for _ in range(5):
        in_flight.add(make_delivery())
    running = [take(in_flight) for _ in range(5)]
    assert running[4] is None

    assert running[0]
    in_flight.leave(running[0], State.SETTLING)

    assert take(in_flight)


def test_a_queue_with_a_share_leaves_the_other_threads_alone(in_flight: InFlight, make_delivery: MakeDelivery) -> None:
    for _ in range(3):
        in_flight.add(make_delivery(queue_url=OTHER_QUEUE))

    assert [take(in_flight, OTHER_QUEUE) is not None for _ in range(3)] == [True, True, False]
    in_flight.add(make_delivery())
    assert take(in_flight)


def test_a_lanes_bound_sends_the_rest_back_for_about_their_wait(
    in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    for _ in range(LONGEST):
        assert in_flight.add(make_delivery(lane="ada")) is None

    waits = [in_flight.add(make_delivery(lane="ada")) for _ in range(500)]

    assert all(waits)
    assert (waits[-1] or 0) > (waits[0] or 0)
    assert in_flight.add(make_delivery(lane="bob")) is None


def test_lanes_together_leave_room_for_the_first_message_of_others(
    in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    accepted = 0
    for lane in range(MOST_IN_FLIGHT // LONGEST):
        accepted += sum(in_flight.add(make_delivery(lane=f"user {lane}")) is None for _ in range(LONGEST))

    assert accepted < 0.6 * MOST_IN_FLIGHT
    assert in_flight.add(make_delivery(lane="somebody else")) is None


def test_a_parked_lane_starts_again_after_its_time_with_the_same_message(
    in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    first, second = make_delivery(lane="ada"), make_delivery(lane="ada")
    in_flight.add(first)
    in_flight.add(second)
    assert take(in_flight) is first
    in_flight.park(first, 0.05)
    assert first.state is State.PARKED
    assert take(in_flight) is None

    assert in_flight.take(QUEUE, timeout_s=20) is first
    assert first.parks == 1


def test_a_parked_message_keeps_no_decoded_form(in_flight: InFlight, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    undecoded = delivery._message
    in_flight.add(delivery)
    take(in_flight)
    delivery.begin(undecoded.copy())

    in_flight.park(delivery, 0.05)

    assert delivery._message is undecoded


def test_a_message_that_waits_for_its_resumption_starts_when_it_comes(
    in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()
    in_flight.add(delivery)
    take(in_flight)
    in_flight.park(delivery, math.inf)
    assert take(in_flight) is None

    in_flight.resume(delivery)

    assert take(in_flight) is delivery


def test_a_resumption_that_comes_before_the_message_is_parked_is_not_missed(
    in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()
    in_flight.add(delivery)
    take(in_flight)
    in_flight.resume(delivery)

    in_flight.park(delivery, math.inf)

    assert take(in_flight) is delivery


def test_what_is_gone_is_not_resumed(in_flight: InFlight, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    in_flight.add(delivery)
    take(in_flight)
    in_flight.park(delivery, math.inf)
    in_flight.remove(delivery)

    in_flight.resume(delivery)

    assert take(in_flight) is None


def test_a_lane_goes_on_when_its_first_message_is_given_back(in_flight: InFlight, make_delivery: MakeDelivery) -> None:
    first, second = make_delivery(lane="ada"), make_delivery(lane="ada")
    in_flight.add(first)
    in_flight.add(second)
    take(in_flight)
    in_flight.park(first, 600)

    in_flight.leave(first, State.SETTLING)

    assert take(in_flight) is second


def test_a_lane_whose_message_is_stuck_in_its_thread_goes_on_with_the_other_threads(
    in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    stuck, second = make_delivery(lane="ada"), make_delivery(lane="ada")
    for delivery in (stuck, second, *(make_delivery() for _ in range(2))):
        in_flight.add(delivery)
    assert take(in_flight) is stuck

    in_flight.free_lane(stuck)

    assert stuck.lost
    # The stuck thread takes nothing: three are left.
    assert [take(in_flight) is not None for _ in range(3)] == [True, True, True]
    assert second.state is State.RUNNING
    in_flight.add(make_delivery())
    assert take(in_flight) is None
    in_flight.remove(stuck)
    assert take(in_flight)


def test_a_lane_is_forgotten_with_its_last_message(in_flight: InFlight, make_delivery: MakeDelivery) -> None:
    old, new = make_delivery(lane="ada"), make_delivery(lane="ada")
    in_flight.add(old)
    take(in_flight)
    in_flight.leave(old, State.SETTLING)
    in_flight.add(new)
    # The end of an old lane's last message does not end the new lane.
    in_flight.remove(old)
    in_flight.add(make_delivery(lane="ada"))

    assert take(in_flight) is new
    assert take(in_flight) is None


def test_a_thread_that_waits_is_woken_by_a_message(in_flight: InFlight, make_delivery: MakeDelivery) -> None:
    taken: list[Any] = []
    waiting = threading.Thread(target=lambda: taken.append(in_flight.take(QUEUE, timeout_s=20)))
    waiting.start()
    delivery = make_delivery()
    in_flight.add(delivery)
    waiting.join(20)

    assert taken == [delivery]


def test_a_first_delivery_goes_back_when_no_thread_has_taken_it_for_two_seconds(make_delivery: MakeDelivery) -> None:
    first, second, behind = make_delivery(), make_delivery(receive_count=2), make_delivery()
    first.ready_since = second.ready_since = now = time.monotonic()

    assert not goes_back(first, now + PATIENCE_S - 0.1, paused=False)
    assert goes_back(first, now + PATIENCE_S + 0.1, paused=False)
    # Once. What waits behind its own lane is blocked on every machine.
    assert not goes_back(second, now + 1000, paused=False)
    assert not goes_back(behind, now + 1000, paused=False)


def test_during_an_outage_each_first_delivery_goes_back_once(make_delivery: MakeDelivery) -> None:
    first, second = make_delivery(), make_delivery(receive_count=2)

    assert goes_back(first, first.received + PATIENCE_S + 0.1, paused=True)
    assert not goes_back(second, second.received + 1000, paused=True)


def test_a_message_that_met_the_outage_goes_back_after_minutes(make_delivery: MakeDelivery) -> None:
    delivery, often = make_delivery(), make_delivery(receive_count=3)
    for each in (delivery, often):
        each.met_outage, each.parked_since = True, each.received

    assert not goes_back(delivery, delivery.received + PATIENCE_IN_OUTAGE_S - 1, paused=True)
    assert goes_back(delivery, delivery.received + PATIENCE_IN_OUTAGE_S + 1, paused=True)
    assert not goes_back(often, often.received + PATIENCE_IN_OUTAGE_S + 1, paused=True)


def test_nothing_is_fetched_ahead_for_a_while_after_messages_waited_in_vain(
    in_flight: InFlight, make_delivery: MakeDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        in_flight.add(make_delivery())
    running = [take(in_flight) for _ in range(4)]
    assert in_flight.ask(QUEUE, timeout_s=0) == 0
    assert running[0]
    in_flight.remove(running[0])
    take(in_flight)
    asked = in_flight.ask(QUEUE, timeout_s=0)
    in_flight.answered(QUEUE, asked)
    assert asked == BATCH_ENTRIES
    monkeypatch.setattr(deliveries, "PATIENCE_S", -1.0)

    (impatient,) = in_flight.impatient(QUEUE, paused=False)
    in_flight.remove(impatient)

    assert in_flight.ask(QUEUE, timeout_s=0) == 0


def test_two_polls_are_fetched_ahead_of_threads_that_get_on(in_flight: InFlight, make_delivery: MakeDelivery) -> None:
    for _ in range(5):
        in_flight.add(make_delivery())
    running = [take(in_flight) for _ in range(4)]
    assert running[0]
    in_flight.remove(running[0])
    take(in_flight)

    asked = [in_flight.ask(QUEUE, timeout_s=0) for _ in range(3)]

    assert asked == [10, 10, 0]
    assert sum(asked) == FETCHED_AHEAD


def test_messages_behind_their_own_lane_leave_the_polls_going(in_flight: InFlight, make_delivery: MakeDelivery) -> None:
    for _ in range(LONGEST):
        in_flight.add(make_delivery(lane="ada"))
    assert take(in_flight)

    assert in_flight.ask(QUEUE, timeout_s=0) == 3


def test_too_many_messages_or_bytes_stop_the_polls(in_flight: InFlight, make_delivery: MakeDelivery) -> None:
    large = [make_delivery(lane=f"u{n}", body="x" * (1 << 20)) for n in range((MOST_BYTES >> 20) + 1)]
    for delivery in large:
        in_flight.add(delivery)
    assert in_flight.ask(QUEUE, timeout_s=0) == 0
    for delivery in large:
        in_flight.remove(delivery)
    assert in_flight.ask(QUEUE, timeout_s=0) == 4


@pytest.mark.parametrize(
    ("room", "waiting", "asked"),
    [(25, True, 10), (10, True, 10), (9, True, 0), (9, False, 9), (0, False, 0), (-3, False, 0)],
)
def test_while_messages_wait_only_a_full_batch_is_asked_for(room: int, waiting: bool, asked: int) -> None:
    assert batch_to_ask_for(room, waiting=waiting) == asked


@settings(max_examples=200)
@given(st.data())
def test_whatever_happens_no_message_is_forgotten_and_no_lane_runs_twice(data: st.DataObject) -> None:
    in_flight, now = InFlight(threads=3), time.monotonic()
    in_flight.open(QUEUE)
    made: list[Delivery] = []
    running: list[Delivery] = []
    for number in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(["add", "take", "done", "park", "lock", "resume", "remove"])):
            case "add":
                made.append(one_of(data, number))
                assert in_flight.add(made[-1]) is None
            case "take":
                if taken := in_flight.take(QUEUE, timeout_s=0):
                    running.append(taken)
            case "done" if running:
                in_flight.remove(running.pop())
            case "park" if running:
                in_flight.park(running.pop(), math.inf)
            case "lock" if running:
                in_flight.park(running.pop(), 1e-6)
            case "resume" if made:
                in_flight.resume(data.draw(st.sampled_from(made)))
            case "remove" if made:
                chosen = data.draw(st.sampled_from(made))
                if chosen not in running:
                    in_flight.remove(chosen)
        lanes = [each.lane_key for each in running if each.lane_key]
        assert len(lanes) == len(set(lanes))
        assert len(running) <= 3

    for each in made:
        in_flight.resume(each)
    for each in running:
        in_flight.remove(each)
    while in_flight.snapshot():
        taken = in_flight.take(QUEUE, timeout_s=20)
        assert taken, "a message waits for ever"
        in_flight.remove(taken)
    assert now


def one_of(data: st.DataObject, number: int) -> Delivery:
    from datetime import UTC, datetime

    import dramatiq

    undecoded = dramatiq.Message[None](queue_name="results", actor_name="", args=(), kwargs={}, options={})
    return Delivery(
        undecoded,
        queue_url=QUEUE,
        body="{}",
        sqs_id=f"m-{number}",
        receipt_handle=f"r-{number}",
        receive_count=1,
        sent_at=datetime.now(UTC),
        visibility_s=60,
        lane=data.draw(st.sampled_from([None, "ada", "bob"])),
    )
