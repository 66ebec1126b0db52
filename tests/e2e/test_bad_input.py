"""Bad messages and documents become dead letters with a reason, and delay no others."""

from __future__ import annotations

import json
from base64 import b64encode

import dramatiq
import pytest

from graphnode.dev.outcomes import QueuedLetter
from tests.e2e.ai_server import AiServer
from tests.e2e.conftest import StartWorker


def by_body(letters: list[QueuedLetter]) -> dict[str, dict[str, str]]:
    return {letter.body: letter.attributes for letter in letters}


def test_every_bad_message_is_a_dead_letter_with_its_reason_and_good_ones_are_handled(shared_ai: AiServer) -> None:
    bad = {
        "not JSON at all — ü": "INVALID_ENVELOPE",
        "[1, 2, 3]": "INVALID_ENVELOPE",
        '{"taskId": "t-1", "payload": {}}': "INVALID_ENVELOPE",
        '{"taskType":  "MAKE_COFFEE_RESULT", "taskId": "t-2", "payload": {}}': "UNKNOWN_TASK_TYPE",
        '{"taskType": "ADD_NODE_REQUEST", "taskId": "t-3", "payload": {"userId": "ada"}}': "REQUEST_ON_RESULT_QUEUE",
        '{"taskType": "ADD_NODE_RESULT", "taskId": "t-4", "payload": {"status": "FAILED"}}': "INVALID_ENVELOPE",
        '{"taskType": "ADD_NODE_RESULT", "taskId": "t-5", "payload": {"userId": [], "status": "FAILED"}}': (
            "INVALID_ENVELOPE"
        ),
    }

    for body in bad:
        shared_ai.send_body(body)
    good = shared_ai.send(shared_ai.result("graph"))

    assert shared_ai.ended(good).status == "COMPLETED"
    letters = by_body(shared_ai.dead_letters(len(bad)))
    assert {body: attributes["reason"] for body, attributes in letters.items()} == bad
    unknown = letters['{"taskType":  "MAKE_COFFEE_RESULT", "taskId": "t-2", "payload": {}}']
    assert (unknown["task_id"], unknown["task_type"], unknown["attempt"]) == ("t-2", "MAKE_COFFEE_RESULT", "1")
    assert "no actor handles it" in unknown["error"]
    shared_ai.wait_until_drained()


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (b"{", "not JSON"),
        (b"[]", "expected object"),
        (b'{"nodes": [{"id": 0, "orig_id": "a"}, {"id": "zero", "orig_id": "b"}]}', "nodes[1].id"),
    ],
    ids=["not JSON", "wrong shape", "wrong field"],
)
def test_an_invalid_document_is_a_dead_letter_that_names_the_fault(
    shared_ai: AiServer, document: bytes, error: str
) -> None:
    result = shared_ai.send(shared_ai.result("graph", documents={"resultS3Key": document}))

    (letter,) = shared_ai.dead_letters(1)

    assert letter.body == result.body
    assert letter.attributes["reason"] == "INVALID_DOCUMENT"
    assert error in letter.attributes["error"]
    assert letter.attributes["task_id"] == result.task_id
    assert shared_ai.rows("SELECT status, node_count FROM graphs") == [("NOT_CREATED", 0)]


#: The task, its graph's status, and its user's notifications.
TOLD = """
SELECT tasks.status, tasks.reason, tasks.error, graphs.status,
    (SELECT array_agg(type ORDER BY created_at) FROM notifications WHERE payload ->> 'taskId' = tasks.task_id)
FROM tasks LEFT JOIN graphs USING (user_id) WHERE task_id = %(task_id)s
"""


def test_the_user_is_told_once_that_a_result_cannot_be_used_and_a_redriven_one_still_counts(
    shared_ai: AiServer,
) -> None:
    result = shared_ai.result("graph", documents={"resultS3Key": b'{"nodes": [{"id": "a word"}]}'})
    shared_ai.execute("INSERT INTO graphs (user_id, status, status_before) VALUES ('ada', 'CREATING', 'NOT_CREATED')")
    shared_ai.execute(
        "INSERT INTO tasks (task_id, task_type, user_id, status) VALUES (%s, %s, 'ada', 'PENDING')",
        result.task_id,
        result.task_type,
    )
    shared_ai.send(result)

    (letter,) = shared_ai.dead_letters(1)
    assert shared_ai.rows(TOLD, task_id=result.task_id) == [
        ("FAILED", "REJECTED", "The result could not be read.", "NOT_CREATED", ["GRAPH_GENERATION_FAILED"])
    ]
    # The same result once more.
    shared_ai.send_body(letter.body)
    shared_ai.dead_letters(2)
    assert [told[-1] for told in shared_ai.rows(TOLD, task_id=result.task_id)] == [["GRAPH_GENERATION_FAILED"]]

    whole = shared_ai.result("graph").documents
    (key,) = result.documents
    (graph,) = (content for name, content in whole.items() if name.endswith("graph.json"))
    shared_ai.s3.put_object(Bucket=shared_ai.bucket, Key=key, Body=graph)
    shared_ai.send_body(letter.body)

    shared_ai.wait_until("SELECT 1 FROM tasks WHERE status = 'COMPLETED'")
    [(status, reason, error, graph_status, types)] = shared_ai.rows(TOLD, task_id=result.task_id)
    assert (status, reason, error, graph_status) == ("COMPLETED", None, None, "CREATED")
    assert types == ["GRAPH_GENERATION_FAILED", "GRAPH_GENERATION_COMPLETED"]


def test_the_user_of_a_result_that_is_no_valid_envelope_is_told_if_it_names_task_and_user(
    shared_ai: AiServer,
) -> None:
    shared_ai.send_envelope("ADD_NODE_RESULT", "t-1", {"userId": "ada", "status": "DONE"})

    (letter,) = shared_ai.dead_letters(1)
    assert letter.attributes["reason"] == "INVALID_ENVELOPE"
    assert "payload.status: Expected COMPLETED or FAILED" in letter.attributes["error"]
    [(status, reason, _, _, types)] = shared_ai.rows(TOLD, task_id="t-1")
    assert (status, reason, types) == ("FAILED", "REJECTED", ["ADD_CONVERSATION_FAILED"])


def test_a_missing_document_is_tried_again_until_the_attempts_are_used_up(
    ai: AiServer, start_worker: StartWorker
) -> None:
    start_worker(GRAPHNODE_MAX_ATTEMPTS="2")
    payload = {"userId": "ada", "status": "COMPLETED", "resultS3Key": "nowhere.json"}

    ai.send_envelope("GRAPH_GENERATION_RESULT", "t-1", payload)

    (letter,) = ai.dead_letters(1)
    assert (letter.attributes["reason"], letter.attributes["attempt"]) == ("OBJECT_NOT_FOUND", "2")
    assert "nowhere.json does not exist" in letter.attributes["error"]
    assert ai.rows("SELECT status, reason FROM tasks") == [("FAILED", "REJECTED")]


def test_a_document_that_comes_late_is_stored(ai: AiServer, start_worker: StartWorker) -> None:
    worker = start_worker(GRAPHNODE_MAX_ATTEMPTS="50")
    result = ai.result("graph")
    ai.send_body(result.body)
    ai.wait_for_log(worker, "OBJECT_NOT_FOUND")

    for key, content in result.documents.items():
        ai.s3.put_object(Bucket=ai.bucket, Key=key, Body=content)

    assert ai.ended(result).status == "COMPLETED"


def test_a_document_over_the_size_limit_is_not_read(ai: AiServer, start_worker: StartWorker) -> None:
    start_worker(GRAPHNODE_MAX_DOCUMENT_BYTES="1024")

    ai.send(ai.result("graph"))

    (letter,) = ai.dead_letters(1)
    assert letter.attributes["reason"] == "DOCUMENT_TOO_LARGE"
    assert "the limit is 1024 (GRAPHNODE_MAX_DOCUMENT_BYTES)" in letter.attributes["error"]


def test_a_result_for_another_users_task_stores_nothing(shared_ai: AiServer) -> None:
    shared_ai.execute(
        "INSERT INTO tasks (task_id, task_type, user_id, status)"
        " VALUES ('t-1', 'GRAPH_GENERATION_RESULT', 'eve', 'PENDING')"
    )

    shared_ai.send(shared_ai.result("graph", task_id="t-1"))

    (letter,) = shared_ai.dead_letters(1)
    assert letter.attributes["reason"] == "WRONG_OWNER"
    assert shared_ai.rows("SELECT * FROM graphs") == []
    assert shared_ai.rows("SELECT status FROM tasks") == [("PENDING",)]


def test_a_microscope_result_without_a_user_is_refused(shared_ai: AiServer) -> None:
    shared_ai.send_envelope("MICROSCOPE_INGEST_RESULT", "whose", {"status": "FAILED", "groupId": "ws-1"})

    (letter,) = shared_ai.dead_letters(1)
    assert letter.attributes["reason"] == "INVALID_ENVELOPE"
    assert "taskId 'whose' names no user, and the document is not known" in letter.attributes["error"]
    assert shared_ai.rows("SELECT * FROM microscope_documents") == []


def test_dramatiqs_own_message_on_the_result_queue_reaches_no_actor(shared_ai: AiServer) -> None:
    message = dramatiq.Message[None](
        queue_name="results", actor_name="graph_generation", args=("ada",), kwargs={}, options={}
    )
    forged = [json.dumps(message.asdict()), b64encode(message.encode()).decode()]

    for body in forged:
        shared_ai.send_body(body)

    letters = by_body(shared_ai.dead_letters(2))
    assert {body: attributes["reason"] for body, attributes in letters.items()} == dict.fromkeys(
        forged, "INVALID_ENVELOPE"
    )
