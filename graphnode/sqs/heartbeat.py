"""Keeps messages in flight invisible to other workers: one heartbeat a process extends them all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from graphnode.errors import log_text
from graphnode.sqs.deliveries import Delivery, InFlight, State
from graphnode.sqs.liveness import report_alive, report_end
from graphnode.sqs.queues import BATCH_ENTRIES
from graphnode.steps import count_event, step

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import ChangeMessageVisibilityBatchRequestEntryTypeDef

#: A message is extended when this share of its visibility is gone. Before half, so that one failed try does no harm.
EXTEND_AFTER = 0.4

#: Beats in one visibility timeout.
BEATS = 10

#: Seconds after which a beat counts as stuck: many times what a call of SQS takes.
STUCK_AFTER_S = 60.0

#: Seconds that a message can stay invisible, counted from its receipt (an SQS quota).
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
LONGEST_INVISIBLE_S = 12 * 3600

log = structlog.get_logger("graphnode.heartbeat")


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


class Heartbeat(threading.Thread):
    """Extends the visibility of all messages in flight with ChangeMessageVisibilityBatch.

    A message whose extension SQS refuses is lost: another worker has it. A failed call is tried again at the next beat.

    Parameters:
      client: an SQS client.
      in_flight: the messages.
      visibility_s: seconds of visibility that each extension gives.
    """

    def __init__(self, client: SQSClient, in_flight: InFlight, *, visibility_s: int) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.client = client
        self.in_flight = in_flight
        self.visibility_s = visibility_s
        self._stopped = threading.Event()
        self._failing = False

    def run(self) -> None:
        """Beat until stopped."""
        report_alive(within_s=self.longest_silence_s)
        while not self._stopped.wait(self.visibility_s / BEATS):
            try:
                self.beat()
            except Exception as error:
                log.error("heartbeat failed, trying again", error=log_text(error))
            report_alive(within_s=self.longest_silence_s)
        report_end()

    @property
    def longest_silence_s(self) -> float:
        """Seconds within which a working heartbeat gives a sign of life, even if SQS does not answer."""
        return self.visibility_s / BEATS + STUCK_AFTER_S

    def stop(self) -> None:
        """Stop beating."""
        self._stopped.set()

    def beat(self) -> None:
        """Extend what is due."""
        candidates = due(self.in_flight.snapshot(), now=time.monotonic(), visibility_s=self.visibility_s)
        candidates.sort(key=lambda delivery: delivery.queue_url)
        for queue_url, group in groupby(candidates, key=lambda delivery: delivery.queue_url):
            deliveries = list(group)
            for start in range(0, len(deliveries), BATCH_ENTRIES):
                report_alive(within_s=self.longest_silence_s)
                batch = self._claim(deliveries[start : start + BATCH_ENTRIES])
                try:
                    self._extend(queue_url, batch)
                finally:
                    self._unclaim(batch)

    def _claim(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those still in flight and not on their way back. Nobody else changes their visibility before `_unclaim`."""
        with self.in_flight.changed:
            batch = [d for d in deliveries if d in self.in_flight and d.state is not State.SETTLING]
            for delivery in batch:
                delivery.extending = True
        return batch

    def _unclaim(self, deliveries: Sequence[Delivery]) -> None:
        with self.in_flight.changed:
            for delivery in deliveries:
                delivery.extending = False
            self.in_flight.changed.notify_all()

    def _extend(self, queue_url: str, deliveries: Sequence[Delivery]) -> None:
        now = time.monotonic()
        waiting = {str(index): delivery for index, delivery in enumerate(deliveries)}
        seconds = {
            key: extension(delivery, now=now, visibility_s=self.visibility_s) for key, delivery in waiting.items()
        }
        entries: list[ChangeMessageVisibilityBatchRequestEntryTypeDef] = [
            {"Id": key, "ReceiptHandle": delivery.receipt_handle, "VisibilityTimeout": seconds[key]}
            for key, delivery in waiting.items()
        ]
        if not entries:
            return
        try:
            with step("extend"):
                answer = self.client.change_message_visibility_batch(QueueUrl=queue_url, Entries=entries)
        except (BotoCoreError, ClientError) as error:
            count_event("extension_failed", len(entries))
            if not self._failing:
                log.warning("visibility not extended, trying again", error=log_text(error), messages=len(entries))
            self._failing = True
            return
        self._failing = False
        count_event("extended", len(answer.get("Successful", [])))
        for success in answer.get("Successful", []):
            waiting[success["Id"]].invisible_until = now + seconds[success["Id"]]
        for failure in answer.get("Failed", []):
            delivery = waiting[failure["Id"]]
            # SQS's own fault is tried again at the next beat. A sender fault says that the receipt handle is invalid.
            if failure["SenderFault"] and delivery in self.in_flight and delivery.state is not State.SETTLING:
                delivery.lost = True
                count_event("lost")
                log.warning(
                    "message lost: its visibility ran out and it is someone else's now",
                    message_id=delivery.message_id,
                    state=delivery.state.name.lower(),
                    code=failure["Code"],
                )
