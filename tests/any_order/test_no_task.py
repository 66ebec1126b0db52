"""Results whose task ID is "unknown": some old AI builds send it, and it names no task."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from graphnode.contract.bodies import ids_of_body
from graphnode.errors import InvalidEnvelope
from graphnode.storage.database import database
from tests.any_order.delivery import Bench, deliver
from tests.chaos.model.state import Message

pytestmark = pytest.mark.usefixtures("in_this_process")


def sent(task_type: str, **payload: Any) -> Message:
    body = {"taskType": task_type, "taskId": "unknown", "payload": payload}
    return Message(body, datetime(2026, 5, 24, 8, tzinfo=UTC), {})


def rows(query: str) -> list[tuple[Any, ...]]:
    return list(database.execute_sql(query))


def test_a_result_counts_for_its_user_under_the_messages_id(in_this_process: Bench) -> None:
    in_this_process.documents["graph"] = {"nodes": [{"id": 0, "orig_id": "conv-1"}]}
    messages = [
        sent("GRAPH_GENERATION_RESULT", userId=user_id, status="COMPLETED", resultS3Key="graph")
        for user_id in ("ada", "grace")
    ]

    for message in messages:
        deliver(message, attempt=1)

    assert rows("SELECT user_id, orig_id FROM graph_nodes ORDER BY user_id") == [("ada", "conv-1"), ("grace", "conv-1")]
    assert rows("SELECT user_id, task_id, status FROM tasks ORDER BY user_id") == [
        (user_id, message.id, "COMPLETED") for user_id, message in zip(("ada", "grace"), messages, strict=True)
    ]


def test_a_message_that_is_delivered_again_has_no_further_effect() -> None:
    failed = sent("ADD_NODE_RESULT", userId="ada", status="FAILED")

    for attempt in (1, 2):
        deliver(failed, attempt=attempt)

    assert rows("SELECT type, payload ->> 'taskId' FROM notifications") == [("ADD_CONVERSATION_FAILED", failed.id)]


def test_progress_is_ignored_because_no_result_would_end_its_task() -> None:
    deliver(sent("GRAPH_GENERATION_PROGRESS", userId="ada", currentStage="clustering", progressPercent=50), attempt=1)

    assert rows("SELECT task_id FROM tasks") == rows("SELECT id FROM notifications") == []


def test_a_microscope_result_is_a_document_of_its_own_if_it_names_its_user() -> None:
    named = sent("MICROSCOPE_INGEST_RESULT", user_id="ada", group_id="w1", status="FAILED", error="unreadable")

    deliver(named, attempt=1)
    with pytest.raises(InvalidEnvelope, match="userId"):
        deliver(sent("MICROSCOPE_INGEST_RESULT", group_id="w1", status="FAILED"), attempt=1)

    assert rows("SELECT id, user_id, workspace_id, error FROM microscope_documents") == [
        (named.id, "ada", "w1", "unreadable")
    ]


def test_its_dead_letter_names_no_task() -> None:
    body = json.dumps(sent("ADD_NODE_RESULT", userId="ada", status="FAILED").body)

    assert ids_of_body(body) == (None, "ADD_NODE_RESULT")
