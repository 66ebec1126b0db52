from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from graphnode.contract.envelopes import ROUTES, Envelope, ResultPayload
from graphnode.contract.rejections import rejected, to_message_or_rejection
from graphnode.errors import InvalidEnvelope, PermanentError, UnknownTaskType

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)
RESULTS = [task_type for task_type, route in ROUTES.items() if issubclass(route.payload, ResultPayload)]


def decoded(task_type: str, payload: dict[str, Any], *, task_id: str = "t-1") -> Any:
    body = json.dumps({"taskType": task_type, "taskId": task_id, "payload": payload})
    return to_message_or_rejection(body, message_id="m", sent_at=NOON, receive_count=3)


@pytest.mark.parametrize("task_type", RESULTS)
def test_a_result_that_cannot_be_used_is_replaced_by_a_failed_one_without_its_objects(task_type: str) -> None:
    keys = {"resultS3Key": "a.json", "summaryS3Key": "b.json", "standardized_s3_key": "c.json"}
    payload = {"userId": "ada", "status": "COMPLETED", "error": "half of it", "groupId": "ws", **keys}
    (envelope,) = decoded(task_type, payload).args

    end = rejected(envelope, "INVALID_DOCUMENT")

    assert end
    assert (end.task_id, end.task_type, end.timestamp, end.is_rejected) == ("t-1", task_type, NOON, True)
    assert (end.payload.status, end.payload.error) == ("FAILED", "The result could not be read.")
    assert (end.payload.s3_keys, end.payload.user_id) == ([], "ada")  # type: ignore[attr-defined]
    assert getattr(end.payload, "group_id", "ws") == "ws"


@pytest.mark.parametrize("reason", ["WRONG_OWNER", "NOT_REGISTERED"])
def test_a_workspace_that_may_be_why_a_result_is_refused_is_left_out_of_the_failed_one(reason: str) -> None:
    (envelope,) = decoded("MICROSCOPE_INGEST_RESULT", {"userId": "ada", "status": "COMPLETED", "groupId": "ws"}).args

    end = rejected(envelope, reason)

    assert end
    assert end.payload.group_id is None  # type: ignore[attr-defined]


def test_a_body_that_names_its_user_by_a_number_ends_the_task_of_that_user() -> None:
    (envelope,) = decoded("GRAPH_GENERATION_RESULT", {"userId": 7, "status": "DONE"}).args

    assert (envelope.payload.status, envelope.payload.user_id) == ("FAILED", "7")


def test_progress_that_cannot_be_used_ends_no_task() -> None:
    payload = {"userId": "ada", "currentStage": "clustering", "progressPercent": 40}
    (envelope,) = decoded("GRAPH_GENERATION_PROGRESS", payload).args

    assert rejected(envelope, "TIME_LIMIT") is None


@pytest.mark.parametrize(
    ("task_type", "payload", "task_id"),
    [
        ("GRAPH_GENERATION_RESULT", {"userId": "ada", "status": "DONE"}, "t-1"),
        ("ADD_NODE_RESULT", {"user_id": "ada", "status": "COMPLETED"}, "t-1"),
        ("ADD_NODE_RESULT", {"user_id": "ada", "status": "COMPLETED", "error": "\0"}, "t-1"),
        ("MICROSCOPE_INGEST_RESULT", {"status": "DONE"}, "task_microscope_file_ada_01J9ZZZZZZZZZZZZZZZZZZZZZZ"),
    ],
)
def test_a_body_that_is_no_valid_result_ends_the_task_that_it_names_and_keeps_its_error(
    task_type: str, payload: dict[str, Any], task_id: str
) -> None:
    message = decoded(task_type, payload, task_id=task_id)

    (envelope,) = message.args
    assert isinstance(envelope, Envelope)
    assert (envelope.task_id, envelope.task_type, envelope.is_rejected) == (task_id, task_type, True)
    assert (envelope.payload.status, envelope.payload.user_id) == ("FAILED", "ada")
    assert message.actor_name == ROUTES[task_type].actor
    assert isinstance(message.options["rejection"], InvalidEnvelope)
    assert message.options["log_fields"] == {"task_id": task_id, "task_type": task_type, "user_id": "ada"}


@pytest.mark.parametrize(
    ("task_type", "payload", "task_id"),
    [
        ("MAKE_COFFEE_RESULT", {"userId": "ada"}, "t-1"),
        ("GRAPH_GENERATION_PROGRESS", {"currentStage": "s"}, "t-1"),
        ("GRAPH_GENERATION_RESULT", {"status": "DONE"}, "t-1"),
        ("GRAPH_GENERATION_RESULT", {"userId": "a" * 201, "status": "DONE"}, "t-1"),
        ("GRAPH_GENERATION_RESULT", {"userId": "ada", "status": "DONE"}, "t" * 401),
        ("GRAPH_GENERATION_RESULT", {"userId": "ada\0", "status": "DONE"}, "t-1"),
    ],
)
def test_a_body_that_names_no_task_of_a_user_is_only_refused(
    task_type: str, payload: dict[str, Any], task_id: str
) -> None:
    with pytest.raises(PermanentError):
        decoded(task_type, payload, task_id=task_id)


def test_an_unknown_type_is_refused_as_such() -> None:
    with pytest.raises(UnknownTaskType):
        decoded("MAKE_COFFEE_RESULT", {"userId": "ada"})
