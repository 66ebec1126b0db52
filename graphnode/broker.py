"""The SQS broker and its consumer. It knows SQS and Dramatiq, and nothing of graphs.

What it does otherwise than `dramatiq_sqs`, whose class it extends: polls of 20 s in threads of their own, short
visibilities that are kept alive, batched settlement, retries by visibility instead of copies, dead letters that say
why, and a stop that loses nothing.
"""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import boto3.session
import dramatiq
import dramatiq_sqs
from botocore.config import Config
from dramatiq_sqs.broker import MAX_DELAY_SECONDS
from dramatiq_sqs.exceptions import MessageDelayTooLong, MessageTooLarge

from graphnode.sqs.consumer import SQSConsumer
from graphnode.sqs.deliveries import InHand
from graphnode.sqs.heartbeat import Heartbeat
from graphnode.sqs.outages import Outages
from graphnode.sqs.queues import LARGEST_MESSAGE_BYTES, DeadLetterQueue, Options, find_dead_letters

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: Seconds until a connection to SQS is given up, and a call that is no poll.
CONNECT_TIMEOUT_S = 5
CALL_TIMEOUT_S = 10


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
