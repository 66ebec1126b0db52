"""The SQS broker and its consumer. It knows SQS and Dramatiq, and nothing of graphs.

What it does otherwise than `dramatiq_sqs`, whose class it extends: polls of 20 s in threads of their own, short
visibilities that are kept alive, batched settlement, retries by visibility instead of copies, dead letters that say
why, and a stop that loses nothing.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import boto3.session
import dramatiq
import dramatiq_sqs
import structlog
from botocore.config import Config
from dramatiq_sqs.broker import MAX_DELAY_SECONDS
from dramatiq_sqs.exceptions import MessageDelayTooLong, MessageTooLarge

from graphnode.errors import PermanentError, sorted_error
from graphnode.sqs import dead_letter, dramatiq_messages
from graphnode.sqs.deliveries import BATCH, Delivery, InHand, State, batch_to_ask_for
from graphnode.sqs.heartbeat import STUCK_AFTER_S, Heartbeat
from graphnode.sqs.liveness import beat, rest
from graphnode.sqs.outages import Outages
from graphnode.sqs.poll_failures import PollFailures
from graphnode.sqs.queues import LARGEST_MESSAGE_BYTES, DeadLetterQueue, Options, Origin, find_dead_letters
from graphnode.sqs.settlement import Settlement
from graphnode.sqs.verdicts import Dead, Done, Forget, Hold, Release, Retry, Verdict
from graphnode.steps import note, step
from graphnode.telemetry import error_reports

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef, MessageTypeDef

#: Seconds until a connection to SQS is given up, and a call that is no poll.
CONNECT_TIMEOUT_S = 5
CALL_TIMEOUT_S = 10

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

log = structlog.get_logger("graphnode.broker")


class SQSBroker(dramatiq_sqs.SQSBroker):
    """A Dramatiq broker on SQS queues that exist already.

    Parameters:
      configure: gives the options. Called in the process that first needs SQS, never before Dramatiq has forked.
      outages: the gate in front of the intake.
      middleware: all the middleware; retries by visibility need `middleware.Verdicts`.
    """

    def __init__(
        self,
        configure: Callable[[], Options],
        *,
        outages: Outages,
        middleware: list[dramatiq.Middleware],
    ) -> None:
        self.queue_names: set[str] = set()
        # Not the parent's own constructor: it opens a boto3 resource, which threads cannot share and a fork would copy.
        dramatiq.Broker.__init__(self, middleware=middleware)
        self._configure = configure
        self.outages = outages
        self.stopping = False
        self.stop_began = float("inf")
        self._lock = threading.Lock()
        self._session_lock = threading.Lock()
        self._options: Options | None = None
        self._client: SQSClient | None = None
        self._dead_letters: dict[str, DeadLetterQueue] = {}
        self.consumers: list[SQSConsumer] = []
        self.in_hand = InHand(threads=1)
        self.heartbeat: Heartbeat | None = None

    @property
    def options(self) -> Options:
        """The options, read at first use."""
        if self._options is None:
            self._options = self._configure()
        return self._options

    @property
    def client(self) -> SQSClient:
        """The client for everything but polls; threads share it."""
        with self._lock:
            if self._client is None:
                self._client = self.new_client(read_timeout_s=CALL_TIMEOUT_S, attempts=3)
            return self._client

    @cached_property
    def _session(self) -> boto3.session.Session:
        """One for all clients: each session has SQS's description in memory."""
        return boto3.session.Session()

    def new_client(self, *, read_timeout_s: float, attempts: int) -> SQSClient:
        """An SQS client that gives up after so many seconds and attempts."""
        # Clients may be shared by threads; sessions, which make them, may not.
        with self._session_lock:
            return self._session.client(
                "sqs",
                region_name=self.options.region,
                endpoint_url=self.options.endpoint_url,
                config=Config(
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=read_timeout_s,
                    retries={"total_max_attempts": attempts, "mode": "standard"},
                    max_pool_connections=32,
                ),
            )

    def connect(self, *, threads: int) -> None:
        """Get ready to consume: find each queue's dead-letter queue, start the heartbeat.

        Parameters:
          threads: the worker threads of this process.

        Raises SettingsError when a queue has no dead-letter queue, and botocore's errors when SQS cannot be reached.
        """
        for name in self.queue_names:
            self._dead_letters[name] = find_dead_letters(
                self.client, self.options.queues[name].url, max_attempts=self.options.max_attempts
            )
        self.in_hand = InHand(threads=threads)
        # One attempt a call: the next beat, or the next try, comes sooner than botocore's retry would.
        self.settling_client = self.new_client(read_timeout_s=CALL_TIMEOUT_S, attempts=1)
        self.heartbeat = Heartbeat(self.settling_client, self.in_hand, visibility_s=self.options.visibility_s)
        self.heartbeat.start()

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> SQSConsumer:
        """Start to consume a queue.

        Parameters:
          queue_name: the Dramatiq queue.
          prefetch: not used: what is fetched follows what the threads can take soon.
          timeout: milliseconds that the consumer's `next` waits for a message.
        """
        if queue_name not in self.queue_names:
            raise dramatiq.QueueNotFound(queue_name)
        consumer = SQSConsumer(self, queue_name, timeout_s=timeout / 1000)
        self.consumers.append(consumer)
        return consumer

    def enqueue(self, message: dramatiq.Message[None], *, delay: int | None = None) -> dramatiq.Message[None]:
        """Put a Dramatiq message on its queue.

        Parameters:
          message: for an actor of a queue that carries Dramatiq's own messages.
          delay: milliseconds, at most 15 minutes (an SQS quota).

        Raises MessageDelayTooLong, MessageTooLarge, or ValueError for a queue that carries another system's messages.
        """
        queue = self.options.queues[message.queue_name]
        if queue.decode is not None:
            raise ValueError(
                f"The queue {message.queue_name!r} carries another system's messages: "
                f"nothing can be enqueued on it for the actor {message.actor_name!r}"
            )
        seconds = (delay or 0) // 1000
        if seconds > MAX_DELAY_SECONDS:
            raise MessageDelayTooLong(
                f"A delay of {seconds} s is over SQS's limit of {MAX_DELAY_SECONDS} s (15 minutes)"
            )
        self.emit_before("enqueue", message, delay)
        body = b64encode(message.encode()).decode()
        if len(body) > LARGEST_MESSAGE_BYTES:
            raise MessageTooLarge(
                f"A message of {len(body)} bytes is over SQS's limit of 1 MiB ({LARGEST_MESSAGE_BYTES})"
            )
        self.client.send_message(QueueUrl=queue.url, MessageBody=body, DelaySeconds=seconds)
        self.emit_after("enqueue", message, delay)
        return message

    def stop_intake(self) -> None:
        """Start no more polls. Safe in a signal handler: it takes no lock."""
        if not self.stopping:
            self.stop_began = time.monotonic()
            self.stopping = True

    def close(self) -> None:
        """Stop the heartbeat, after the consumers."""
        if self.heartbeat:
            self.heartbeat.stop()

    def dead_letters(self, queue_name: str) -> DeadLetterQueue:
        """A queue's dead-letter queue, as its redrive policy names it."""
        return self._dead_letters[queue_name]


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
