"""Feeds one queue's messages to Dramatiq's worker, and settles them."""

from __future__ import annotations

import os
import random
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import dramatiq
import structlog

from graphnode.errors import PermanentError, log_text, sorted_error
from graphnode.sqs import dead_letter, dramatiq_messages
from graphnode.sqs.deliveries import BATCH, Delivery, State, batch_to_ask_for
from graphnode.sqs.heartbeat import STUCK_AFTER_S
from graphnode.sqs.liveness import beat, rest
from graphnode.sqs.queues import Origin
from graphnode.sqs.settlement import Settlement
from graphnode.sqs.verdicts import Dead, Done, Forget, Hold, Release, Retry, Verdict
from graphnode.steps import note, step
from graphnode.telemetry import error_reports

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef, MessageTypeDef

    from graphnode.broker import SQSBroker


#: Seconds that a poll may take beyond its wait before it is given up.
POLL_MARGIN_S = 10


#: Pollers a queue. The second one polls only while the queue gives full batches.
POLLERS = 2


#: The longest that a waiting thread stays unaware of a stop, in seconds.
ATTENTION_S = 0.25


#: Seconds that the rest of a stop takes: the poll grace covers it.
TEARDOWN_S = 0.15


#: Back-off in seconds of a message for which no middleware gave a verdict: a fault in one must not delete it.
UNDECIDED_BACKOFF_S = 60


#: What may stand in a log line as a task's ID or type, of a body that is not what it should be.
NAME = re.compile(r"[\w.:-]{1,200}")


#: Seconds that polling may fail before it is an operator's business.
ALARM_S = 60.0

#: Seconds of back-off after a failed poll: the first, and the longest.
BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 30.0

log = structlog.get_logger("graphnode.broker")


class SQSConsumer(dramatiq.Consumer):
    """Feeds one queue's messages to Dramatiq's worker and settles them by their verdicts.

    Parameters:
      broker: the broker.
      queue_name: the Dramatiq queue.
      timeout_s: seconds that `next` waits for a message.
    """

    def __init__(self, broker: SQSBroker, queue_name: str, *, timeout_s: float) -> None:
        assert broker.heartbeat, "SQSBroker.connect() comes first"  # noqa: S101
        options = broker.options
        self.broker = broker
        self.queue_name = queue_name
        self.queue = options.queues[queue_name]
        self.timeout_s = timeout_s
        self.closed = False
        self._ready: SimpleQueue[Delivery] = SimpleQueue()
        self._held: deque[Delivery] = deque()
        self._asked = 0
        self._backlog = threading.Event()
        self._longest_silence_s = options.poll_wait_s + STUCK_AFTER_S
        # No retries: a poll that is given up may have been given messages, and another one would not bring them.
        self._client = broker.new_client(read_timeout_s=options.poll_wait_s + POLL_MARGIN_S, attempts=1)
        self._settlement = Settlement(
            broker.settling_client,
            queue_url=self.queue.url,
            dead_letter_url=broker.dead_letters(queue_name).url,
            in_hand=broker.in_hand,
            letter=self._letter,
        )
        self._pollers = [
            threading.Thread(target=self._poll, args=(index > 0,), name=f"poller-{queue_name}-{index}", daemon=True)
            for index in range(POLLERS)
        ]
        for poller in self._pollers:
            poller.start()

    def __next__(self) -> Delivery | None:
        """The next message, or None after the timeout or while an outage lasts."""
        if self.broker.outages.closed:
            self.broker.outages.wait_until_open(self.timeout_s)
            return None
        self._start_held()
        try:
            return self._ready.get(timeout=self.timeout_s)
        except Empty:
            return None

    def _start_held(self) -> None:
        """Start again, in their order, the held messages that nothing is in the way of, and those that are lost."""
        for _ in range(len(self._held)):
            try:
                delivery = self._held.popleft()
            except IndexError:
                return
            if delivery.lost or not isinstance(delivery.verdict, Hold) or delivery.verdict.until():
                delivery.verdict = None
                delivery.failed = False
                self.broker.in_hand.move(delivery, State.WAITING)
                self._ready.put(delivery)
            else:
                self._held.append(delivery)

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Settle a message by its verdict, which alone decides: without one it is not deleted."""
        assert isinstance(message, Delivery)  # noqa: S101
        verdict = message.verdict or Retry(UNDECIDED_BACKOFF_S)
        if isinstance(verdict, Hold) and self.broker.stopping:
            verdict = Release()
        if message.lost and not isinstance(verdict, Done | Hold):
            # Someone else has it by now: only its deletion can still do good.
            verdict = Forget()
        if isinstance(verdict, Hold):
            # A lost one as well: it is skipped when its start comes, and what the middleware keeps for it ends there.
            self.broker.in_hand.move(message, State.HELD)
            self._held.append(message)
        else:
            with step("acknowledge"):
                self._settlement.settle(message, verdict)
        if not self.broker.outages.closed:
            self._start_held()

    #: Dramatiq tells success from failure; the verdict tells more.
    nack = ack

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Give messages back unstarted, to be delivered again at once."""
        for message in messages:
            assert isinstance(message, Delivery)  # noqa: S101
            self._settlement.settle(message, Release())

    def release_unstarted(self) -> None:
        """Give back what waits here for a thread, or for the end of an outage."""
        for take in (self._held.popleft, self._ready.get_nowait):
            while True:
                try:
                    self.requeue([take()])
                except (IndexError, Empty):
                    break

    def close(self) -> None:
        """Wait for the poll in progress as long as the grace allows, give back what it brings, settle everything."""
        if self.closed:
            return
        self.closed = True
        grace_s = max(0.0, self.broker.options.poll_grace_s - TEARDOWN_S)
        deadline = min(self.broker.stop_began, time.monotonic()) + grace_s
        for poller in self._pollers:
            poller.join(max(0.0, deadline - time.monotonic()))
            if poller.is_alive():
                log.info("poll left behind: what SQS gave it returns with its visibility", queue=self.queue_name)
        self.release_unstarted()
        self._settlement.close()
        self.broker.consumers.remove(self)

    @property
    def _ending(self) -> bool:
        return self.closed or self.broker.stopping

    def _poll(self, extra: bool) -> None:
        failures = PollFailures(self.queue_name)
        while wanted := self._wait_for_room(extra=extra):
            try:
                messages = self._receive(wanted)
            except Exception as error:
                self._pause(failures.backoff_after(error))
                continue
            finally:
                self._give_room_back(wanted)
            failures.are_over()
            if len(messages) == BATCH:
                self._backlog.set()
            else:
                self._backlog.clear()
        rest()

    def _beat(self) -> None:
        """A poller goes on. It may take as long as a poll, and then the calls for what it brought."""
        beat(within_s=self._longest_silence_s)

    def _receive(self, wanted: int) -> list[MessageTypeDef]:
        """One long poll; what it brings is in the worker's reach."""
        with step("receive"):
            answer = self._client.receive_message(
                QueueUrl=self.queue.url,
                MaxNumberOfMessages=wanted,
                WaitTimeSeconds=self.broker.options.poll_wait_s,
                VisibilityTimeout=self.broker.options.visibility_s,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
                MessageAttributeNames=self.broker.options.message_attributes,
            )
            messages = answer.get("Messages", [])
            note("received", len(messages), queue=self.queue_name)
        self._take(messages)
        return messages

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._ending and (left := deadline - time.monotonic()) > 0:
            self._beat()
            time.sleep(min(left, ATTENTION_S))

    def _wait_for_room(self, *, extra: bool) -> int:
        """Wait until a poll is due; how many messages it asks for, or 0 at the end."""
        in_hand = self.broker.in_hand
        while not self._ending:
            self._beat()
            if extra and not self._backlog.wait(ATTENTION_S):
                continue
            if not self.broker.outages.wait_until_open(ATTENTION_S):
                continue
            with in_hand.changed:
                room = in_hand.room(self.queue.url, thread_share=self.queue.thread_share) - self._asked
                wanted = batch_to_ask_for(room, waiting=in_hand.has_waiting(self.queue.url))
                if wanted:
                    self._asked += wanted
                    return wanted
                in_hand.changed.wait(ATTENTION_S)
        return 0

    def _give_room_back(self, asked: int) -> None:
        with self.broker.in_hand.changed:
            self._asked -= asked

    def _take(self, messages: list[MessageTypeDef]) -> None:
        """Put received messages into the worker's reach; what cannot be decoded is a dead letter at once."""
        deliveries = [self._delivery(message) for message in messages]
        self.broker.in_hand.add(deliveries)
        for delivery in deliveries:
            if self._ending:
                self._settlement.settle(delivery, Release())
            elif delivery.verdict:
                self._settlement.settle(delivery, delivery.verdict)
            else:
                self._ready.put(delivery)

    def _delivery(self, message: MessageTypeDef) -> Delivery:
        attributes = message["Attributes"]
        known = Origin(
            message_id=message["MessageId"],
            sent_at=datetime.fromtimestamp(int(attributes["SentTimestamp"]) / 1000, UTC),
            receive_count=int(attributes["ApproximateReceiveCount"]),
        )
        verdict: Verdict | None = None
        try:
            with step("envelope"):
                decoded = self._decode(message["Body"], known)
        except Exception as raised:
            error = sorted_error(raised)
            task = self._task(message["Body"])
            fields = {**task, "message_id": known.message_id, "reason": error.reason, "error": error.log_text}
            error_reports.report_failure(error, actor=self.queue_name, attempt=known.receive_count, task=task)
            if isinstance(error, PermanentError):
                verdict = Dead(error.reason, str(error), known.receive_count)
                log.error("dead letter", **fields)
            else:
                # A fault in a decoder costs its own message a back-off, not the queue its poller.
                verdict = Retry(UNDECIDED_BACKOFF_S)
                log.error("failed to decode, will be tried again", **fields, exc_info=error)
                note("retried", reason=error.reason)
            decoded = dramatiq.Message(
                queue_name=self.queue_name,
                actor_name="",
                args=(),
                kwargs={},
                options={},
                message_id=known.message_id,
            )
        delivery = Delivery(
            decoded,
            queue_url=self.queue.url,
            body=message["Body"],
            receipt_handle=message["ReceiptHandle"],
            receive_count=known.receive_count,
            sent_at=known.sent_at,
            visibility_s=self.broker.options.visibility_s,
            attributes={
                name: found.get("StringValue", "") for name, found in message.get("MessageAttributes", {}).items()
            },
        )
        delivery.verdict = verdict
        return delivery

    def _task(self, body: str) -> dict[str, str]:
        """What a body that is no message tells of its task, where that looks like a name and is not just any text."""
        told = zip(("task_id", "task_type"), self.queue.describe(body), strict=True)
        return {name: value for name, value in told if value and NAME.fullmatch(value)}

    def _decode(self, body: str, known: Origin) -> dramatiq.Message[None]:
        """The body as a message for an actor of this queue. Raises PermanentError."""
        if self.queue.decode:
            return self.queue.decode(body, **known._asdict())
        return dramatiq_messages.decode(body, queue_name=self.queue_name, actors=self.broker.actors)

    def _letter(self, delivery: Delivery, dead: Dead) -> dict[str, MessageAttributeValueTypeDef]:
        task_id, task_type = self.queue.describe(delivery.body)
        return dead_letter.attributes(
            delivery.body,
            reason=dead.reason,
            error=dead.error,
            attempt=dead.attempt,
            task_id=task_id,
            task_type=task_type,
            trace_id=delivery.trace_id,
            failed_at=datetime.now(UTC),
            worker=f"{socket.gethostname()}:{os.getpid()}",
            largest_bytes=self.broker.dead_letters(self.queue_name).largest_bytes,
        )


class PollFailures:
    """One poller's failures since its last poll that worked: told at the first, after a minute, and when they are over.

    Parameters:
      queue_name: the Dramatiq queue.
    """

    def __init__(self, queue_name: str) -> None:
        self.queue_name = queue_name
        self._count = 0
        self._since = 0.0
        self._told = False

    def backoff_after(self, error: Exception) -> float:
        """A poll failed: the seconds to wait for the next one."""
        self._since = self._since if self._count else time.monotonic()
        self._count += 1
        note("poll_failed", queue=self.queue_name)
        if self._count == 1:
            log.warning("polling failed, trying again until it works", queue=self.queue_name, error=log_text(error))
        elif not self._told and time.monotonic() - self._since > ALARM_S:
            self._told = True
            log.error("polling has failed for a minute", queue=self.queue_name, error=log_text(error))
        ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(self._count - 1, 10))
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311

    def are_over(self) -> None:
        """A poll worked."""
        if self._count:
            log.warning("polling works again", queue=self.queue_name, failures=self._count)
            self._count, self._told = 0, False
