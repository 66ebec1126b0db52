"""Which letters an action is about, for the audit table: it names a user's things only together with the user."""

from __future__ import annotations

from datetime import timedelta

import pytest

from graphnode.operations.dead_letters.letters import LetterFilter
from graphnode.operations.dead_letters.subject import subject_of


@pytest.mark.parametrize(
    ("wanted", "text", "user_id"),
    [
        (LetterFilter(), "dead letters", None),
        (LetterFilter(reason="TIME_LIMIT", task_type="X"), "dead letters with TIME_LIMIT of type X", None),
        (LetterFilter(older_than=timedelta(hours=1)), "dead letters older than 1:00:00", None),
        (LetterFilter(message_ids=frozenset({"m"})), "dead letters that were chosen", None),
        (LetterFilter(user_id="ada"), "dead letters of user ada", "ada"),
        (LetterFilter(task_id="who knows"), "dead letters of one task", None),
        (
            LetterFilter(task_id="task_microscope_file_ada_01JXZ5E9QK3V8N2M4P6R7S9T0A"),
            "dead letters of task task_microscope_file_ada_01JXZ5E9QK3V8N2M4P6R7S9T0A",
            "ada",
        ),
    ],
)
def test_each_condition_is_said(wanted: LetterFilter, text: str, user_id: str | None) -> None:
    assert subject_of(wanted) == (text, user_id)


def test_count_and_queues_are_said_if_they_are_known() -> None:
    assert subject_of(LetterFilter(), queues="results", count=1).text == "1 dead letter of results"
    assert subject_of(LetterFilter(), count=1234).text == "1,234 dead letters"
