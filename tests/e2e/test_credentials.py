"""A real worker outlives the rotation of its AWS credentials: no restart, no dead letter, no attempt."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from graphnode.dev import outcomes
from graphnode.dev.child_processes import READY, Worker
from graphnode.dev.localstack import LocalStack
from graphnode.dev.samples import Result
from tests.chaos.proxy import FaultProxy
from tests.e2e.ai_server import PATIENCE_S, AiServer, found
from tests.e2e.conftest import StartWorker
from tests.faults.credential_sources import NEW, OLD, ContainerEndpoint, CredentialFile

#: Seconds of visibility: the worker soon tells SQS of messages in flight.
VISIBILITY = "6"


@pytest.fixture
def proxy(localstack: LocalStack) -> Iterator[FaultProxy]:
    """A proxy in front of LocalStack, which itself checks no key."""
    upstream = urlsplit(localstack.endpoint)
    assert upstream.hostname
    assert upstream.port
    with FaultProxy(upstream.hostname, upstream.port, seed=1) as running:
        yield running


def send_in_flight(ai: AiServer) -> list[Result]:
    """Send results of a user whose lock somebody holds."""
    results = [ai.send(ai.result("graph")) for _ in range(3)]
    ai.wait_until_in_flight(3)
    return results


def check_all_applied(ai: AiServer, results: list[Result], worker: Worker) -> None:
    """Check that all results are applied without a failure, by the worker that was started first."""
    assert {ai.ended(result).status for result in results} <= {"COMPLETED", "SUPERSEDED"}
    ai.wait_until_drained()
    assert outcomes.dead_letters(ai.sqs, ai.dead_letter_queue) == []
    assert ai.rows("SELECT count(*) FROM task_attempts") == [(0,)]
    assert worker.log.text().count(READY) == 1


def test_a_credentials_file_that_is_rotated_is_read_again(
    ai: AiServer, proxy: FaultProxy, start_worker: StartWorker, tmp_path: Path
) -> None:
    file = CredentialFile(tmp_path / "credentials")
    worker = start_worker(AWS_ENDPOINT_URL=proxy.url, GRAPHNODE_VISIBILITY_TIMEOUT=VISIBILITY, **file.environment)
    with ai.locked_user("ada"):
        results = send_in_flight(ai)
        proxy.refused_keys.add(OLD)
    results.append(ai.send(ai.result("graph", user_id="eve")))
    is_refused = lambda: (proxy.refusals["S3"] > 1 and proxy.refusals["SQS"] > 1) or None  # noqa: E731
    found(outcomes.wait_for(is_refused, timeout_s=PATIENCE_S), "S3 and SQS to refuse the old key")

    file.write(NEW)

    check_all_applied(ai, results, worker)


def test_a_container_endpoint_that_hands_out_expired_credentials_costs_no_attempt(
    ai: AiServer, start_worker: StartWorker
) -> None:
    with ContainerEndpoint() as endpoint:
        # In their last ten minutes botocore refreshes credentials before each call.
        endpoint.lifetime = timedelta(minutes=5)
        worker = start_worker(GRAPHNODE_VISIBILITY_TIMEOUT=VISIBILITY, **endpoint.environment)
        with ai.locked_user("ada"):
            results = send_in_flight(ai)
            endpoint.lifetime = -timedelta(minutes=1)
        results.append(ai.send(ai.result("graph", user_id="eve")))
        ai.wait_for_log(worker, "outage began")

        endpoint.lifetime = timedelta(hours=1)

        check_all_applied(ai, results, worker)
