"""The one sender of a queue: tells SQS what becomes of its messages in flight, in batches.

Extensions, back-offs and deletions all leave from here. A message is in one call at a time, so a back-off
and an extension cannot overtake each other. A verdict waits for up to 200 ms, so that one call settles up to ten
messages. Worker threads do not wait for it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from graphnode.errors import log_text
from graphnode.sqs import heartbeat
from graphnode.sqs.deliveries import UNSTARTED, Delivery, InFlight, State
from graphnode.sqs.liveness import report_alive, report_end
from graphnode.sqs.queues import BATCH_ENTRIES
from graphnode.sqs.verdicts import Abandon, Ack, Discard, Nack, Retry, Verdict
from graphnode.steps import count_event, step

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: Seconds that a verdict waits for others, to share a call with them.
GATHER_S = 0.2

#: Threads that send. Their calls overlap, so that a slow answer of SQS does not delay the next batch.
THREADS = 2

#: Seconds between two tries of a failed deletion.
RETRY_S = 1.0

#: The most tries of a deletion during a stop: a stop does not wait for SQS to recover.
CLOSING_TRIES = 3

#: Seconds after which a thread counts as stuck: many times what a call of SQS takes.
STUCK_AFTER_S = 60.0

log = structlog.get_logger("graphnode.settlement")


@dataclass(frozen=True)
class Extend:
    """Hide the message from other workers for longer."""


@dataclass(frozen=True, eq=False)
class Unsettled:
    """A message that SQS has to be told about.

    Parameters:
      since: when it began to wait; of a failed deletion, when the next try is due.
      tries: how often its deletion failed.
    """

    delivery: Delivery
    verdict: Verdict | Extend
    since: float
    tries: int = 0


class Failure(NamedTuple):
    """Why an entry of a batch failed. `final`: another try cannot help."""

    code: str
    final: bool


class Settlement:
    """Keeps the messages of one queue alive, and settles them.

    A message whose extension SQS refuses is lost: another worker has it. A failed extension is tried again at the next
    look, a failed deletion while the message's visibility lasts.

    Parameters:
      client: an SQS client.
      queue_url: the queue.
      in_flight: the messages.
      visibility_s: seconds of visibility that an extension gives.
    """

    def __init__(
        self,
        client: SQSClient,
        *,
        queue_url: str,
        in_flight: InFlight,
        visibility_s: int,
    ) -> None:
        self.client = client
        self.queue_url = queue_url
        self.in_flight = in_flight
        self.visibility_s = visibility_s
        self._waiting: list[Unsettled] = []
        self._in_calls: set[Delivery] = set()
        self._due: list[Delivery] = []
        self._next_look = time.monotonic() + visibility_s / heartbeat.BEATS
        self._wakes_at = self._next_look
        self._extensions_fail = False
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
        if delivery.state in (State.SETTLING, State.DELETING) and not isinstance(verdict, Ack):
            # It has a verdict. Only a deletion can still help.
            return
        # What goes back is no longer kept alive. What is to be deleted is kept alive until it is deleted.
        self.in_flight.leave(delivery, State.SETTLING if isinstance(verdict, Retry | Nack) else State.DELETING)
        self._add(Unsettled(delivery, verdict, time.monotonic()))

    def close(self) -> None:
        """Send all waiting verdicts, and return when they are sent. Nothing is kept alive after that."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        with self._changed:
            self._closed = True
            late, self._waiting = self._waiting, []
        for unsettled in late:
            self._send([unsettled])

    def _add(self, unsettled: Unsettled) -> None:
        with self._changed:
            if not self._closed:
                self._waiting.append(unsettled)
                # Waking a thread for each message would cost more than the rest of its settlement.
                if unsettled.since + GATHER_S < self._wakes_at or len(self._waiting) % BATCH_ENTRIES == 0:
                    self._changed.notify()
                return
        # A poll that the stop did not wait for brings its messages late.
        self._send([unsettled])

    def _run(self) -> None:
        while batch := self._gather():
            try:
                self._send(batch)
            except Exception as error:
                log.error("fault in the settlement: these messages return with their visibility", exc_info=error)
                for unsettled in batch:
                    self.in_flight.remove(unsettled.delivery)
            finally:
                with self._changed:
                    self._in_calls.difference_update(unsettled.delivery for unsettled in batch)
                    self._changed.notify()
        report_end()

    def _gather(self) -> list[Unsettled]:
        """The next batch for one call: ten messages, or fewer when the oldest is 200 ms old. Empty at the end."""
        with self._changed:
            while True:
                now = time.monotonic()
                report_alive(within_s=self.visibility_s / heartbeat.BEATS + STUCK_AFTER_S)
                batch = self._extensions(now) or self._verdicts(now)
                if batch or (self._closing and not self._waiting):
                    self._in_calls.update(unsettled.delivery for unsettled in batch)
                    # The other thread waits for what comes meanwhile.
                    self._wakes_at = math.inf
                    if self._waiting or self._due:
                        self._changed.notify()
                    return batch
                self._wakes_at = self._next_wake(now)
                self._changed.wait(max(0.0, self._wakes_at - now))

    def _extensions(self, now: float) -> list[Unsettled]:
        """Messages to extend. Each look finds those that are due, and takes them one batch after the other."""
        if now >= self._next_look:
            mine = self.in_flight.snapshot(self.queue_url)
            self._due = heartbeat.due(mine, now=now, visibility_s=self.visibility_s)
            self._next_look = now + self.visibility_s / heartbeat.BEATS
        batch = [each for each in self._due[:BATCH_ENTRIES] if each in self.in_flight and each not in self._in_calls]
        del self._due[:BATCH_ENTRIES]
        return [Unsettled(each, Extend(), now) for each in batch if each.state is not State.SETTLING]

    def _verdicts(self, now: float) -> list[Unsettled]:
        """Waiting verdicts of one kind, if enough wait or one has waited for long enough."""
        batch: list[Unsettled] = []
        if not self._closing and len(self._waiting) < BATCH_ENTRIES and now < self._next_wake(now):
            return batch
        free = [each for each in self._waiting if self._closing or each.since <= now]
        free = [each for each in free if each.delivery not in self._in_calls]
        for kinds in (Ack, Retry | Nack):
            alike = [each for each in free if isinstance(each.verdict, kinds)]
            is_due = self._closing or len(alike) >= BATCH_ENTRIES or any(each.since + GATHER_S <= now for each in alike)
            if alike and is_due and (not batch or alike[0].since < batch[0].since):
                batch = alike[:BATCH_ENTRIES]
        for each in batch:
            self._waiting.remove(each)
        return batch

    def _next_wake(self, now: float) -> float:
        """When there may be something to send again, if nothing changes."""
        if self._due:
            return now
        if self._closing:
            return now + GATHER_S
        free = [each.since + GATHER_S for each in self._waiting if each.delivery not in self._in_calls]
        return min([self._next_look, *free])

    def _send(self, batch: Sequence[Unsettled]) -> None:
        """Send messages of one kind."""
        match batch[0].verdict:
            case Extend():
                self._extend([unsettled.delivery for unsettled in batch])
            case Ack():
                self._delete(batch)
            case _:
                self._give_back(batch)

    def _extend(self, deliveries: Sequence[Delivery]) -> None:
        now = time.monotonic()
        seconds = [heartbeat.extension(each, now=now, visibility_s=self.visibility_s) for each in deliveries]
        try:
            with step("extend"):
                failed = self._change_visibility(deliveries, seconds)
        except Exception as error:
            count_event("extension_failed", len(deliveries))
            if not self._extensions_fail:
                log.warning("visibility not extended, trying again", error=log_text(error), messages=len(deliveries))
            self._extensions_fail = True
            return
        self._extensions_fail = False
        count_event("extended", len(deliveries) - len(failed))
        for delivery, given_s in zip(deliveries, seconds, strict=True):
            failure = failed.get(delivery)
            if failure is None:
                delivery.invisible_until = now + given_s
            elif failure.final and delivery in self.in_flight and delivery.state is not State.SETTLING:
                self._lose(delivery, failure.code)

    def _lose(self, delivery: Delivery, code: str) -> None:
        """A message is someone else's. If it runs, it goes on; if not, it never starts."""
        delivery.lost = True
        count_event("lost")
        log.warning(
            "message lost: its visibility ran out and it is someone else's now",
            message_id=delivery.sqs_id,
            state=delivery.state.name.lower(),
            code=code,
        )
        if delivery.state in UNSTARTED:
            self.in_flight.remove(delivery)

    def _give_back(self, batch: Sequence[Unsettled]) -> None:
        """Return messages to their queue, now or later. A failed one returns when its visibility ends."""
        deliveries = [unsettled.delivery for unsettled in batch]
        seconds = [unsettled.verdict.after_s for unsettled in batch if isinstance(unsettled.verdict, Retry | Nack)]
        try:
            with step("give_back"):
                codes = {each: failure.code for each, failure in self._change_visibility(deliveries, seconds).items()}
        except Exception as error:
            codes = dict.fromkeys(deliveries, log_text(error))
        if codes:
            log.warning(
                "not given back in time: these messages return when their visibility ends",
                messages=[delivery.sqs_id for delivery in codes],
                code=next(iter(codes.values())),
            )
        for delivery in deliveries:
            self.in_flight.remove(delivery)

    def _change_visibility(self, deliveries: Sequence[Delivery], seconds: Sequence[int]) -> dict[Delivery, Failure]:
        """Set how long each message stays hidden; those that SQS refuses. Raises botocore's errors."""
        answer = self.client.change_message_visibility_batch(
            QueueUrl=self.queue_url,
            Entries=[
                {"Id": str(index), "ReceiptHandle": delivery.receipt_handle, "VisibilityTimeout": hidden_s}
                for index, (delivery, hidden_s) in enumerate(zip(deliveries, seconds, strict=True))
            ],
        )
        return {
            # SQS's own fault may pass. A sender fault says that the receipt handle is invalid.
            deliveries[int(failure["Id"])]: Failure(failure["Code"], final=failure["SenderFault"])
            for failure in answer.get("Failed", [])
        }

    def _delete(self, batch: Sequence[Unsettled]) -> None:
        """Delete messages. A failed deletion is tried again while the message's visibility lasts."""
        failures = self._try_to_delete([unsettled.delivery for unsettled in batch])
        for unsettled in batch:
            delivery, failure = unsettled.delivery, failures.get(unsettled.delivery)
            if failure is None:
                self.in_flight.remove(delivery)
                continue
            count_event("delete_failed")
            # It is no longer extended, so that the tries end.
            self.in_flight.leave(delivery, State.SETTLING)
            now, tries = time.monotonic(), unsettled.tries + 1
            is_over = failure.final or not delivery.is_ours(now) or (self._closing and tries >= CLOSING_TRIES)
            if is_over or isinstance(unsettled.verdict, Discard):
                log.warning(
                    "message not deleted: it may be delivered again, and will change nothing",
                    message_id=delivery.sqs_id,
                    code=failure.code,
                )
            if is_over:
                self.in_flight.remove(delivery)
            elif isinstance(unsettled.verdict, Discard):
                self._add(Unsettled(delivery, Retry(unsettled.verdict.after_s), now))
            else:
                self._add(Unsettled(delivery, unsettled.verdict, now + RETRY_S, tries))

    def _try_to_delete(self, deliveries: Sequence[Delivery]) -> dict[Delivery, Failure]:
        """Delete in one call; those that failed."""
        try:
            with step("delete"):
                answer = self.client.delete_message_batch(
                    QueueUrl=self.queue_url,
                    Entries=[
                        {"Id": str(index), "ReceiptHandle": delivery.receipt_handle}
                        for index, delivery in enumerate(deliveries)
                    ],
                )
        except Exception as error:
            return dict.fromkeys(deliveries, Failure(type(error).__name__, final=False))
        return {
            deliveries[int(failure["Id"])]: Failure(failure["Code"], final=failure["SenderFault"])
            for failure in answer.get("Failed", [])
        }
