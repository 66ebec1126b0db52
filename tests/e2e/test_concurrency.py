"""Two processes of eight threads handle the same messages: each has one effect and one notification."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from typing import TYPE_CHECKING

from ulid import ULID

from graphnode.dev import outcomes
from graphnode.dev.child_processes import Worker
from tests.e2e.ai_server import AiServer

if TYPE_CHECKING:
    from graphnode.dev.samples import Result
    from tests.e2e.conftest import StartWorker

#: How often each message is sent.
COPIES = 8

#: The most messages of one call to SQS.
BATCH = 10

#: The reasons for which a message may be tried again here: PostgreSQL aborted its transaction.
HARMLESS = {"DATABASE_CONFLICT"}


def batch(user_id: str, number: int) -> dict[str, bytes]:
    """An add-node batch: two sources that all batches share, in alternating order, and one of its own."""
    first, second = ("both-1", "both-2")[:: 1 if number % 2 else -1]
    own = f"own-{number}"
    cluster = {"clusterId": "cluster_new", "isNewCluster": True, "name": "New", "confidence": 0.5}
    document = {
        "userId": user_id,
        "results": [
            {
                "conversationId": name,
                "nodes": [{"id": f"{user_id}_{name}", "origId": name, "clusterId": "cluster_new", "numMessages": 1}],
                "edges": edges,
                "assignedCluster": cluster,
            }
            for name, edges in (
                (first, [{"source": first, "target": f"{user_id}_{second}", "weight": 0.5}]),
                (second, []),
                (own, [{"source": own, "target": "both-1", "weight": 0.5}]),
            )
        ],
    }
    return {"resultS3Key": json.dumps(document).encode()}


def registered_document(ai: AiServer, kind: str, *, user_id: str) -> str:
    """The ID of a new document in the user's workspace, inserted as the API server does."""
    document_id = f"task_microscope_{kind}_{user_id}_{ULID()}"
    ai.execute(
        "INSERT INTO microscope_workspaces (id, user_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        *(f"ws-{user_id}", user_id),
    )
    ai.execute(
        "INSERT INTO microscope_documents (id, workspace_id, user_id, status) VALUES (%s, %s, %s, 'PENDING')",
        *(document_id, f"ws-{user_id}", user_id),
    )
    return document_id


def twenty_results(ai: AiServer) -> list[Result]:
    """Twenty results of all types, most of them for users with several results."""
    new_nodes = [ai.result("add-node", documents=batch("ada", number)) for number in range(6)]
    new_nodes += [ai.result("add-node", user_id="bob", documents=batch("bob", number)) for number in range(2)]
    progress = [ai.result("progress", extra={"currentStage": "clustering", "progressPercent": 40}) for _ in range(2)]
    files = [ai.result("microscope", task_id=registered_document(ai, "file", user_id="ada")) for _ in range(2)]
    halved = registered_document(ai, "file", user_id="bob")
    halves = [ai.result("microscope", user_id="bob", task_id=halved, half=half) for half in ("block", "nonblock")]
    notes = [registered_document(ai, "node", user_id="cleo") for _ in range(2)]
    return [
        *new_nodes,
        *progress,
        *files,
        *halves,
        ai.result("summary"),
        ai.result("graph", user_id="cleo"),
        ai.result("graph", user_id="emil", status="FAILED", error="Out of memory"),
        ai.result("add-node", user_id="emil", status="FAILED", error="Too long"),
        ai.result("microscope-from-node", user_id="cleo", task_id=notes[0]),
        ai.result("microscope-from-node", user_id="cleo", task_id=notes[1], status="FAILED", error="unreadable"),
    ]


#: The expected notifications of these twenty, by type.
NOTIFIED = {
    "ADD_CONVERSATION_COMPLETED": 8,
    "ADD_CONVERSATION_FAILED": 1,
    "GRAPH_GENERATION_COMPLETED": 1,
    "GRAPH_GENERATION_FAILED": 1,
    "GRAPH_GENERATION_PROGRESS_UPDATED": 2,
    "GRAPH_SUMMARY_COMPLETED": 1,
    "MICROSCOPE_DOCUMENT_COMPLETED": 4,
    "MICROSCOPE_DOCUMENT_FAILED": 1,
    "MICROSCOPE_WORKSPACE_COMPLETED": 3,
}


def upload(ai: AiServer, results: list[Result]) -> None:
    """Upload the documents of results."""
    for result in results:
        for key, content in result.documents.items():
            ai.s3.put_object(Bucket=ai.bucket, Key=key, Body=content)


def send_copies(ai: AiServer, results: list[Result]) -> None:
    """Send COPIES copies of each result in a random order."""
    upload(ai, results)
    bodies = [result.body for result in results] * COPIES
    random.Random(0).shuffle(bodies)
    for start in range(0, len(bodies), BATCH):
        entries = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(bodies[start : start + BATCH])]
        answer = ai.sqs.send_message_batch(QueueUrl=ai.result_queue, Entries=entries)  # type: ignore[arg-type]
        assert not answer.get("Failed")


def retries(worker: Worker) -> Counter[str]:
    """How often messages were tried again, by reason."""
    return Counter(re.findall(r"failed, will be tried again .*\breason=(\w+)", worker.log.text()))


def test_the_same_twenty_messages_eight_times_at_once_have_one_effect_and_one_notification_each(
    ai: AiServer, start_worker: StartWorker
) -> None:
    worker = start_worker(processes=2, threads=8)
    ai.ended(ai.send(ai.result("graph")))
    results = twenty_results(ai)
    assert len(results) == 20
    task_ids = [result.task_id for result in results]

    send_copies(ai, results)
    ai.wait_until_drained()

    tried_again = retries(worker)
    print(f"\n{len(results)} messages, {COPIES} times each: {tried_again.total()} retries {dict(tried_again)}")  # noqa: T201
    assert tried_again.keys() <= HARMLESS
    assert outcomes.dead_letters(ai.sqs, ai.dead_letter_queue) == []
    ended = ai.rows("SELECT task_id, status FROM tasks WHERE task_id = ANY(%(ids)s)", ids=task_ids)
    assert Counter(status for _, status in ended) == {"COMPLETED": 15, "FAILED": 3, "PROGRESS": 2}
    notified = ai.rows("SELECT type FROM notifications WHERE payload ->> 'taskId' = ANY(%(ids)s)", ids=task_ids)
    assert Counter(type_ for (type_,) in notified) == NOTIFIED
    pushed = ai.rows("SELECT DISTINCT push_status, push_attempts FROM notifications WHERE push_error <> 'stored only'")
    assert pushed == [("SKIPPED", 0)]
    graphs_are_whole(ai)


def graphs_are_whole(ai: AiServer) -> None:
    """Check the graphs: in any order of the batches, each source is one node, and each pair is one edge."""
    # Two of ada's generations have told their progress and nothing else: they are under way.
    settled = "SELECT user_id, coalesce(status_before, status), node_count, edge_count FROM graphs ORDER BY user_id"
    assert ai.rows(settled) == [
        ("ada", "UPDATED", 36 + 2 + 6, 67 + 1 + 6),
        ("bob", "UPDATED", 2 + 2, 1 + 2),
        ("cleo", "CREATED", 36, 67),
        ("emil", "NOT_CREATED", 0, 0),
    ]
    for part in ("node", "edge", "cluster"):
        counted = f"SELECT user_id, count(*) FROM graph_{part}s GROUP BY user_id"  # noqa: S608
        noted = f"SELECT user_id, {part}_count FROM graphs WHERE {part}_count > 0"  # noqa: S608
        assert dict(ai.rows(counted)) == dict(ai.rows(noted))
    assert ai.rows("SELECT count(*), min(id), max(id) FROM graph_nodes WHERE user_id = 'bob'") == [(4, 0, 3)]
    added = "SELECT sum((payload -> 'nodeCount')::int), sum((payload -> 'edgeCount')::int) FROM notifications"
    assert ai.rows(f"{added} WHERE user_id = 'ada' AND type = 'ADD_CONVERSATION_COMPLETED'") == [(8, 7)]


def test_a_workspace_whose_last_two_documents_end_in_two_processes_at_once_completes_once(
    ai: AiServer, start_worker: StartWorker
) -> None:
    worker = start_worker(processes=2, threads=8)
    documents = [registered_document(ai, "file", user_id="ada") for _ in range(2)]
    results = [ai.result("microscope", task_id=document) for document in documents]

    with ai.locked_user("ada"):
        send_copies(ai, results)
        ai.wait_until_in_flight(len(results) * COPIES)
    ai.wait_until_drained()

    completions = ai.rows("SELECT payload FROM notifications WHERE type = 'MICROSCOPE_WORKSPACE_COMPLETED'")
    assert [(payload["completedCount"], payload["failedCount"]) for (payload,) in completions] == [(2, 0)]
    assert ai.rows("SELECT count(*) FROM notifications WHERE type = 'MICROSCOPE_DOCUMENT_COMPLETED'") == [(2,)]
    assert retries(worker).keys() <= HARMLESS
