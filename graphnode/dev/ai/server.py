"""The stand-in AI server: takes requests off their queue, and puts results into S3 and on the result queue.

Documents are dated by their request, so that the same request has the same documents, byte by byte; envelopes are dated
by the clock. A user's requests are served one after the other, by one process: what it knows of a user is one object.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

import dramatiq
import structlog
from dramatiq.middleware import TimeLimit

from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.contract import envelopes
from graphnode.dev.ai.answers import UNANSWERABLE, Answer, answer
from graphnode.dev.ai.asked import ACTOR, REQUEST_QUEUE, Asked, to_message
from graphnode.dev.ai.bucket import Bucket
from graphnode.dev.ai.odd import FAILURES, LATE_DOCUMENT_S, LONGEST_DELAY_S, Odd, Oddities, odd_envelope
from graphnode.errors import AwsOutage, one_line
from graphnode.settings import AiSettings
from graphnode.sqs.outages import Outages
from graphnode.sqs.queues import Options, Queue
from graphnode.worker.middleware import (
    GracefulStop,
    HardLimit,
    LogContext,
    Preparation,
    ReceiveCounts,
    ShutdownDeadline,
    StartCheck,
    Verdicts,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: What its log says when it takes requests.
READY = "the stand-in AI server takes requests"

#: Milliseconds that one request may take: ten thousand sources take minutes.
TIME_LIMIT_MS = 30 * 60 * 1000

#: Characters of a message that broke off.
BROKEN_LENGTH = 60

log = structlog.get_logger("graphnode.ai")


class Results:
    """Where one task's messages go, with their odd sides.

    Parameters:
      sqs, queue_url: the result queue.
      asked: the task's request.
      odd: the odd sides that it shows.
    """

    def __init__(self, sqs: SQSClient, queue_url: str, asked: Asked, odd: Oddities) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._asked = asked
        self._odd = odd
        self._parked: list[tuple[str, str]] = []

    def tell(self, stage: str, percent: float) -> None:
        """Send a progress message."""
        payload = {"currentStage": stage, "progressPercent": percent, "etaSeconds": None}
        body = self._envelope("GRAPH_GENERATION_PROGRESS", payload, stage)
        if self._odd.shows("reordering", stage):
            self._parked.append((body, stage))
        else:
            self._send(body, stage)

    def fail(self, error: str | None) -> None:
        """Send the result of a task that FAILED."""
        body = self._envelope(self._asked.payload.task_type, {"status": "FAILED", "error": error}, "failure")
        self._send(body, "failure")
        self._send_held()

    def complete(self, payload: dict[str, Any]) -> None:
        """Send the result of a task that is COMPLETED."""
        body = self._envelope(self._asked.payload.task_type, {"status": "COMPLETED", **payload}, "result")
        if self._odd.shows("broken"):
            self._send(body[:BROKEN_LENGTH], "broken")
        self._send(body, "result")
        self._send_held()

    def _envelope(self, task_type: str, payload: dict[str, Any], about: str) -> str:
        return odd_envelope(
            task_type,
            self._asked.task_id,
            {"userId": self._asked.payload.user_id, **payload},
            sent_at=datetime.now(UTC),
            odd=self._odd,
            about=about,
        )

    def _send(self, body: str, about: str) -> None:
        times = self._odd.one_of("duplicates", (2, 3), about) if self._odd.shows("duplicates", about) else 1
        delayed = self._odd.shows("delays", about)
        delay_s = self._odd.one_of("delays", range(1, LONGEST_DELAY_S + 1), about) if delayed else 0
        for _ in range(times):
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=body, DelaySeconds=delay_s)

    def _send_held(self) -> None:
        for body, about in self._parked:
            self._send(body, about)


class AiServer:
    """Serves requests. Thread-safe.

    Parameters:
      sqs, queue_url: the result queue.
      bucket: the payload bucket.
      odd: how often it shows which odd sides.
    """

    def __init__(self, sqs: SQSClient, queue_url: str, bucket: Bucket, odd: Odd) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._bucket = bucket
        self._odd = odd
        self._lock = threading.Lock()
        self._users: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def serve(self, asked: Asked) -> None:
        """Answer a request by a result: COMPLETED, or FAILED with what is wrong with it."""
        odd = self._odd.of(asked.task_id, asked.payload.task_type)
        results = Results(self._sqs, self._queue_url, asked, odd)
        if odd.shows("failures"):
            results.fail(odd.one_of("failures", FAILURES, "text"))
            if odd.one_of("failures", (True, False), "for good"):
                log.info("failed, as it does now and then", odd=odd.shown())
                return
        try:
            with self._lock:
                user = self._users[asked.payload.user_id]
            with user:
                found = answer(asked, self._bucket, odd, results.tell)
        except UNANSWERABLE as error:
            results.fail(one_line(error))
            log.info("answered", status="FAILED", error=one_line(error))
            return
        self._publish(asked, found, results, odd)
        log.info("answered", status="COMPLETED", documents=len(found.documents), odd=odd.shown())

    def _publish(self, asked: Asked, found: Answer, results: Results, odd: Oddities) -> None:
        """Put the documents into S3, and then say so; or the other way round."""
        directory = f"ai/{asked.payload.task_type.lower()}/{asked.payload.user_id}/{asked.task_id}"
        keys = {field: f"{directory}/{file}" for field, (file, _) in found.documents.items()}
        first, *others = found.documents
        for field in others:
            if not (field == "featuresS3Key" and odd.shows("no-features")):
                self._bucket.write(keys[field], found.documents[field][1])
        if odd.shows("late-documents"):
            results.complete({**found.payload, **keys})
            time.sleep(LATE_DOCUMENT_S)
        self._bucket.write(keys[first], found.documents[first][1])
        if not odd.shows("late-documents"):
            results.complete({**found.payload, **keys})


def run(known: AiSettings, *, odd: Odd, threads: int) -> None:
    """Serve requests until SIGTERM or SIGINT, in the main thread.

    Parameters:
      known: where.
      odd: how often it shows which odd sides.
      threads: the requests that are served at the same time.

    Raises SettingsError when the request queue has no dead-letter queue, and botocore's errors when AWS is away.
    """
    bucket = Bucket(s3_client(known), known.s3_payload_bucket)
    broker = broker_of(known, probe=bucket.probe)
    server = AiServer(broker.client, known.sqs_result_queue_url, bucket, odd)
    declare = dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=REQUEST_QUEUE, time_limit=TIME_LIMIT_MS)
    declare(server.serve)
    bucket.probe()
    broker.connect(threads=threads)
    ended = ended_by_signals()
    worker = dramatiq.Worker(broker, worker_threads=threads)
    worker.start()
    log.info(READY, queue=known.sqs_request_queue_url, odd=odd.rate, seed=odd.seed)
    ended.wait()
    worker.stop()
    broker.close()


def broker_of(known: AiSettings, *, probe: Callable[[], None]) -> SQSBroker:
    """A broker that consumes the request queue.

    Parameters:
      probe: asks S3, and raises botocore's errors while it is away.
    """
    options = Options(
        queues={
            REQUEST_QUEUE: Queue(url=known.sqs_request_queue_url, decode=to_message, ids_of_body=envelopes.peek),
        },
        region=known.aws_region,
        endpoint_url=known.aws_endpoint_url,
        poll_wait_s=known.poll_wait,
        poll_grace_s=known.poll_grace,
        shutdown_timeout_s=known.shutdown_timeout,
    )
    return SQSBroker(
        lambda: options,
        outages=Outages({AwsOutage.service: probe}),
        # The worker's, without the memory for big documents: those are not read here.
        middleware=[
            Preparation(lambda _broker, _worker: None),
            GracefulStop(),
            LogContext(),
            StartCheck(),
            Verdicts(ReceiveCounts()),
            ShutdownDeadline(),
            HardLimit(),
            TimeLimit(),
        ],
    )


def s3_client(known: AiSettings) -> S3Client:
    """A client that threads share."""
    return Aws(region=known.aws_region, endpoint_url=known.aws_endpoint_url).s3()


def ended_by_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return ended
