"""The path of a message through the rooms: a graph result, from its SQS body to its committed rows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import dramatiq
import pytest

import graphnode
from benchmarks.sqs_stub import StubServer
from graphnode import steps
from graphnode.actors.graph_generation import graph_generation
from graphnode.broker import SQSBroker
from graphnode.clients import s3 as s3_client
from graphnode.clients.aws import Aws
from graphnode.contract.bodies import ids_of_body, lane_of_body, to_message
from graphnode.contract.envelopes import RESULT_QUEUE
from graphnode.contract.schemas.examples import example_of
from graphnode.settings import Settings, read_settings
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.queues import Options, Queue
from graphnode.worker.middleware import worker_middleware
from tests.docs.test_architecture import floors
from tests.faults.s3_stub import Object, running_stub, use
from tests.integration.conftest import Query
from tests.ledgers import MemoryLedger

PACKAGE = Path(graphnode.__file__).parent

#: The most files that a graph result enters.
MOST_FILES = 37

PATIENCE_S = 20.0


@cache
def package_file(filename: str) -> str | None:
    """A file's path below the package; None for a file of a library. Cached: each call of any function asks."""
    path = Path(filename)
    return str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else None


class MessagePath(list[str]):
    """The files that a message enters, and the calls into a room above the caller's. It profiles a worker's threads."""

    def __init__(self) -> None:
        super().__init__()
        self.climbs: set[str] = set()
        self.committed = threading.Event()
        self._received = threading.Event()
        self._floors = floors()

    def profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Note a call of one of the package's functions."""
        file = package_file(frame.f_code.co_filename)
        if event != "call" or file is None or self.committed.is_set():
            return
        # A poll begins before there is a message: its thread counts from the message's receipt on.
        in_poller = threading.current_thread().name.startswith("poller")
        if in_poller and not self._is_below(frame, "_accept"):
            return
        if in_poller:
            self._received.set()
        elif not self._received.is_set() or not self._is_of_a_message():
            return
        if file not in self:
            self.append(file)
        caller = frame.f_back
        # A decorator's frame, and the libraries', stand for whoever called them.
        while caller and (package_file(caller.f_code.co_filename) is None or caller.f_code.co_name == "stepped"):
            caller = caller.f_back
        if caller and (above := package_file(caller.f_code.co_filename)) and self._floor(file) > self._floor(above):
            self.climbs.add(f"{above}:{caller.f_code.co_name} → {file}:{frame.f_code.co_name}")

    @contextmanager
    def around(self, step: steps.Step) -> Iterator[None]:
        """Stop at the end of the commit."""
        yield
        if step == "commit" and self._received.is_set():
            self.committed.set()

    def _floor(self, file: str) -> int:
        return self._floors[Path(file).parts[0].removesuffix(".py")]

    @staticmethod
    def _is_below(frame: FrameType | None, name: str) -> bool:
        while frame and frame.f_code.co_name != name:
            frame = frame.f_back
        return frame is not None

    @staticmethod
    def _is_of_a_message() -> bool:
        """Whether this thread is one of Dramatiq's, which pass the message on and run its actor."""
        return type(threading.current_thread()).__module__ == "dramatiq.worker"


@pytest.fixture
def path(storage: None, query: Query, stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[MessagePath]:
    """The path of one graph result with features and a summary, through a worker in this process."""
    with running_stub() as s3:
        url = stub.queue_url("path-results")
        known = read_settings(
            {
                "DATABASE_URL": "postgresql://unused@localhost/unused",
                "AWS_REGION": "eu-central-1",
                "AWS_ENDPOINT_URL": s3.url,
                "SQS_RESULT_QUEUE_URL": url,
                "S3_PAYLOAD_BUCKET": "payloads",
            },
            Settings,
        )
        use(known, monkeypatch)
        # A process makes its client and resolves its credentials once.
        s3_client.client().head_bucket(Bucket=known.s3_payload_bucket)
        for name in ("graph", "features", "summary"):
            s3.objects[f"{name}.json"] = Object(json.dumps(example_of(f"documents/{name}")).encode())
        options = Options(
            queues={
                RESULT_QUEUE: Queue(url=url, decode=to_message, ids_of_body=ids_of_body, lane_of_body=lane_of_body),
            },
            aws=Aws(region="eu-central-1", endpoint_url=stub.url),
            poll_wait_s=1,
            poll_grace_s=0.2,
        )
        broker = SQSBroker(
            lambda: options,
            breaker=CircuitBreaker({}),
            middleware=worker_middleware(
                prepare=lambda broker, worker: broker.connect(threads=worker.worker_threads),
                ledger=MemoryLedger(),
                document_memory=1 << 30,
            ),
        )
        dramatiq.actor(actor_name="graph_generation", queue_name=RESULT_QUEUE, broker=broker)(graph_generation.fn)
        broker.emit_after("process_boot")
        worker = dramatiq.Worker(broker, worker_threads=1)
        path = MessagePath()
        body = {
            "taskType": "GRAPH_GENERATION_RESULT",
            "taskId": "task_1",
            "timestamp": "2026-05-24T08:02:08Z",
            "payload": {
                "userId": "ada",
                "status": "COMPLETED",
                "resultS3Key": "graph.json",
                "featuresS3Key": "features.json",
                "summaryS3Key": "summary.json",
            },
        }
        broker.client.send_message(QueueUrl=url, MessageBody=json.dumps(body))
        with steps.subscribed(around=path.around):
            threading.setprofile(path.profile)
            try:
                worker.start()
                assert path.committed.wait(PATIENCE_S), "nothing was committed"
            finally:
                threading.setprofile(None)
                worker.stop()
                broker.close()
        assert query("SELECT status, warnings FROM tasks") == [("COMPLETED", None)]
        yield path


def test_a_graph_result_enters_few_files(path: MessagePath) -> None:
    assert {"sqs/consumer.py", "actors/graph_generation.py", "storage/graphs.py", "storage/summaries.py"} <= set(path)
    assert len(path) <= MOST_FILES, "\n".join(path)


def test_no_file_on_a_graph_results_path_calls_into_a_room_above_its_own(path: MessagePath) -> None:
    assert path.climbs == set()
