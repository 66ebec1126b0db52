from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from graphnode.sqs.dead_letter import ATTRIBUTES, LONGEST_ERROR, REFUSED_CHARACTERS, attributes
from graphnode.sqs.queues import LARGEST_MESSAGE_BYTES

#: The most attributes of a message (an SQS quota).
MOST_ATTRIBUTES = 10


def letter(body: str = "{}", **changes: Any) -> dict[str, str]:
    fields: dict[str, Any] = {
        "reason": "INVALID_ENVELOPE",
        "error": "taskType: expected a text; it is not given",
        "attempt": 3,
        "task_id": "t-1",
        "task_type": "ADD_NODE_RESULT",
        "failed_at": datetime(2026, 5, 24, tzinfo=UTC),
        "worker": "host:7",
        "original_message_id": "5fea7756-0ea4-451a-a703-a558b933e274",
    }
    made = attributes(body, **{**fields, **changes})
    assert all(value["DataType"] == "String" for value in made.values())
    return {name: value["StringValue"] for name, value in made.items()}


def test_a_dead_letter_says_why_when_and_where() -> None:
    assert letter() == {
        "reason": "INVALID_ENVELOPE",
        "error": "taskType: expected a text; it is not given",
        "attempt": "3",
        "task_id": "t-1",
        "task_type": "ADD_NODE_RESULT",
        "failed_at": "2026-05-24T00:00:00+00:00",
        "worker": "host:7",
        "original_message_id": "5fea7756-0ea4-451a-a703-a558b933e274",
    }


def test_a_letter_has_no_more_attributes_than_sqs_accepts() -> None:
    assert len(ATTRIBUTES) <= MOST_ATTRIBUTES


def test_a_task_id_and_type_that_the_body_lacks_are_left_out() -> None:
    assert {"task_id", "task_type"}.isdisjoint(letter(task_id=None, task_type=None))


def test_a_long_error_is_shortened_with_a_mark() -> None:
    error = letter(error="x" * 5000)["error"]

    assert len(error) == LONGEST_ERROR
    assert error.endswith(" […]")


def test_a_body_at_the_size_limit_goes_without_attributes() -> None:
    assert letter("x" * LARGEST_MESSAGE_BYTES) == {}


def test_a_body_near_the_limit_keeps_the_most_important_attributes() -> None:
    made = letter("x" * (LARGEST_MESSAGE_BYTES - 40))

    assert list(made) == ["reason"]


def test_characters_that_sqs_refuses_are_replaced() -> None:
    assert letter(error="a\0b\x1bc\ud800d")["error"] == "a\ufffdb\ufffdc\ufffdd"


@given(st.text(), st.text(), st.integers(min_value=0, max_value=300))
def test_a_dead_letter_stays_within_the_limits_of_sqs(error: str, task_id: str, room: int) -> None:
    body = "x" * (LARGEST_MESSAGE_BYTES - room)
    made = letter(body, error=error, task_id=task_id)

    size = len(body) + sum(len(name) + len("String") + len(value.encode()) for name, value in made.items())
    assert size <= LARGEST_MESSAGE_BYTES
    assert len(made) <= 10
    assert set(made) <= set(ATTRIBUTES)
    assert not any(REFUSED_CHARACTERS.search(value) for value in made.values())
