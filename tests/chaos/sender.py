"""Plays the AI server: puts a run's traffic into S3 and on the result queue at the right times."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping

import psycopg2
from botocore.exceptions import BotoCoreError, ClientError

from tests.chaos import journal
from tests.chaos.stack import Stack
from tests.chaos.traffic import Delivery

#: Seconds until a failed call is retried.
RETRY_S = 0.5

#: Seconds between two queries for the tasks that deliveries wait for.
LOOK_S = 1.0


class Sender:
    """Sends the deliveries in its own thread, from `start` on.

    Parameters:
      seconds: the time for all deliveries. Those that wait for an effect may take longer.
    """

    def __init__(self, stack: Stack, deliveries: list[Delivery], *, seconds: float) -> None:
        self._stack = stack
        self._queue = stack.direct["SQS_RESULT_QUEUE_URL"]
        self._bucket = stack.direct["S3_PAYLOAD_BUCKET"]
        last = max(delivery.position for delivery in deliveries)
        self._due = deque((delivery.position / last * seconds, delivery) for delivery in deliveries)
        self._total = len(deliveries)
        self._stopped = threading.Event()
        self._looked_at = float("-inf")
        self.sent = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def is_done(self) -> bool:
        """Whether everything is sent."""
        return self.sent == self._total

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        waiting: list[Delivery] = []
        documents: deque[tuple[float, Mapping[str, bytes]]] = deque()
        while not self._stopped.is_set() and (self._due or waiting or documents):
            now = time.monotonic() - began
            while documents and documents[0][0] <= now:
                self._upload(documents.popleft()[1])
            if waiting:
                waiting = self._send_ready(waiting)
            if not self._due or self._due[0][0] > now:
                self._stopped.wait(0.05)
                continue
            _, delivery = self._due.popleft()
            if delivery.after:
                waiting.append(delivery)
            elif delivery.late_s:
                self._send(delivery)
                documents.append((now + delivery.late_s, delivery.documents))
                documents = deque(sorted(documents, key=lambda late: late[0]))
            else:
                self._upload(delivery.documents)
                self._send(delivery)

    def _send_ready(self, waiting: list[Delivery]) -> list[Delivery]:
        """Send the deliveries whose task has ended; returns the others."""
        if time.monotonic() - self._looked_at < LOOK_S:
            return waiting
        self._looked_at = time.monotonic()
        try:
            with self._stack.database() as database:
                ended = journal.ended_tasks(database)
        except psycopg2.Error:
            return waiting  # an injected fault; the next query may succeed
        for delivery in waiting:
            if delivery.after in ended:
                self._upload(delivery.documents)
                self._send(delivery)
        return [delivery for delivery in waiting if delivery.after not in ended]

    def _upload(self, documents: Mapping[str, bytes]) -> None:
        for key, content in documents.items():
            while not self._stopped.is_set():
                try:
                    self._stack.s3.put_object(Bucket=self._bucket, Key=key, Body=content)
                    break
                except (BotoCoreError, ClientError):
                    self._stopped.wait(RETRY_S)

    def _send(self, delivery: Delivery) -> None:
        """Put a delivery on the queue, and repeat the call until it succeeds."""
        while not self._stopped.is_set():
            try:
                self._stack.sqs.send_message(QueueUrl=self._queue, MessageBody=delivery.body)
                break
            except (BotoCoreError, ClientError):
                self._stopped.wait(RETRY_S)
        self.sent += 1
