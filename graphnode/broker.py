"""The Dramatiq broker for SQS. It knows SQS and Dramatiq, and no graph: another project can use it.

It differs from `dramatiq_sqs`, whose class it extends: long polls in threads of their own, short visibility timeouts
that are extended, batched settlement, retries by visibility instead of copies, dead letters with a reason, and a stop
that loses nothing.
"""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import boto3.session
import dramatiq
import dramatiq_sqs
from dramatiq_sqs.broker import MAX_DELAY_SECONDS, MAX_MESSAGE_RETENTION_SECONDS
from dramatiq_sqs.exceptions import MessageDelayTooLong, MessageTooLarge

from graphnode.clients.aws import CallLimits
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.consumer import SQSConsumer, Stop
from graphnode.sqs.deliveries import InFlight
from graphnode.sqs.letter_sender import LetterHooks
from graphnode.sqs.queues import LARGEST_MESSAGE_BYTES, DeadLetterQueue, Options, find_dead_letters

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.service_resource import Queue, SQSServiceResource

#: Seconds until a call of SQS that is no poll is given up.
CALL_TIMEOUT_S = 10


class SQSBroker(dramatiq_sqs.SQSBroker):
    """A Dramatiq broker on SQS queues that exist already.

    Parameters:
      configure: returns the options. It is called in the process that first needs SQS, after Dramatiq has forked.
      breaker: the process's circuit breaker.
      middleware: all the middleware. Retries by visibility need `worker.middleware.Verdicts`.
    """

    # What the parent's methods read. Its constructor is not called: it opens a boto3 resource, which threads cannot
    # share and a fork would copy.
    namespace = None
    retention = dead_letter_retention = MAX_MESSAGE_RETENTION_SECONDS
    max_message_size = LARGEST_MESSAGE_BYTES
    dead_letter = True
    tags = None

    def __init__(
        self,
        configure: Callable[[], Options],
        *,
        breaker: CircuitBreaker,
        middleware: list[dramatiq.Middleware],
    ) -> None:
        self.queue_names: set[str] = set()
        dramatiq.Broker.__init__(self, middleware=middleware)
        self._configure = configure
        self._lock = threading.RLock()
        self._dead_letters: dict[str, DeadLetterQueue] = {}
        self._connected = False
        self.breaker = breaker
        self.stop = Stop()
        self.in_flight = InFlight(threads=1)

    @cached_property
    def options(self) -> Options:
        """The options, read at first use."""
        return self._configure()

    @property
    def client(self) -> SQSClient:
        """The client for everything but polls and settlement. Threads share it."""
        with self._lock:
            return self._client

    @cached_property
    def _client(self) -> SQSClient:
        return self.options.aws.sqs(CallLimits(read_timeout_s=CALL_TIMEOUT_S))

    @cached_property
    def _settling(self) -> SQSClient:
        # One attempt a call: the settlement's next try comes sooner than botocore's retry would.
        return self.options.aws.sqs(CallLimits(read_timeout_s=CALL_TIMEOUT_S, attempts=1))

    def connect(self, *, threads: int) -> None:
        """Prepare to consume: find each queue's dead-letter queue.

        Parameters:
          threads: the worker threads of this process.

        Raises SettingsError when a queue has no dead-letter queue, and botocore's errors when SQS cannot be reached.
        """
        for name in self.queue_names:
            self._dead_letters[name] = find_dead_letters(
                self.client, self.options.queues[name].url, max_attempts=self.options.retry.max_attempts
            )
        self.in_flight = InFlight(threads=threads)
        self._connected = True

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> SQSConsumer:
        """Start to consume a queue, after `connect`.

        Parameters:
          queue_name: the Dramatiq queue.
          prefetch: not used: InFlight says how many messages are fetched.
          timeout: milliseconds that the consumer's `next` waits for a message.
        """
        self._ensure_queue(queue_name)
        assert self._connected, "SQSBroker.connect() comes first"  # noqa: S101
        return SQSConsumer(
            queue_name,
            options=self.options,
            dead_letters=self._dead_letters[queue_name],
            actors=self.actors,
            client=self.client,
            settling=self._settling,
            in_flight=self.in_flight,
            breaker=self.breaker,
            stop=self.stop,
            letter_hooks=[each for each in self.middleware if isinstance(each, LetterHooks)],
            timeout_s=timeout / 1000,
        )

    def enqueue(self, message: dramatiq.Message[None], *, delay: int | None = None) -> dramatiq.Message[None]:
        """Send a Dramatiq message to its queue.

        Parameters:
          message: for an actor of a queue that carries Dramatiq's own messages.
          delay: milliseconds, at most 15 minutes (an SQS quota).

        Raises QueueNotFound, MessageDelayTooLong, MessageTooLarge, and ValueError for a queue that carries another
        system's messages.
        """
        queue = self.options.queues.get(message.queue_name)
        if queue is None:
            raise dramatiq.QueueNotFound(message.queue_name)
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

    def flush(self, queue_name: str) -> None:
        """Delete all messages of a queue. SQS allows it once in 60 seconds."""
        self._ensure_queue(queue_name)
        self.client.purge_queue(QueueUrl=self.options.queues[queue_name].url)

    def flush_all(self) -> None:
        """Delete all messages of all queues."""
        for queue_name in self.queue_names:
            self.flush(queue_name)

    def dead_letters(self, queue_name: str) -> DeadLetterQueue:
        """A queue's dead-letter queue, as its redrive policy names it. `connect` has looked it up."""
        return self._dead_letters[queue_name]

    # The rest is the parent's interface on these queues: `join` uses it, and so may other code for `dramatiq_sqs`.
    # The parent sets attributes in its constructor; here they are made when somebody asks.

    @property
    def consumer_class(self) -> type[SQSConsumer]:
        """The class of the consumers that `consume` starts."""
        return SQSConsumer

    @property
    def visibility_timeout(self) -> int:  # type: ignore[override]
        """Seconds that a received message stays hidden, until its settlement extends it."""
        return self.options.visibility_s

    @cached_property
    def sqs(self) -> SQSServiceResource:  # type: ignore[override]
        """A boto3 resource, made at first use. Threads cannot share it."""
        return boto3.session.Session().resource(
            "sqs", region_name=self.options.aws.region, endpoint_url=self.options.aws.endpoint_url
        )

    @property
    def queues(self) -> dict[str, Queue]:
        """The declared queues as boto3 resources."""
        return {name: self.sqs.Queue(self.options.queues[name].url) for name in self.queue_names}

    @queues.setter
    def queues(self, _empty: dict[str, Queue]) -> None:
        """Accept the empty dict that Dramatiq's constructor sets."""

    @property
    def dead_letter_queues(self) -> dict[str, Queue]:  # type: ignore[override]
        """Their dead-letter queues as boto3 resources, once `connect` has found them."""
        return {name: self.sqs.Queue(found.url) for name, found in self._dead_letters.items()}

    def _ensure_queue(self, queue_name: str) -> None:
        # The parent creates what is missing. Here queues exist already, with their policies.
        if queue_name not in self.queue_names:
            raise dramatiq.QueueNotFound(queue_name)
