"""What is known of a letter: from its attributes, and from its body."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import timedelta
from typing import Any

import pytest

from graphnode.contract.envelopes import REQUEST_QUEUE, RESULT_QUEUE
from graphnode.operations.dead_letters.advice import UNEXPLAINED
from graphnode.operations.dead_letters.letters import (
    LetterFilter,
    letter_info,
    sender_attributes,
    sender_group,
    summarize,
)
from tests.unit.operations.dead_letters.samples import NOW, make_info, make_letter

#: A queue of Dramatiq's own messages.
OWN_QUEUE = "own"


def test_what_a_worker_wrote_beside_a_letter_is_read() -> None:
    body = json.dumps({"taskType": "ADD_NODE_RESULT", "taskId": "t-1", "payload": {"user_id": "ada"}})
    letter = make_letter(body, reason="TIME_LIMIT", error="first\nsecond", task_id="t-1", task_type="ADD_NODE_RESULT")

    found = letter_info(letter, RESULT_QUEUE)

    assert (found.reason, found.stated, found.error, found.attempts) == ("TIME_LIMIT", True, "first", 8)
    assert (found.task_id, found.task_type, found.user_id) == ("t-1", "ADD_NODE_RESULT", "ada")
    assert (found.since, found.worker, found.received) == (NOW, "w:1", 3)


@pytest.mark.parametrize(
    ("body", "queue", "reason"),
    [
        ("{", RESULT_QUEUE, "INVALID_ENVELOPE"),
        ('{"taskType": "COFFEE", "taskId": "t", "payload": {}}', RESULT_QUEUE, "UNKNOWN_TASK_TYPE"),
        ('{"taskType": "ADD_NODE_REQUEST", "taskId": "t", "payload": {}}', RESULT_QUEUE, "REQUEST_ON_RESULT_QUEUE"),
        (
            '{"taskType": "ADD_NODE_RESULT", "taskId": "t", "payload": {"userId": "a", "status": "FAILED"}}',
            RESULT_QUEUE,
            UNEXPLAINED,
        ),
        ("{", OWN_QUEUE, UNEXPLAINED),
        ('{"taskType": "ADD_NODE_REQUEST", "taskId": "t", "payload": {}}', REQUEST_QUEUE, UNEXPLAINED),
    ],
)
def test_the_reason_of_a_letter_without_one_is_inferred(body: str, queue: str, reason: str) -> None:
    found = letter_info(make_letter(body, moved_by_sqs=True), queue)

    assert (found.reason, found.stated, found.attempts) == (reason, False, None)
    assert found.since == NOW - timedelta(hours=1)


def test_a_reason_from_before_a_move_task_is_ignored() -> None:
    letter = make_letter("{}", reason="TIME_LIMIT", moved_by_sqs=True)

    assert letter_info(letter, RESULT_QUEUE).reason == "INVALID_ENVELOPE"
    assert sender_attributes(letter) == {}


def test_the_user_of_a_microscope_letter_is_in_its_task_id() -> None:
    task_id = "task_microscope_file_ada_b_01M884KFE4B7JFTF0JCZQ6WQJG"
    body = json.dumps({"taskType": "MICROSCOPE_INGEST_RESULT", "taskId": task_id, "payload": {}})

    assert letter_info(make_letter(body), RESULT_QUEUE).user_id == "ada_b"


def test_a_message_of_the_worker_itself_has_its_actor_and_notification() -> None:
    body = json.dumps(
        {
            "queue_name": OWN_QUEUE,
            "actor_name": "tell",
            "args": [],
            "kwargs": {"notification_id": "n-1"},
            "options": {},
            "message_id": "x",
            "message_timestamp": 1,
        }
    )

    found = letter_info(make_letter(b64encode(body.encode()).decode()), OWN_QUEUE)

    assert (found.task_type, found.notification_id) == ("tell", "n-1")


@pytest.mark.parametrize(
    "fields", [{"kwargs": []}, {"kwargs": {"notification_id": 7}}, {"options": 7}, {"args": "x"}, {"queue_name": None}]
)
def test_a_forged_message_of_the_workers_own_names_no_notification(fields: dict[str, Any]) -> None:
    message = {
        "queue_name": OWN_QUEUE,
        "actor_name": "tell",
        "args": [],
        "kwargs": {},
        "options": {},
        "message_id": "m",
        "message_timestamp": 1,
    }
    body = b64encode(json.dumps({**message, **fields}).encode()).decode()

    assert summarize(body, OWN_QUEUE).notification_id is None


def test_attributes_that_a_worker_wrote_are_left_out_and_others_are_kept() -> None:
    letter = make_letter("{}", reason="TIME_LIMIT")
    own: Any = {"DataType": "String", "StringValue": "of the sender"}

    assert sender_attributes(letter._replace(attributes={**letter.attributes, "trace": own})) == {"trace": own}
    assert sender_attributes(letter._replace(attributes={"error": own})) == {"error": own}


def test_a_message_is_put_back_into_its_own_group_or_else_its_users() -> None:
    letter = make_letter('{"taskType": "ADD_NODE_RESULT", "payload": {"userId": "ada"}}', reason="TIME_LIMIT")

    assert sender_group(letter._replace(group_id="of the sender")) == "of the sender"
    assert sender_group(letter) == "ada"
    assert sender_group(make_letter("{")) is None


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (LetterFilter(), True),
        (LetterFilter(reason="SERVICE_BUSY", task_id="t-1", task_type="ADD_NODE_RESULT"), True),
        (LetterFilter(reason="TIME_LIMIT"), False),
        (LetterFilter(task_id="t-2"), False),
        (LetterFilter(task_type="GRAPH_SUMMARY_RESULT"), False),
        (LetterFilter(older_than=timedelta(minutes=5)), True),
        (LetterFilter(older_than=timedelta(minutes=6)), False),
    ],
)
def test_a_letter_matches_a_filter_when_it_meets_all_conditions(wanted: LetterFilter, matches: bool) -> None:
    assert wanted.matches(make_info(), now=NOW) is matches
