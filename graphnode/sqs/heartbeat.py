"""Which messages in flight are to be hidden from other workers for longer, and for how long."""

from __future__ import annotations

from collections.abc import Iterable

from graphnode.sqs.deliveries import Delivery, State

#: A message is extended when this share of its visibility is gone. Before half, so that one failed try does no harm.
EXTEND_AFTER = 0.4

#: Looks for what is due, in one visibility timeout.
BEATS = 10

#: Seconds that a message can stay invisible, counted from its receipt (an SQS quota).
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
LONGEST_INVISIBLE_S = 12 * 3600


def due(deliveries: Iterable[Delivery], *, now: float, visibility_s: int) -> list[Delivery]:
    """The messages to extend now: their visibility runs down. Not those that are on their way back to the queue."""
    return [
        delivery
        for delivery in deliveries
        if delivery.state is not State.SETTLING
        and not delivery.lost
        and delivery.invisible_until - now <= visibility_s * (1 - EXTEND_AFTER)
        and extension(delivery, now=now, visibility_s=visibility_s) > delivery.invisible_until - now
    ]


def extension(delivery: Delivery, *, now: float, visibility_s: int) -> int:
    """Seconds for which a message may be hidden from now: the visibility, cut at SQS's quota."""
    return max(0, min(visibility_s, int(delivery.received + LONGEST_INVISIBLE_S - now)))
