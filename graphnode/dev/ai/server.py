"""The server process: takes requests from their queue, writes documents to S3 and results to the result queue.

Documents carry the time of their request, so the same request always gives the same bytes. Envelopes carry the current
time. Run only one process: it handles a user's requests one at a time, because a user's known sources are one object.
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
from graphnode.contract.bodies import ids_of_body
from graphnode.contract.message_groups import message_group
from graphnode.dev.ai.answers import UNANSWERABLE, Answer, answer
from graphnode.dev.ai.fault_injection import (
    FAILURES,
    LATE_DOCUMENT_S,
    LONGEST_DELAY_S,
    FaultInjection,
    TaskFaults,
    faulty_envelope,
)
from graphnode.dev.ai.payload_bucket import PayloadBucket
from graphnode.dev.ai.request_decoding import ACTOR, REQUEST_QUEUE, ReceivedRequest, to_message
from graphnode.errors import AwsFault, one_line
from graphnode.settings import AiSettings
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.queues import Options, Queue
from graphnode.worker.middleware import (
    GracefulStop,
    HardLimit,
    LogContext,
    Preparation,
    ReceiveCounts,
    ShutdownDeadline,
    Verdicts,
)

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: The log event when it is ready.
READY = "the stand-in AI server takes requests"

#: The time limit of a request, in milliseconds: ten thousand sources take minutes.
TIME_LIMIT_MS = 30 * 60 * 1000

#: Characters of a truncated message.
BROKEN_LENGTH = 60

log = structlog.get_logger("graphnode.ai")


class Results:
    """Sends the messages of one task, with its faults.

    Parameters:
      sqs, queue_url: the result queue.
      received: the task's request.
      faults: the task's faults.
    """

    def __init__(self, sqs: SQSClient, queue_url: str, received: ReceivedRequest, faults: TaskFaults) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._received = received
        self._faults = faults
        self._held: list[tuple[str, str]] = []
        self._group = message_group(received.payload.user_id)

    def tell(self, stage: str, percent: float) -> None:
        """Send a progress message."""
        payload = {"currentStage": stage, "progressPercent": percent, "etaSeconds": None}
        body = self._envelope("GRAPH_GENERATION_PROGRESS", payload, stage)
        if self._faults.injects("reordering", stage):
            self._held.append((body, stage))
        else:
            self._send(body, stage)

    def fail(self, error: str | None) -> None:
        """Send a FAILED result."""
        body = self._envelope(self._received.payload.task_type, {"status": "FAILED", "error": error}, "failure")
        self._send(body, "failure")
        self._send_held()

    def complete(self, payload: dict[str, Any]) -> None:
        """Send a COMPLETED result."""
        body = self._envelope(self._received.payload.task_type, {"status": "COMPLETED", **payload}, "result")
        if self._faults.injects("broken"):
            self._send(body[:BROKEN_LENGTH], "broken")
        self._send(body, "result")
        self._send_held()

    def _envelope(self, task_type: str, payload: dict[str, Any], about: str) -> str:
        return faulty_envelope(
            task_type,
            self._received.task_id,
            {"userId": self._received.payload.user_id, **payload},
            sent_at=datetime.now(UTC),
            faults=self._faults,
            about=about,
        )

    def _send(self, body: str, about: str) -> None:
        times = self._faults.choose("duplicates", (2, 3), about) if self._faults.injects("duplicates", about) else 1
        delayed = self._faults.injects("delays", about)
        delay_s = self._faults.choose("delays", range(1, LONGEST_DELAY_S + 1), about) if delayed else 0
        for _ in range(times):
            self._sqs.send_message(
                QueueUrl=self._queue_url, MessageBody=body, DelaySeconds=delay_s, MessageGroupId=self._group
            )

    def _send_held(self) -> None:
        for body, about in self._held:
            self._send(body, about)


class AiServer:
    """Answers requests. Thread-safe.

    Parameters:
      sqs, queue_url: the result queue.
    """

    def __init__(self, sqs: SQSClient, queue_url: str, bucket: PayloadBucket, faults: FaultInjection) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._bucket = bucket
        self._faults = faults
        self._lock = threading.Lock()
        self._users: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def serve(self, received: ReceivedRequest) -> None:
        """Send the result of a request: COMPLETED, or FAILED with the reason."""
        faults = self._faults.of(received.task_id, received.payload.task_type)
        results = Results(self._sqs, self._queue_url, received, faults)
        if faults.injects("failures"):
            results.fail(faults.choose("failures", FAILURES, "text"))
            if faults.choose("failures", (True, False), "for good"):
                log.info("failed, as it does now and then", odd=faults.injected())
                return
        try:
            with self._lock:
                user = self._users[received.payload.user_id]
            with user:
                found = answer(received, self._bucket, faults, results.tell)
        except UNANSWERABLE as error:
            results.fail(one_line(error))
            log.info("answered", status="FAILED", error=one_line(error))
            return
        self._publish(received, found, results, faults)
        log.info("answered", status="COMPLETED", documents=len(found.documents), odd=faults.injected())

    def _publish(self, received: ReceivedRequest, found: Answer, results: Results, faults: TaskFaults) -> None:
        """Write the documents and send the result; with the fault `late-documents`, the result first."""
        directory = f"ai/{received.payload.task_type.lower()}/{received.payload.user_id}/{received.task_id}"
        keys = {field: f"{directory}/{file}" for field, (file, _) in found.documents.items()}
        first, *others = found.documents
        for field in others:
            if not (field == "featuresS3Key" and faults.injects("no-features")):
                self._bucket.write(keys[field], found.documents[field][1])
        if faults.injects("late-documents"):
            results.complete({**found.payload, **keys})
            time.sleep(LATE_DOCUMENT_S)
        self._bucket.write(keys[first], found.documents[first][1])
        if not faults.injects("late-documents"):
            results.complete({**found.payload, **keys})


def run(known: AiSettings, *, faults: FaultInjection, threads: int) -> None:
    """Answer requests until SIGTERM or SIGINT. Must run in the main thread.

    Parameters:
      threads: requests that are handled at the same time.

    Raises SettingsError if the request queue has no dead-letter queue, and botocore's errors if AWS is unreachable.
    """
    aws = Aws(region=known.aws_region, endpoint_url=known.aws_endpoint_url)
    bucket = PayloadBucket(aws.s3(), known.s3_payload_bucket)
    broker = broker_of(known, aws=aws, probe=bucket.probe)
    server = AiServer(broker.client, known.sqs_result_queue_url, bucket, faults)
    declare = dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=REQUEST_QUEUE, time_limit=TIME_LIMIT_MS)
    declare(server.serve)
    bucket.probe()
    broker.connect(threads=threads)
    ended = ended_by_signals()
    worker = dramatiq.Worker(broker, worker_threads=threads)
    worker.start()
    log.info(READY, queue=known.sqs_request_queue_url, odd=faults.rate, seed=faults.seed)
    ended.wait()
    worker.stop()
    broker.close()


def broker_of(known: AiSettings, *, aws: Aws, probe: Callable[[], None]) -> SQSBroker:
    """A broker that consumes the request queue.

    Parameters:
      aws: makes the SQS clients.
      probe: calls S3; raises botocore's errors during an outage.
    """
    options = Options(
        queues={
            REQUEST_QUEUE: Queue(url=known.sqs_request_queue_url, decode=to_message, ids_of_body=ids_of_body),
        },
        aws=aws,
        poll_wait_s=known.poll_wait,
        poll_grace_s=known.poll_grace,
        shutdown_timeout_s=known.shutdown_timeout,
    )
    return SQSBroker(
        lambda: options,
        breaker=CircuitBreaker({AwsFault.service: lambda _fault: probe()}),
        # As in the worker, without AdmissionControl: no big documents are read here.
        middleware=[
            Preparation(lambda _broker, _worker: None),
            GracefulStop(),
            LogContext(),
            Verdicts(ReceiveCounts()),
            ShutdownDeadline(),
            HardLimit(),
            TimeLimit(),
        ],
    )


def ended_by_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return ended
