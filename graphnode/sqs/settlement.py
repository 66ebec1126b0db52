"""Settles messages by their verdicts: deletions, back-offs and dead letters, in batches.

A verdict waits here for up to 200 ms, so that one call settles up to ten messages. Worker threads do not wait for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import structlog

from graphnode.errors import log_text
from graphnode.sqs.deliveries import Delivery, InFlight, State
from graphnode.sqs.queues import BATCH_ENTRIES
from graphnode.sqs.verdicts import Abandon, Ack, DeadLetter, Nack, Retry, Verdict
from graphnode.steps import count_event, step

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

#: Seconds that a verdict waits for others, to share a call with them.
GATHER_S = 0.2

#: Threads that settle. Their calls overlap, so that a slow answer of SQS does not delay the next batch.
THREADS = 2

#: Seconds between two tries of a failed deletion.
RETRY_S = 1.0

#: The most tries of a deletion during a stop: a stop does not wait for SQS to recover.
CLOSING_TRIES = 3

log = structlog.get_logger("graphnode.settlement")


class Unsettled(NamedTuple):
    """A message whose verdict SQS does not know yet.

    Parameters:
      since: when it began to wait; of a failed deletion, when the next try is due.
      tries: how often its deletion failed.
    """

    delivery: Delivery
    verdict: Verdict
    since: float
    tries: int = 0


class Failure(NamedTuple):
    """Why an entry of a batch failed. `final`: another try cannot help."""

    code: str
    final: bool


class Settlement:
    """Settles the messages of one queue.

    Parameters:
      client: an SQS client.
      queue_url: the queue.
      dead_letter_url: its dead-letter queue.
      in_flight: keeps messages alive until SQS has confirmed.
      letter: makes a dead letter's message attributes.
    """

    def __init__(
        self,
        client: SQSClient,
        *,
        queue_url: str,
        dead_letter_url: str,
        in_flight: InFlight,
        letter: Callable[[Delivery, DeadLetter], dict[str, MessageAttributeValueTypeDef]],
    ) -> None:
        self.client = client
        self.queue_url = queue_url
        self.dead_letter_url = dead_letter_url
        self.in_flight = in_flight
        self.letter = letter
        self._waiting: deque[Unsettled] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._closed = False
        queue_name = queue_url.rpartition("/")[2]
        self._threads = [
            threading.Thread(target=self._run, name=f"settlement-{queue_name}-{index}", daemon=True)
            for index in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def settle(self, delivery: Delivery, verdict: Verdict) -> None:
        """Accept a message's verdict. It is sent soon."""
        if isinstance(verdict, Abandon):
            self.in_flight.remove(delivery)
            return
        # What goes back is no longer kept alive. What is to be deleted is kept alive until it is deleted.
        self.in_flight.move(delivery, State.SETTLING if isinstance(verdict, Retry | Nack) else State.DELETING)
        unsettled = Unsettled(delivery, verdict, time.monotonic())
        with self._changed:
            if not self._closed:
                self._waiting.append(unsettled)
                self._changed.notify()
                return
        # A poll that the stop did not wait for brings its messages late.
        self._send([unsettled])

    def close(self) -> None:
        """Send all waiting verdicts, and return when they are sent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        with self._changed:
            self._closed = True
            late = list(self._waiting)
            self._waiting.clear()
        if late:
            self._send(late)

    def _run(self) -> None:
        while batch := self._gather():
            self._send(batch)

    def _send(self, batch: Sequence[Unsettled]) -> None:
        visibilities = [entry for entry in batch if isinstance(entry.verdict, Retry | Nack)]
        dead = [entry for entry in batch if isinstance(entry.verdict, DeadLetter)]
        done = [entry for entry in batch if isinstance(entry.verdict, Ack)]
        if visibilities:
            self._change_visibility(visibilities)
        done += [entry for entry in dead if self._send_letter(entry)]
        if done:
            self._delete(done)

    def _gather(self) -> list[Unsettled]:
        """The next batch: ten verdicts, or fewer when the oldest is 200 ms old. Empty at the end."""
        with self._changed:
            while True:
                now = time.monotonic()
                due = [entry for entry in self._waiting if self._closing or entry.since <= now]
                if self._closing or len(due) >= BATCH_ENTRIES or (due and min(due, key=_since).since + GATHER_S <= now):
                    batch = due[:BATCH_ENTRIES]
                    for entry in batch:
                        self._waiting.remove(entry)
                    return batch
                next_due = min((entry.since + GATHER_S for entry in self._waiting), default=None)
                self._changed.wait(None if next_due is None else max(0.0, next_due - now))

    def _change_visibility(self, entries: Sequence[Unsettled]) -> None:
        """Return messages to their queue, now or after a back-off. A failed one returns when its visibility ends."""
        with self.in_flight.changed:
            # An extension that is under way must not arrive after this call.
            while any(entry.delivery.extending for entry in entries):
                self.in_flight.changed.wait()
        failed: dict[str, str] = {}
        try:
            with step("give_back"):
                answer = self.client.change_message_visibility_batch(
                    QueueUrl=self.queue_url,
                    Entries=[
                        {
                            "Id": str(index),
                            "ReceiptHandle": entry.delivery.receipt_handle,
                            "VisibilityTimeout": entry.verdict.after_s if isinstance(entry.verdict, Retry) else 0,
                        }
                        for index, entry in enumerate(entries)
                    ],
                )
            failed = {failure["Id"]: failure["Code"] for failure in answer.get("Failed", [])}
        except Exception as error:
            failed = {str(index): log_text(error) for index in range(len(entries))}
        if failed:
            log.warning(
                "not given back in time: these messages return when their visibility ends",
                messages=[entries[int(key)].delivery.message_id for key in failed],
                code=next(iter(failed.values())),
            )
        for entry in entries:
            self.in_flight.remove(entry.delivery)

    def _send_letter(self, entry: Unsettled) -> bool:
        """Send a message to the dead-letter queue. False when SQS did not take it: then the message stays."""
        assert isinstance(entry.verdict, DeadLetter)  # noqa: S101
        try:
            with step("dead_letter"):
                self.client.send_message(
                    QueueUrl=self.dead_letter_url,
                    MessageBody=entry.delivery.body,
                    MessageAttributes=self.letter(entry.delivery, entry.verdict),
                )
        except Exception as error:
            log.error(
                "dead letter not sent: the message stays on its queue",
                message_id=entry.delivery.message_id,
                error=log_text(error),
            )
            self.in_flight.remove(entry.delivery)
            return False
        count_event("dead_letter", reason=entry.verdict.reason)
        return True

    def _delete(self, entries: Sequence[Unsettled]) -> None:
        """Delete messages. A failed deletion is tried again while the message's visibility lasts."""
        failures = self._try_to_delete({str(index): entry for index, entry in enumerate(entries)})
        for index, entry in enumerate(entries):
            failure = failures.get(str(index))
            if failure is None:
                self.in_flight.remove(entry.delivery)
                continue
            count_event("delete_failed")
            # It is no longer extended, so that the tries end.
            self.in_flight.move(entry.delivery, State.SETTLING)
            now, tries = time.monotonic(), entry.tries + 1
            if failure.final or not entry.delivery.is_ours(now) or (self._closing and tries >= CLOSING_TRIES):
                log.warning(
                    "message not deleted: it may be delivered again, and will change nothing",
                    message_id=entry.delivery.message_id,
                    code=failure.code,
                )
                self.in_flight.remove(entry.delivery)
            else:
                # A dead letter was sent already: only the deletion is left.
                again = Unsettled(entry.delivery, Ack(), now + RETRY_S, tries)
                with self._changed:
                    self._waiting.append(again)
                    self._changed.notify()

    def _try_to_delete(self, entries: dict[str, Unsettled]) -> dict[str, Failure]:
        """Delete in one call; the entries that failed."""
        try:
            with step("delete"):
                answer = self.client.delete_message_batch(
                    QueueUrl=self.queue_url,
                    Entries=[
                        {"Id": key, "ReceiptHandle": entry.delivery.receipt_handle} for key, entry in entries.items()
                    ],
                )
        except Exception as error:
            return dict.fromkeys(entries, Failure(type(error).__name__, final=False))
        return {
            failure["Id"]: Failure(failure["Code"], final=failure["SenderFault"])
            for failure in answer.get("Failed", [])
        }


def _since(entry: Unsettled) -> float:
    return entry.since
