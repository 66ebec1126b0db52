"""Keeping messages in hand invisible to others: one heartbeat a process extends them all, waiting or running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from graphnode.errors import log_text
from graphnode.sqs.deliveries import BATCH, Delivery, InHand, State
from graphnode.sqs.liveness import beat, rest
from graphnode.steps import note, step

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import ChangeMessageVisibilityBatchRequestEntryTypeDef

#: A message is extended when this share of its visibility is gone: before half, so that one failed try is harmless.
EXTEND_AFTER = 0.4

#: The heartbeat beats this often in one visibility timeout.
BEATS = 10

#: Seconds for one call of SQS, many times over: a heartbeat that takes longer is stuck.
STUCK_AFTER_S = 60.0

#: SQS's ceiling: seconds that a message can stay invisible, counted from its receipt.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
LONGEST_INVISIBLE_S = 12 * 3600

log = structlog.get_logger("graphnode.heartbeat")


def due(deliveries: Iterable[Delivery], *, now: float, visibility_s: int) -> list[Delivery]:
    """Which messages to extend now: those whose visibility is running down and whose verdict has not fallen."""
    return [
        delivery
        for delivery in deliveries
        if delivery.state is not State.SETTLING
        and not delivery.lost
        and delivery.invisible_until - now <= visibility_s * (1 - EXTEND_AFTER)
        and extension(delivery, now=now, visibility_s=visibility_s) > delivery.invisible_until - now
    ]


def extension(delivery: Delivery, *, now: float, visibility_s: int) -> int:
    """Seconds from now that a message may be hidden for: the visibility, cut at SQS's ceiling from its receipt."""
    return max(0, min(visibility_s, int(delivery.received + LONGEST_INVISIBLE_S - now)))


class Heartbeat(threading.Thread):
    """Extends the visibility of everything in hand with ChangeMessageVisibilityBatch.

    An entry that SQS refuses is lost: the message is someone else's. A call that fails is tried again at the next beat.

    Parameters:
      client: an SQS client.
      in_hand: the messages.
      visibility_s: seconds, the visibility each extension gives from then on.
    """

    def __init__(self, client: SQSClient, in_hand: InHand, *, visibility_s: int) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.client = client
        self.in_hand = in_hand
        self.visibility_s = visibility_s
        self._stopped = threading.Event()
        self._failing = False

    def run(self) -> None:
        """Beat until stopped."""
        beat(within_s=self.longest_silence_s)
        while not self._stopped.wait(self.visibility_s / BEATS):
            try:
                self.beat()
            except Exception as error:
                log.error("heartbeat failed, trying again", error=log_text(error))
            beat(within_s=self.longest_silence_s)
        rest()

    @property
    def longest_silence_s(self) -> float:
        """Seconds in which a heartbeat that is not stuck gives a sign of life, even if SQS answers nothing."""
        return self.visibility_s / BEATS + STUCK_AFTER_S

    def stop(self) -> None:
        """Stop beating."""
        self._stopped.set()

    def beat(self) -> None:
        """Extend what is due."""
        candidates = due(self.in_hand.snapshot(), now=time.monotonic(), visibility_s=self.visibility_s)
        candidates.sort(key=lambda delivery: delivery.queue_url)
        for queue_url, group in groupby(candidates, key=lambda delivery: delivery.queue_url):
            deliveries = list(group)
            for start in range(0, len(deliveries), BATCH):
                beat(within_s=self.longest_silence_s)
                batch = self._claim(deliveries[start : start + BATCH])
                try:
                    self._extend(queue_url, batch)
                finally:
                    self._unclaim(batch)

    def _claim(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those still in hand and not on their way back; nobody sets another visibility before `_unclaim`."""
        with self.in_hand.changed:
            batch = [d for d in deliveries if d in self.in_hand and d.state is not State.SETTLING]
            for delivery in batch:
                delivery.extending = True
        return batch

    def _unclaim(self, deliveries: Sequence[Delivery]) -> None:
        with self.in_hand.changed:
            for delivery in deliveries:
                delivery.extending = False
            self.in_hand.changed.notify_all()

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
            note("extension_failed", len(entries))
            if not self._failing:
                log.warning("visibility not extended, trying again", error=log_text(error), messages=len(entries))
            self._failing = True
            return
        self._failing = False
        note("extended", len(answer.get("Successful", [])))
        for success in answer.get("Successful", []):
            waiting[success["Id"]].invisible_until = now + seconds[success["Id"]]
        for failure in answer.get("Failed", []):
            delivery = waiting[failure["Id"]]
            # A fault of SQS's own is tried again at the next beat; one of ours means that the receipt handle is gone.
            if failure["SenderFault"] and delivery in self.in_hand and delivery.state is not State.SETTLING:
                delivery.lost = True
                note("lost")
                log.warning(
                    "message lost: its visibility ran out and it is someone else's now",
                    message_id=delivery.message_id,
                    state=delivery.state.name.lower(),
                    code=failure["Code"],
                )
