"""SQS, S3 and real workers: one LocalStack for a run, and queues, a bucket and an empty database for each test."""

from __future__ import annotations

import os
import runpy
import socket
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from graphnode.dev.child_processes import Service, Worker
from graphnode.dev.local_aws import s3_client, sqs_client
from graphnode.dev.localstack import HOOK, LocalStack
from graphnode.dev.stack import environment_of
from tests.conftest import empty_database, in_role, migrated_database
from tests.e2e.ai_server import AiServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: Starts a worker on the test's stack with SETTINGS and these settings: `start_worker(GRAPHNODE_MAX_ATTEMPTS="2")`.
StartWorker = Callable[..., Worker]

#: Settings for quick stops and retries.
SETTINGS = {
    "GRAPHNODE_POLL_WAIT": "1",
    "GRAPHNODE_POLL_GRACE": "2",
    "GRAPHNODE_BACKOFF_MIN": "0.1",
    "GRAPHNODE_BACKOFF_MAX": "1",
    "GRAPHNODE_LOG_FORMAT": "console",
}

WORKERS = pytest.StashKey[list[Service]]()


class OthersLocalStack(LocalStack):
    """A LocalStack that somebody else has started and will stop.

    Parameters:
      port: its port on the loopback address.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    def stop(self) -> None:
        """Leave it running."""


@pytest.fixture(scope="session")
def localstack() -> Iterator[LocalStack]:
    """The LocalStack at LOCALSTACK_PORT, or a new one for this run."""
    if port := os.environ.get("LOCALSTACK_PORT"):
        yield OthersLocalStack(int(port))
        return
    with LocalStack() as server:
        server.wait_until_ready()
        yield server


@pytest.fixture
def stack_env(localstack: LocalStack, database_url: str) -> dict[str, str]:
    """The environment of a worker: new queues, a new bucket, and a database with the newest schema."""
    return fresh_environment(localstack, database_url)


def fresh_environment(localstack: LocalStack, database_url: str) -> dict[str, str]:
    """The environment of a worker on this database. Creates its queues and its bucket."""
    prefix = f"test-{uuid4().hex}"
    environment = environment_of(localstack, database_url=database_url, prefix=prefix)
    make_queues(sqs_client(environment), prefix)
    runpy.run_path(str(HOOK))["make_bucket"](s3_client(environment), prefix)
    return environment


def make_queues(sqs: SQSClient, prefix: str, *names: list[str]) -> None:
    """Make a worker's queues, or those with other names, as the development stack does."""
    runpy.run_path(str(HOOK))["make_queues"](sqs, prefix, *names)


def as_worker(environment: dict[str, str]) -> dict[str, str]:
    """The same environment with the database rights that deploy/postgres-grants.sql gives the worker."""
    return {**environment, "DATABASE_URL": in_role(environment["DATABASE_URL"], "graphnode_worker")}


@pytest.fixture
def sqs(stack_env: dict[str, str]) -> SQSClient:
    """A client for the test's queues."""
    return sqs_client(stack_env)


@pytest.fixture
def s3(stack_env: dict[str, str]) -> S3Client:
    """A client for the test's bucket."""
    return s3_client(stack_env)


@pytest.fixture
def ai(stack_env: dict[str, str], sqs: SQSClient, s3: S3Client) -> AiServer:
    """The AI server and the operator of the test's stack."""
    return AiServer(stack_env, sqs, s3)


def _free_port() -> int:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


@pytest.fixture
def health_port() -> int:
    """A free port for a worker's health."""
    return _free_port()


@pytest.fixture
def metrics_port() -> int:
    """A free port for a worker's metrics."""
    return _free_port()


@pytest.fixture(scope="session")
def stopping() -> Iterator[ThreadPoolExecutor]:
    """Threads that stop the workers of ended tests: a stop takes two seconds, and the next test need not wait."""
    with ThreadPoolExecutor() as executor:
        yield executor


@pytest.fixture
def start_worker(
    stack_env: dict[str, str], stopping: ThreadPoolExecutor, request: pytest.FixtureRequest
) -> Iterator[StartWorker]:
    """Starts workers on the test's stack, and waits until they take messages. They stop after the test."""
    workers: list[Service] = []
    request.node.stash[WORKERS] = workers

    def start(*, processes: int = 1, threads: int = 4, actors: str = "graphnode.actors", **settings: str) -> Worker:
        environment = {**SETTINGS, **as_worker(stack_env), **settings}
        worker = Worker(environment, processes=processes, threads=threads, actors=actors)
        workers.append(worker)
        worker.wait_until_ready()
        return worker

    yield start
    for worker in workers:
        stopping.submit(worker.stop)


@pytest.fixture
def worker(start_worker: StartWorker) -> Worker:
    """A running worker on the test's stack."""
    return start_worker()


@pytest.fixture(scope="session")
def shared_stack(localstack: LocalStack, postgres: str) -> Iterator[tuple[dict[str, str], Worker]]:
    """A stack and a worker with the ordinary settings, for all tests that need no other worker."""
    with migrated_database(postgres) as url:
        environment = fresh_environment(localstack, url)
        with Worker({**SETTINGS, **as_worker(environment)}) as worker:
            worker.wait_until_ready()
            yield environment, worker


@pytest.fixture
def shared_ai(shared_stack: tuple[dict[str, str], Worker], request: pytest.FixtureRequest) -> Iterator[AiServer]:
    """The AI server and the operator of the shared stack, which begins each test without rows and messages."""
    environment, worker = shared_stack
    request.node.stash[WORKERS] = [worker]
    ai = AiServer(environment, sqs_client(environment), s3_client(environment))
    yield ai
    for url in ai.all_queues():
        ai.sqs.purge_queue(QueueUrl=url)
    ai.wait_until_drained()
    # The worker goes on, and writes its row only now and then.
    empty_database(environment["DATABASE_URL"], keep=("workers",))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of its workers to the report of a failed test."""
    report = yield
    if report.failed:
        for worker in item.stash.get(WORKERS, []):
            report.sections.append((f"Log of {worker.name} {worker.pid}", worker.log.text()))
    return report
