from __future__ import annotations

import pytest

from graphnode.sqs.deliveries import State
from graphnode.sqs.heartbeat import LONGEST_INVISIBLE_S, due, extension
from tests.unit.conftest import MakeDelivery


@pytest.mark.parametrize("state", [State.WAITING, State.RUNNING, State.PARKED, State.DELETING])
def test_a_message_in_any_state_is_extended_before_half_of_its_visibility_is_gone(
    state: State, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery(visibility_s=60)
    delivery.state = state

    assert due([delivery], now=delivery.received + 20, visibility_s=60) == []
    assert due([delivery], now=delivery.received + 25, visibility_s=60) == [delivery]


def test_a_message_on_its_way_back_to_the_queue_is_not_extended(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    delivery.state = State.SETTLING

    assert due([delivery], now=delivery.received + 59, visibility_s=60) == []


def test_no_extension_goes_beyond_twelve_hours_from_the_receipt(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    near_the_end = delivery.received + LONGEST_INVISIBLE_S - 30
    delivery.invisible_until = near_the_end + 10

    assert extension(delivery, now=near_the_end, visibility_s=60) == 30
    delivery.invisible_until = near_the_end + 30
    assert due([delivery], now=near_the_end, visibility_s=60) == []
