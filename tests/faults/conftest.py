"""A worker with real threads in this process, on the stub of SQS. Each test has its own queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import dramatiq
import pytest

from benchmarks.sqs_stub import StubServer
from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.errors import InvalidEnvelope, ServiceFault
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.queues import Options, Queue
from graphnode.sqs.verdicts import RetryPolicy
from graphnode.worker.middleware import worker_middleware
from tests.ledgers import MemoryLedger

#: The longest wait for a condition, in seconds.
PATIENCE_S = 20.0

#: Handles a message's body.
Handler = Callable[[str], None]


def wait_until(look: Callable[[], Any], what: str) -> Any:
    """What `look` returns, as soon as that is true. Fails after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.01)
    return found


class RunningWorker:
    """A worker in this process, with one queue on the stub and probes that the test controls."""

    def __init__(
        self, stub: StubServer, handler: Handler, ledger: MemoryLedger, *, queue: str, threads: int, **options: Any
    ) -> None:
        self.stub = stub
        self.queue = queue
        self.ledger = ledger
        self.probes: list[float] = []
        self.service_is_back = True
        middleware = options.pop("middleware", [])
        time_limit = options.pop("time_limit", 60_000)
        document_memory = options.pop("document_memory", 1 << 30)
        lane_of_body = options.pop("lane_of_body", lambda _body: None)
        retry = RetryPolicy(max_attempts=3, backoff_min_s=1, backoff_max_s=1)
        known = {"visibility_s": 60, "poll_wait_s": 20, "poll_grace_s": 0.2, "retry": retry, **options}
        url = stub.queue_url(queue)
        self.broker = SQSBroker(
            lambda: Options(
                queues={"work": Queue(url=url, decode=decode, lane_of_body=lane_of_body)},
                aws=Aws(region="eu", endpoint_url=stub.url),
                **known,
            ),
            breaker=CircuitBreaker({"PostgreSQL": self._probe, "S3": self._probe}),
            middleware=[
                *worker_middleware(
                    prepare=lambda broker, worker: broker.connect(threads=worker.worker_threads),
                    ledger=self.ledger,
                    document_memory=document_memory,
                ),
                *middleware,
            ],
        )
        dramatiq.actor(actor_name="handle", queue_name="work", broker=self.broker, time_limit=time_limit)(handler)
        self.broker.emit_after("process_boot")
        self.worker = dramatiq.Worker(self.broker, worker_threads=threads)
        self.worker.start()
        self._stopped = False

    def _probe(self, _fault: ServiceFault | None) -> None:
        self.probes.append(time.monotonic())
        if not self.service_is_back:
            raise ConnectionError("still away")

    def stop(self) -> None:
        """Stop the worker as `dramatiq` does at SIGTERM."""
        if not self._stopped:
            self._stopped = True
            self.worker.stop()
            self.broker.close()
            # It ends a running probe, which would otherwise go on during the next tests.
            self.service_is_back = True


def decode(body: str, *, message_id: str, sent_at: Any, receive_count: int) -> dramatiq.Message[None]:
    """A message for the one actor. A body that begins with `bad` is invalid; with `faulty`, the decoder fails."""
    if body.startswith("faulty"):
        raise OverflowError("a fault in the decoder")
    if body.startswith("bad"):
        raise InvalidEnvelope(f"the body is {body!r}")
    return dramatiq.Message(
        queue_name="work", actor_name="handle", args=(body,), kwargs={}, options={}, message_id=message_id
    )


StartWorker = Callable[..., RunningWorker]


@pytest.fixture
def start(stub: StubServer) -> Iterator[StartWorker]:
    """Starts workers on the test's queue. They stop when the test ends."""
    queue, ledger = f"q-{uuid4().hex}", MemoryLedger()
    with ExitStack() as running:

        def start_worker(handler: Handler, *, threads: int = 2, **options: Any) -> RunningWorker:
            worker = RunningWorker(stub, handler, ledger, queue=queue, threads=threads, **options)
            running.callback(worker.stop)
            return worker

        yield start_worker
