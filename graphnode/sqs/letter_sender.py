"""Sends a queue's dead letters, and tells of each only once SQS has taken it.

It has a thread of its own: a dead-letter queue or a ledger that answers slowly delays neither extensions nor deletions.
The message is kept alive until its letter is taken, and deleted then. If SQS refuses the letter, nothing is told, and
the message goes back with a back-off.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypedDict

import dramatiq
import structlog
from dramatiq.middleware import SkipMessage

from graphnode.errors import log_text
from graphnode.sqs import dead_letter
from graphnode.sqs.deliveries import Delivery, InFlight, State
from graphnode.sqs.liveness import report_alive, report_end
from graphnode.sqs.queues import DeadLetterQueue, Queue
from graphnode.sqs.settlement import Settlement
from graphnode.sqs.verdicts import Ack, DeadLetter, Discard, Nack, Retry, RetryPolicy
from graphnode.steps import count_event, step
from graphnode.telemetry import error_reports
from graphnode.telemetry.stacks import chain_of, unexpected_stack

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

#: Seconds between two signs of life while no letter waits.
LOOK_S = 5.0

#: Seconds after which the thread counts as stuck: more than SQS and the ledger take for a letter at their slowest.
STUCK_AFTER_S = 120.0

#: Seconds of a stop in which letters are still sent. The messages of the others go back.
CLOSING_S = 5.0

log = structlog.get_logger("graphnode.letters")


class _Group(TypedDict, total=False):
    MessageGroupId: str


class LetterHooks(dramatiq.Middleware):
    """Middleware that takes part in the sending of dead letters. Its hooks run in the thread that sends them."""

    def before_dead_letter(self, message: Delivery) -> None:
        """Look at a message before its letter is sent. Raise SkipMessage if it has been sent: only delete the message.

        Parameters:
          message: it is undecoded if its body cannot be decoded.
        """

    def after_dead_letter(self, message: Delivery, dead: DeadLetter) -> None:
        """Note that SQS has taken a message's letter."""


class LetterSender:
    """Sends the dead letters of one queue, one after the other.

    Parameters:
      client: an SQS client.
      queue: the queue.
      dead_letters: its dead-letter queue.
      in_flight: the messages.
      settlement: deletes the messages, or gives them back.
      retry: says for how long the message of a refused letter goes back.
      hooks: what takes part, in this order.
    """

    def __init__(
        self,
        client: SQSClient,
        *,
        queue: Queue,
        dead_letters: DeadLetterQueue,
        in_flight: InFlight,
        settlement: Settlement,
        retry: RetryPolicy,
        hooks: Sequence[LetterHooks],
    ) -> None:
        self.client = client
        self.queue = queue
        self.dead_letters = dead_letters
        self.in_flight = in_flight
        self.settlement = settlement
        self.retry = retry
        self.hooks = hooks
        #: None: the end.
        self._waiting: SimpleQueue[Delivery | None] = SimpleQueue()
        self._closes_at = math.inf
        self._are_refused = False
        queue_name = queue.url.rpartition("/")[2]
        self._thread = threading.Thread(target=self._run, name=f"letters-{queue_name}", daemon=True)
        self._thread.start()

    def send(self, delivery: Delivery, dead: DeadLetter) -> None:
        """Accept a message's dead letter. It is sent soon."""
        if delivery.state in (State.GIVEN_UP, State.DELETING, State.SETTLING):
            # It has a verdict.
            return
        delivery.verdict = dead
        for error in chain_of(dead.cause):
            # The variables of its frames may hold whole documents, which must not wait here.
            traceback.clear_frames(error.__traceback__)
        self.in_flight.leave(delivery, State.GIVEN_UP)
        self._waiting.put(delivery)
        if not self._thread.is_alive():
            # A thread that the stop did not wait for brings its message late.
            self._give_back_waiting()

    def close(self) -> None:
        """Send the waiting letters, for CLOSING_S at most, and give the other messages back to the settlement."""
        self._closes_at = time.monotonic() + CLOSING_S
        self._waiting.put(None)
        self._thread.join()
        self._give_back_waiting()

    def _give_back_waiting(self) -> None:
        while True:
            try:
                delivery = self._waiting.get_nowait()
            except Empty:
                return
            if delivery is not None:
                self.settlement.settle(delivery, Nack())

    def _run(self) -> None:
        while (delivery := self._next()) is not None:
            try:
                self._handle(delivery)
            except Exception as error:
                log.error("fault around a dead letter", message_id=delivery.sqs_id, exc_info=error)
                if delivery.state is State.GIVEN_UP:
                    # It returns with its visibility.
                    self.in_flight.remove(delivery)
        report_end()

    def _next(self) -> Delivery | None:
        while True:
            report_alive(within_s=STUCK_AFTER_S)
            try:
                return self._waiting.get(timeout=LOOK_S)
            except Empty:
                continue

    def _handle(self, delivery: Delivery) -> None:
        """Send a message's letter and have the message deleted, or have it given back."""
        dead = delivery.verdict
        assert isinstance(dead, DeadLetter)  # noqa: S101
        if time.monotonic() > self._closes_at:
            self.settlement.settle(delivery, Nack())
            return
        try:
            for hook in self.hooks:
                hook.before_dead_letter(delivery)
        except SkipMessage:
            self.settlement.settle(delivery, Discard(self.retry.backoff_of_refused(delivery.receive_count)))
            return
        if not delivery.is_ours(time.monotonic()):
            # Another worker has it, and sends the letter.
            self.in_flight.remove(delivery)
            return
        try:
            with step("dead_letter"):
                self._put(delivery, dead)
        except Exception as error:
            self._note_refusal(delivery, error)
            self.settlement.settle(delivery, Retry(self.retry.backoff_of_refused(delivery.receive_count)))
            return
        try:
            self._tell(delivery, dead)
        finally:
            self.settlement.settle(delivery, Ack())

    def _put(self, delivery: Delivery, dead: DeadLetter) -> None:
        """Put a letter on the dead-letter queue. Raises botocore's errors."""
        group: _Group = {"MessageGroupId": delivery.group_id} if delivery.group_id else {}
        self.client.send_message(
            QueueUrl=self.dead_letters.url,
            MessageBody=delivery.body,
            MessageAttributes=self._attributes(delivery, dead),
            **group,
        )

    def _attributes(self, delivery: Delivery, dead: DeadLetter) -> dict[str, MessageAttributeValueTypeDef]:
        task_id, task_type = self.queue.ids_of_body(delivery.body)
        return dead_letter.attributes(
            delivery.body,
            reason=dead.reason,
            error=dead.error,
            attempt=dead.attempt,
            task_id=task_id,
            task_type=task_type,
            original_message_id=delivery.sqs_id,
            trace_id=delivery.trace_id,
            failed_at=datetime.now(UTC),
            worker=f"{socket.gethostname()}:{os.getpid()}",
            largest_bytes=self.dead_letters.largest_bytes,
        )

    def _tell(self, delivery: Delivery, dead: DeadLetter) -> None:
        """Log, report, count and record a letter that SQS has taken."""
        if self._are_refused:
            self._are_refused = False
            log.warning("dead letters are taken again", queue=self._queue_name)
        if delivery.is_decoded:
            fields, actor = delivery.log_fields, delivery.actor_name
        else:
            fields, actor = self.queue.task_of_body(delivery.body), delivery.queue_name
        log.error(
            "dead letter",
            **{**fields, "message_id": delivery.sqs_id},
            reason=dead.reason,
            error=dead.cause.log_text,
            **unexpected_stack(dead.cause),
        )
        error_reports.report_failure(dead.cause, actor=actor, attempt=dead.attempt, task=fields)
        count_event("dead_letter", reason=dead.reason)
        for hook in self.hooks:
            hook.after_dead_letter(delivery, dead)

    def _note_refusal(self, delivery: Delivery, error: Exception) -> None:
        """Log the first of the letters that SQS refuses, and count each."""
        count_event("letter_refused")
        if not self._are_refused:
            self._are_refused = True
            log.error(
                "dead letter not sent: the message stays on its queue",
                queue=self._queue_name,
                message_id=delivery.sqs_id,
                error=log_text(error),
                advice="graphnode doctor tries the dead-letter queue, and says what it lacks",
            )

    @property
    def _queue_name(self) -> str:
        return self.dead_letters.url.rpartition("/")[2]
