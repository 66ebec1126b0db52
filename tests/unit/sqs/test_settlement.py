from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from graphnode.sqs import settlement
from graphnode.sqs.deliveries import InFlight
from graphnode.sqs.settlement import Settlement
from graphnode.sqs.verdicts import Abandon, Ack, DeadLetter, Nack, Retry
from tests.unit.conftest import MakeDelivery


class Queues:
    """SQS as a settlement sees it: keeps what was deleted, given back and sent. A test can make its calls fail."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.visibility: dict[str, int] = {}
        self.letters: list[tuple[str, Any]] = []
        self.calls: list[str] = []
        self.delete_failures: list[Callable[[list[Any]], dict[str, Any]]] = []
        self.letters_fail = False
        self.lock = threading.Lock()

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[Any]) -> dict[str, Any]:  # noqa: N803
        with self.lock:
            self.calls.append(f"delete {len(Entries)}")
            if self.delete_failures:
                return self.delete_failures.pop(0)(Entries)
            self.deleted += [entry["ReceiptHandle"] for entry in Entries]
            return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[Any]) -> dict[str, Any]:  # noqa: N803
        with self.lock:
            self.calls.append(f"visibility {len(Entries)}")
            self.visibility |= {entry["ReceiptHandle"]: entry["VisibilityTimeout"] for entry in Entries}
            return {}

    def send_message(self, *, QueueUrl: str, MessageBody: str, MessageAttributes: Any) -> dict[str, Any]:  # noqa: N803
        with self.lock:
            self.calls.append("letter")
            if self.letters_fail:
                raise EndpointConnectionError(endpoint_url=QueueUrl)
            self.letters.append((MessageBody, MessageAttributes))
            return {}


@pytest.fixture
def sqs() -> Queues:
    return Queues()


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight(threads=8)


@pytest.fixture
def settle(sqs: Any, in_flight: InFlight, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settlement]:
    monkeypatch.setattr(settlement, "RETRY_S", 0.01)
    made = Settlement(
        sqs,
        queue_url="https://sqs/results",
        dead_letter_url="https://sqs/results-dlq",
        in_flight=in_flight,
        letter=lambda _delivery, dead: {"reason": {"DataType": "String", "StringValue": dead.reason}},
    )
    yield made
    made.close()


def test_ten_messages_are_deleted_by_one_call(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    deliveries = [make_delivery() for _ in range(10)]
    in_flight.add(deliveries)

    for delivery in deliveries:
        settle.settle(delivery, Ack())
    settle.close()

    assert sqs.calls == ["delete 10"]
    assert sorted(sqs.deleted) == sorted(delivery.receipt_handle for delivery in deliveries)
    assert len(in_flight) == 0


def test_closing_settles_the_waiting_verdicts(settle: Settlement, sqs: Queues, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()

    settle.settle(delivery, Ack())
    settle.close()

    assert sqs.deleted == [delivery.receipt_handle]


def test_a_retry_sets_its_back_off_and_a_nack_sets_zero(
    settle: Settlement, sqs: Queues, make_delivery: MakeDelivery
) -> None:
    failed, released = make_delivery(), make_delivery()

    settle.settle(failed, Retry(40))
    settle.settle(released, Nack())
    settle.close()

    assert sqs.visibility == {failed.receipt_handle: 40, released.receipt_handle: 0}
    assert sqs.deleted == []


def test_a_back_off_waits_for_the_extension_in_progress(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()
    delivery.extending = True
    settle.settle(delivery, Retry(40))
    closing = threading.Thread(target=settle.close)
    closing.start()
    closing.join(0.5)
    assert sqs.visibility == {}

    with in_flight.changed:
        delivery.extending = False
        in_flight.changed.notify_all()
    closing.join(20)

    assert sqs.visibility == {delivery.receipt_handle: 40}


def test_a_dead_letter_is_sent_byte_for_byte_before_the_original_is_deleted(
    settle: Settlement, sqs: Queues, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery(body='{"taskType":  "X" }\n')

    settle.settle(delivery, DeadLetter("UNKNOWN_TASK_TYPE", "no actor", 1))
    settle.close()

    assert sqs.calls == ["letter", "delete 1"]
    assert sqs.letters == [
        ('{"taskType":  "X" }\n', {"reason": {"DataType": "String", "StringValue": "UNKNOWN_TASK_TYPE"}})
    ]


def test_a_message_whose_dead_letter_cannot_be_sent_is_not_deleted(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()
    in_flight.add([delivery])
    sqs.letters_fail = True

    settle.settle(delivery, DeadLetter("INVALID_DOCUMENT", "…", 1))
    settle.close()

    assert sqs.deleted == []
    assert delivery not in in_flight


def test_only_failed_deletions_are_tried_again(settle: Settlement, sqs: Queues, make_delivery: MakeDelivery) -> None:
    first, second = make_delivery(), make_delivery()
    sqs.delete_failures = [
        lambda entries: {
            "Successful": [{"Id": entries[0]["Id"]}],
            "Failed": [{"Id": entries[1]["Id"], "Code": "InternalError", "SenderFault": False}],
        }
    ]

    settle.settle(first, Ack())
    settle.settle(second, Ack())
    settle.close()

    assert sqs.calls == ["delete 2", "delete 1"]
    assert len(sqs.deleted) == 1


def test_a_deletion_with_an_invalid_receipt_handle_is_not_tried_again(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()
    in_flight.add([delivery])
    sqs.delete_failures = [
        lambda entries: {"Failed": [{"Id": entries[0]["Id"], "Code": "ReceiptHandleIsInvalid", "SenderFault": True}]}
    ]

    settle.settle(delivery, Ack())
    settle.close()

    assert sqs.calls == ["delete 1"]
    assert len(in_flight) == 0


def test_a_failing_deletion_is_tried_only_while_the_visibility_lasts(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery(visibility_s=0)
    in_flight.add([delivery])

    def refuse(entries: list[Any]) -> dict[str, Any]:
        raise EndpointConnectionError(endpoint_url="https://sqs")

    sqs.delete_failures = [refuse]

    settle.settle(delivery, Ack())
    settle.close()

    assert sqs.calls == ["delete 1"]
    assert len(in_flight) == 0


def test_an_abandoned_message_is_left_alone(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()
    in_flight.add([delivery])

    settle.settle(delivery, Abandon())
    settle.close()

    assert sqs.calls == []
    assert len(in_flight) == 0
