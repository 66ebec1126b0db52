"""A worker's IAM policy allows each call that a real worker makes to AWS, and a worker uses each grant."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path

import pytest

from graphnode.dev.local_aws import dead_letter_url
from tests.deploy.iam import Policy, action_of
from tests.e2e.ai_server import AiServer
from tests.e2e.conftest import StartWorker


@pytest.fixture
def policy(ai: AiServer) -> Policy:
    """The worker's policy for the test's queues and bucket."""
    urls = {"RESULTS": ai.result_queue}
    urls |= {f"{name}_DLQ": dead_letter_url(ai.sqs, url) for name, url in urls.items()}
    *_, region, account, _ = ai.arn(ai.result_queue).split(":")
    words = {name: url.rpartition("/")[2] for name, url in urls.items()}
    return Policy("iam-worker", {**words, "REGION": region, "ACCOUNT": account, "BUCKET": ai.bucket})


def test_a_worker_makes_only_calls_that_its_policy_allows_and_uses_each_grant(
    ai: AiServer, policy: Policy, start_worker: StartWorker, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    worker = start_worker(actors="tests.e2e.recorded_actors", RECORDED_CALLS=str(calls), GRAPHNODE_MAX_ATTEMPTS="2")
    for name in ("graph", "summary", "microscope"):
        ai.send(ai.result(name))
    ai.send_envelope(
        "ADD_NODE_RESULT", "t-1", {"userId": "ada", "status": "COMPLETED", "resultS3Key": "never/came.json"}
    )
    ai.dead_letters(1)
    ai.wait_until_drained()
    worker.stop()

    of_queues = ai.arn(ai.result_queue).rpartition(":")[0]
    used = set()
    for line in set(calls.read_text().splitlines()):
        service, operation, resource = line.split("\t")
        arn = f"arn:aws:s3:::{resource}" if service == "s3" else f"{of_queues}:{resource}"
        allowing = policy.grants_for(action_of(service, operation), arn)
        assert allowing, f"the policy does not allow {operation} of {arn}"
        used |= allowing
    # Each action and each resource is used.
    for of_grant in (itemgetter(0), itemgetter(1)):
        assert set(map(of_grant, used)) == set(map(of_grant, policy.grants))
