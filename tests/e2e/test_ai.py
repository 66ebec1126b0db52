"""The stand-in AI server: requests from the API server's library, answered from real input, stored by the worker."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

import graphnode.dev.ai
from graphnode.contract.message_groups import message_group
from graphnode.contract.requests import (
    AddNodeRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestFromNodeRequest,
    MicroscopeIngestRequest,
)
from graphnode.dev import outcomes
from graphnode.dev.ai.payload_bucket import PayloadBucket
from graphnode.dev.ai.text_sources import UnreadableInput
from graphnode.dev.child_processes import StandIn
from graphnode.dev.local_aws import dead_letter_url
from graphnode.requests import Requested, Requests
from graphnode.storage.database import close_database, open_database
from tests.e2e.ai_server import PATIENCE_S, AiServer, found
from tests.e2e.conftest import SETTINGS, WORKERS

CORPUS = Path(graphnode.dev.ai.__file__).with_name("corpus")

FILES = ("broetchen.txt", "naps.md", "ownership.md", "roggenbrot.md", "sauerteig.md", "sleep-and-memory.md")

USERS = ("ada", "bob", "eve")


@pytest.fixture
def stand_in(shared_ai: AiServer, request: pytest.FixtureRequest) -> Iterator[StandIn]:
    """A stand-in on the shared stack that injects each fault, always in the same tasks."""
    queue = shared_ai.environment["SQS_REQUEST_QUEUE_URL"]
    with StandIn({**SETTINGS, **shared_ai.environment}, "--odd", "1", "--seed", "7") as service:
        request.node.stash[WORKERS].append(service)
        service.wait_until_ready()
        yield service
    for url in (queue, dead_letter_url(shared_ai.sqs, queue)):
        shared_ai.sqs.purge_queue(QueueUrl=url)


@pytest.fixture
def requests(shared_ai: AiServer) -> Iterator[Requests]:
    """The API server's client, with the inputs in S3."""
    for file in FILES:
        content = (CORPUS / "sources" / file).read_bytes()
        shared_ai.s3.put_object(Bucket=shared_ai.bucket, Key=f"in/{file}", Body=content)
    open_database(shared_ai.environment["DATABASE_URL"])
    yield Requests(shared_ai.sqs, queue_url=shared_ai.environment["SQS_REQUEST_QUEUE_URL"])
    close_database()


def ended(ai: AiServer, *asked: Requested) -> dict[str, str]:
    """The status of each task, once all have ended."""
    task_ids = [task_id for requested in asked for task_id in requested.task_ids]
    query = "SELECT task_id, status FROM tasks WHERE task_id = ANY(%(ids)s) AND status IN ('COMPLETED', 'FAILED')"

    def look() -> dict[str, str] | None:
        rows = dict(ai.rows(query, ids=task_ids))
        return rows if len(rows) == len(task_ids) else None

    return found(outcomes.wait_for(look, timeout_s=PATIENCE_S), f"the tasks {task_ids} to end")


@pytest.mark.usefixtures("stand_in")
def test_with_all_faults_the_worker_stores_every_result_and_refuses_only_truncated_messages(
    shared_ai: AiServer, requests: Requests
) -> None:
    graphs = {
        user: requests.graph(
            GraphGenerationRequest(user_id=user, s3_key="in/", include_summary=True), task_id=f"task_graph_{user}_1"
        )
        for user in USERS
    }
    statuses = ended(shared_ai, *graphs.values())
    later = [
        asked
        for user in USERS
        for asked in (
            requests.summary(
                GraphSummaryRequest(user_id=user, graph_s3_key=graph_key(user, graphs[user])),
                task_id=f"task_summary_{user}_1",
            ),
            requests.add_node(AddNodeRequest(user_id=user, s3_key="in/naps.md"), task_id=f"task_add_node_{user}_1"),
            requests.microscope(
                MicroscopeIngestRequest(
                    user_id=user, s3_key="in/sauerteig.md", group_id=f"w-{user}", file_name="sauerteig.md"
                ),
                document_id=f"task_microscope_file_{user}_01J9ZZZZZZZZZZZZZZZZZZZZZZ",
                in_halves=True,
            ),
            requests.microscope_from_node(
                MicroscopeIngestFromNodeRequest(user_id=user, node_id="naps", node_type="note", group_id=f"w-{user}"),
                document_id=f"task_microscope_node_{user}_01J9ZZZZZZZZZZZZZZZZZZZZZZ",
            ),
        )
    ]
    statuses |= ended(shared_ai, *later)
    shared_ai.sqs.send_message(QueueUrl=shared_ai.environment["SQS_REQUEST_QUEUE_URL"], MessageBody='{"taskType": 7}')
    (refused,) = request_letters(shared_ai)
    shared_ai.wait_until_drained()

    assert len(statuses) == 18
    assert list(statuses.values()).count("COMPLETED") > 12
    counts = dict(shared_ai.rows("SELECT user_id, count(*) FROM graph_nodes GROUP BY user_id"))
    assert counts == {user: len(FILES) for user in USERS if statuses[f"task_graph_{user}_1"] == "COMPLETED"}
    letters = outcomes.dead_letters(shared_ai.sqs, shared_ai.dead_letter_queue)
    assert letters
    assert {letter.attributes["reason"] for letter in letters} == {"INVALID_ENVELOPE"}
    assert not any(is_json(letter.body) for letter in letters)
    assert refused.attributes["reason"] == "INVALID_ENVELOPE"


def test_each_message_is_in_its_users_message_group(
    shared_ai: AiServer, requests: Requests, request: pytest.FixtureRequest
) -> None:
    # A result queue that no worker consumes.
    queue = shared_ai.sqs.create_queue(QueueName=f"unread-{uuid4().hex}")["QueueUrl"]
    environment = {**SETTINGS, **shared_ai.environment, "SQS_RESULT_QUEUE_URL": queue}
    with StandIn(environment, "--odd", "0") as service:
        request.node.stash[WORKERS].append(service)
        service.wait_until_ready()
        for user in ("ada", "사용자"):
            requests.graph(GraphGenerationRequest(user_id=user, s3_key="in/"))

        received: dict[str, set[str]] = defaultdict(set)
        ended = set()

        def look() -> bool | None:
            answer = shared_ai.sqs.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=10, MessageSystemAttributeNames=["MessageGroupId"]
            )
            for message in answer.get("Messages", []):
                payload = json.loads(message["Body"])["payload"]
                received[payload["userId"]].add(message["Attributes"]["MessageGroupId"])
                if "status" in payload:
                    ended.add(payload["userId"])
            return len(ended) == 2 or None

        found(outcomes.wait_for(look, timeout_s=PATIENCE_S), "both results")

    shared_ai.sqs.delete_queue(QueueUrl=queue)
    assert received == {"ada": {"ada"}, "사용자": {message_group("사용자")}}


def graph_key(user: str, requested: Requested) -> str:
    return f"ai/graph_generation_result/{user}/{requested.id}/graph.json"


def request_letters(ai: AiServer) -> list[outcomes.QueuedLetter]:
    """The dead letters of the request queue, once there are any."""
    url = dead_letter_url(ai.sqs, ai.environment["SQS_REQUEST_QUEUE_URL"])
    return found(outcomes.wait_for(lambda: outcomes.dead_letters(ai.sqs, url) or None, timeout_s=PATIENCE_S), url)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def test_inputs_are_read_from_any_bucket_and_a_missing_one_is_an_error(
    shared_ai: AiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = PayloadBucket(shared_ai.s3, shared_ai.bucket)
    for key in ("many/b.md", "many/a.md", "one.md"):
        shared_ai.s3.put_object(Bucket=shared_ai.bucket, Key=key, Body=key.encode())
    monkeypatch.setattr("graphnode.dev.ai.payload_bucket.LARGEST_INPUT_BYTES", 20)

    assert list(bucket.inputs(["one.md", "many/a.md"])) == ["one.md", "many/a.md"]
    assert bucket.inputs(["many/", "many/a.md"], bucket=shared_ai.bucket) == {
        "many/a.md": b"many/a.md",
        "many/b.md": b"many/b.md",
    }
    assert bucket.find("ai/known/nobody.json") is None
    for keys, where, reason in (
        (["gone.md"], None, "There is no object s3://.*/gone.md"),
        (["gone/"], None, "There are no objects under s3://.*/gone/"),
        (["one.md"], "no-such-bucket", "There is no object s3://no-such-bucket/one.md"),
        (["many/"], "no-such-bucket", "There are no objects under s3://no-such-bucket/many/"),
        (["one.md", "many/"], None, "The input has over 20 bytes in 3 objects"),
    ):
        with pytest.raises(UnreadableInput, match=reason):
            bucket.inputs(keys, bucket=where)
