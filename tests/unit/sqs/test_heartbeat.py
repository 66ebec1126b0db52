from __future__ import annotations

from typing import Any
from unittest.mock import create_autospec

import pytest
from botocore.client import BaseClient
from botocore.exceptions import EndpointConnectionError

from graphnode.sqs.deliveries import InFlight, State
from graphnode.sqs.heartbeat import LONGEST_INVISIBLE_S, Heartbeat, due, extension
from tests.unit.conftest import MakeDelivery


class Recorder(BaseClient):
    """The one SQS call that a heartbeat makes, for a mock to imitate."""

    def change_message_visibility_batch(self, **_: Any) -> dict[str, Any]:
        raise NotImplementedError


@pytest.fixture
def sqs() -> Any:
    """A mock of SQS that extends every message, unless the test sets other answers."""
    client = create_autospec(Recorder, instance=True)
    client.change_message_visibility_batch.side_effect = lambda **call: {
        "Successful": [{"Id": entry["Id"]} for entry in call["Entries"]]
    }
    return client


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight(threads=8)


@pytest.fixture
def heartbeat(sqs: Any, in_flight: InFlight) -> Heartbeat:
    return Heartbeat(sqs, in_flight, visibility_s=60)


def extended(sqs: Any) -> list[str]:
    """The receipt handles of all extensions, in their order."""
    return [
        entry["ReceiptHandle"]
        for call in sqs.change_message_visibility_batch.call_args_list
        for entry in call.kwargs["Entries"]
    ]


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


def test_a_beat_extends_each_queues_messages_in_batches_of_ten(
    heartbeat: Heartbeat, in_flight: InFlight, sqs: Any, make_delivery: MakeDelivery
) -> None:
    deliveries = [make_delivery(visibility_s=30) for _ in range(12)]
    other = make_delivery(visibility_s=30, queue_url="https://sqs/notifications")
    in_flight.add([*deliveries, other])

    heartbeat.beat()

    sizes = [len(call.kwargs["Entries"]) for call in sqs.change_message_visibility_batch.call_args_list]
    assert sorted(sizes) == [1, 2, 10]
    assert all(delivery.is_ours(delivery.received + 55) for delivery in deliveries)


def test_a_message_whose_extension_sqs_refuses_is_lost(
    heartbeat: Heartbeat, in_flight: InFlight, sqs: Any, make_delivery: MakeDelivery
) -> None:
    kept, gone = make_delivery(visibility_s=30), make_delivery(visibility_s=30)
    in_flight.add([kept, gone])
    sqs.change_message_visibility_batch.side_effect = lambda **_: {
        "Successful": [{"Id": "0"}],
        "Failed": [{"Id": "1", "SenderFault": True, "Code": "ReceiptHandleIsInvalid"}],
    }

    heartbeat.beat()

    assert (kept.lost, gone.lost) == (False, True)


def test_an_extension_that_sqs_fails_to_make_is_tried_again_and_loses_no_message(
    heartbeat: Heartbeat, in_flight: InFlight, sqs: Any, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery(visibility_s=30)
    in_flight.add([delivery])
    sqs.change_message_visibility_batch.side_effect = [
        {"Failed": [{"Id": "0", "SenderFault": False, "Code": "InternalError"}]},
        EndpointConnectionError(endpoint_url="https://sqs"),
        {"Successful": [{"Id": "0"}]},
    ]

    for _ in range(3):
        heartbeat.beat()

    assert extended(sqs) == [delivery.receipt_handle] * 3
    assert delivery.is_ours(delivery.received + 55)
