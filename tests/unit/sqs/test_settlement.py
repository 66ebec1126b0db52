from __future__ import annotations

import threading
import time
from typing import Any

from botocore.exceptions import EndpointConnectionError

from graphnode.sqs.deliveries import InFlight
from graphnode.sqs.settlement import Settlement
from graphnode.sqs.verdicts import Abandon, Ack, Discard, Nack, Retry
from tests.unit.conftest import MakeDelivery
from tests.unit.sqs.conftest import Queues, wait_until


def test_ten_messages_are_deleted_by_one_call(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    deliveries = [make_delivery() for _ in range(10)]
    for delivery in deliveries:
        in_flight.add(delivery)

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


def test_a_retry_sets_its_back_off_and_a_nack_its_wait(
    settle: Settlement, sqs: Queues, make_delivery: MakeDelivery
) -> None:
    failed, released, deferred = make_delivery(), make_delivery(), make_delivery()

    settle.settle(failed, Retry(40))
    settle.settle(released, Nack())
    settle.settle(deferred, Nack(70))
    settle.close()

    assert sqs.visibility == [(failed.receipt_handle, 40), (released.receipt_handle, 0), (deferred.receipt_handle, 70)]
    assert sqs.deleted == []


def test_a_back_off_follows_the_extension_that_is_under_way(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery(visibility_s=30)
    sqs.go_on.clear()
    in_flight.add(delivery)
    wait_until(lambda: sqs.calls == ["visibility 1"])

    settle.settle(delivery, Retry(40))
    closing = threading.Thread(target=settle.close)
    closing.start()
    closing.join(0.5)
    assert sqs.calls == ["visibility 1"]
    sqs.go_on.set()
    closing.join(20)

    assert sqs.visibility == [(delivery.receipt_handle, 60), (delivery.receipt_handle, 40)]


def test_messages_are_extended_in_batches_of_ten(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    deliveries = [make_delivery(visibility_s=30) for _ in range(12)]
    sqs.go_on.clear()
    for delivery in deliveries:
        in_flight.add(delivery)
    sqs.go_on.set()

    wait_until(lambda: all(each.is_ours(each.received + 55) for each in deliveries))
    assert len(sqs.visibility) == 12
    assert all(hidden_s == 60 for _, hidden_s in sqs.visibility)


def test_a_message_whose_extension_sqs_refuses_is_lost_and_never_starts(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    waiting, running = make_delivery(), make_delivery()
    in_flight.add(running)
    assert in_flight.take("https://sqs/results", timeout_s=0) is running
    in_flight.add(waiting)

    def refuse(entries: list[Any]) -> dict[str, Any]:
        return {
            "Failed": [{"Id": entry["Id"], "Code": "ReceiptHandleIsInvalid", "SenderFault": True} for entry in entries]
        }

    # They may be due at different looks.
    sqs.failures = [refuse, refuse]
    waiting.invisible_until = running.invisible_until = time.monotonic() + 30

    wait_until(lambda: running.lost and waiting not in in_flight)

    assert waiting.lost
    assert running in in_flight


def test_an_extension_that_sqs_fails_to_make_is_tried_again_and_loses_no_message(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery(visibility_s=30)

    def refuse(_entries: list[Any]) -> dict[str, Any]:
        raise EndpointConnectionError(endpoint_url="https://sqs")

    sqs.failures = [lambda _: {"Failed": [{"Id": "0", "SenderFault": False, "Code": "InternalError"}]}, refuse]
    in_flight.add(delivery)

    wait_until(lambda: delivery.is_ours(delivery.received + 55))
    assert sqs.calls == ["visibility 1"] * 3


def test_only_failed_deletions_are_tried_again(settle: Settlement, sqs: Queues, make_delivery: MakeDelivery) -> None:
    first, second = make_delivery(), make_delivery()
    sqs.failures = [
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
    in_flight.add(delivery)
    sqs.failures = [
        lambda entries: {"Failed": [{"Id": entries[0]["Id"], "Code": "ReceiptHandleIsInvalid", "SenderFault": True}]}
    ]

    settle.settle(delivery, Ack())
    settle.close()

    assert sqs.calls == ["delete 1"]
    assert len(in_flight) == 0


def test_a_failing_deletion_is_tried_only_while_the_visibility_lasts(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()
    delivery.lost = True
    in_flight.add(delivery)

    def refuse(entries: list[Any]) -> dict[str, Any]:
        raise EndpointConnectionError(endpoint_url="https://sqs")

    sqs.failures = [refuse]

    settle.settle(delivery, Ack())
    settle.close()

    assert sqs.calls == ["delete 1"]
    assert len(in_flight) == 0


def test_a_verdict_does_not_wait_for_another_ones_slow_call(
    settle: Settlement, sqs: Queues, make_delivery: MakeDelivery
) -> None:
    slow, quick = make_delivery(), make_delivery()
    sqs.go_on.clear()
    settle.settle(slow, Retry(40))
    wait_until(lambda: sqs.calls == ["visibility 1"])

    settle.settle(quick, Ack())

    wait_until(lambda: sqs.deleted == [quick.receipt_handle])
    assert sqs.visibility == []


def test_a_second_verdict_changes_nothing_unless_the_message_was_handled(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()
    in_flight.add(delivery)

    settle.settle(delivery, Nack())
    settle.settle(delivery, Retry(40))
    settle.settle(delivery, Ack())
    settle.close()

    assert sorted(sqs.calls) == ["delete 1", "visibility 1"]


def test_a_discarded_message_is_deleted(settle: Settlement, sqs: Queues, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()

    settle.settle(delivery, Discard(90))
    settle.close()

    assert sqs.deleted == [delivery.receipt_handle]
    assert sqs.visibility == []


def test_a_discarded_message_that_is_not_deleted_goes_back_without_another_try(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()
    in_flight.add(delivery)
    sqs.failures = [lambda _: {"Failed": [{"Id": "0", "Code": "AccessDenied", "SenderFault": False}]}]

    settle.settle(delivery, Discard(90))

    wait_until(lambda: delivery not in in_flight)
    assert sqs.calls == ["delete 1", "visibility 1"]
    assert sqs.visibility == [(delivery.receipt_handle, 90)]


def test_an_abandoned_message_is_left_alone(
    settle: Settlement, sqs: Queues, in_flight: InFlight, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()
    in_flight.add(delivery)

    settle.settle(delivery, Abandon())
    settle.close()

    assert sqs.calls == []
    assert len(in_flight) == 0
