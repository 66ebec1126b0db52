"""Telling SQS what became of its messages: deletions, back-offs and dead letters, in batches.

Verdicts fall on worker threads and wait here for up to 200 ms, so that one call settles up to ten messages while the
threads go on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import structlog

from graphnode.errors import log_text
from graphnode.sqs.deliveries import BATCH, Delivery, InHand, State
from graphnode.sqs.verdicts import Dead, Done, Forget, Release, Retry, Verdict
from graphnode.steps import note, step

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

#: Seconds that a verdict waits for others before they go out together.
GATHER_S = 0.2

#: Threads that settle; calls overlap, so that a queue 10 ms away is no brake.
THREADS = 2

#: Seconds between two tries of a deletion that failed.
RETRY_S = 1.0

#: Tries of a deletion that a closing settlement makes, at most: a stop does not wait for SQS to heal.
CLOSING_TRIES = 3

log = structlog.get_logger("graphnode.settlement")


class Settled(NamedTuple):
    """A message and its verdict, waiting to be sent.

    Parameters:
      since: when it began to wait; for one that is tried again, when that is due.
      tries: how often its deletion failed.
    """

    delivery: Delivery
    verdict: Verdict
    since: float
    tries: int = 0


class Failure(NamedTuple):
    """Why an entry of a batch failed; final when trying again cannot help."""

    code: str
    final: bool


class Settlement:
    """Settles the messages of one queue.

    Parameters:
      client: an SQS client.
      queue_url: the queue.
      dead_letter_url: its dead-letter queue.
      in_hand: where messages stay, and are kept alive, until SQS has confirmed.
      letter: gives a dead letter's message attributes.
    """

    def __init__(
        self,
        client: SQSClient,
        *,
        queue_url: str,
        dead_letter_url: str,
        in_hand: InHand,
        letter: Callable[[Delivery, Dead], dict[str, MessageAttributeValueTypeDef]],
    ) -> None:
        self.client = client
        self.queue_url = queue_url
        self.dead_letter_url = dead_letter_url
        self.in_hand = in_hand
        self.letter = letter
        self._waiting: deque[Settled] = deque()
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
        """Take a message's verdict; it is sent soon."""
        if isinstance(verdict, Forget):
            self.in_hand.remove(delivery)
            return
        # What goes back is no longer kept alive; what is to be deleted is, until it is deleted.
        self.in_hand.move(delivery, State.SETTLING if isinstance(verdict, Retry | Release) else State.DELETING)
        settled = Settled(delivery, verdict, time.monotonic())
        with self._changed:
            if not self._closed:
                self._waiting.append(settled)
                self._changed.notify()
                return
        # A poll that was left behind brings its messages late.
        self._send([settled])

    def close(self) -> None:
        """Send everything that waits, and return when it is sent."""
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

    def _send(self, batch: Sequence[Settled]) -> None:
        visibilities = [entry for entry in batch if isinstance(entry.verdict, Retry | Release)]
        dead = [entry for entry in batch if isinstance(entry.verdict, Dead)]
        done = [entry for entry in batch if isinstance(entry.verdict, Done)]
        if visibilities:
            self._change_visibility(visibilities)
        done += [entry for entry in dead if self._send_letter(entry)]
        if done:
            self._delete(done)

    def _gather(self) -> list[Settled]:
        """Wait for ten verdicts, or for the oldest to be 200 ms old; nothing once closing and empty."""
        with self._changed:
            while True:
                now = time.monotonic()
                due = [entry for entry in self._waiting if self._closing or entry.since <= now]
                if self._closing or len(due) >= BATCH or (due and min(due, key=_since).since + GATHER_S <= now):
                    batch = due[:BATCH]
                    for entry in batch:
                        self._waiting.remove(entry)
                    return batch
                next_due = min((entry.since + GATHER_S for entry in self._waiting), default=None)
                self._changed.wait(None if next_due is None else max(0.0, next_due - now))

    def _change_visibility(self, entries: Sequence[Settled]) -> None:
        """Give messages back, now or after their back-off. What fails comes back by itself when its visibility ends."""
        with self.in_hand.changed:
            # An extension that is under way must not arrive after this.
            while any(entry.delivery.extending for entry in entries):
                self.in_hand.changed.wait()
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
            self.in_hand.remove(entry.delivery)

    def _send_letter(self, entry: Settled) -> bool:
        """Put a message on the dead-letter queue: True when SQS has it. Otherwise the message stays."""
        assert isinstance(entry.verdict, Dead)  # noqa: S101
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
            self.in_hand.remove(entry.delivery)
            return False
        note("dead_letter", reason=entry.verdict.reason)
        return True

    def _delete(self, entries: Sequence[Settled]) -> None:
        """Delete messages. Those that SQS failed to delete wait for another try, while their visibility lasts."""
        failures = self._try_to_delete({str(index): entry for index, entry in enumerate(entries)})
        for index, entry in enumerate(entries):
            failure = failures.get(str(index))
            if failure is None:
                self.in_hand.remove(entry.delivery)
                continue
            note("delete_failed")
            # No longer extended, so that the tries end.
            self.in_hand.move(entry.delivery, State.SETTLING)
            now, tries = time.monotonic(), entry.tries + 1
            if failure.final or not entry.delivery.is_ours(now) or (self._closing and tries >= CLOSING_TRIES):
                log.warning(
                    "message not deleted: it may be delivered again, and will change nothing",
                    message_id=entry.delivery.message_id,
                    code=failure.code,
                )
                self.in_hand.remove(entry.delivery)
            else:
                # What became a dead letter has its letter: only the deletion is left.
                again = Settled(entry.delivery, Done(), now + RETRY_S, tries)
                with self._changed:
                    self._waiting.append(again)
                    self._changed.notify()

    def _try_to_delete(self, entries: dict[str, Settled]) -> dict[str, Failure]:
        """The entries that failed."""
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


def _since(entry: Settled) -> float:
    return entry.since
