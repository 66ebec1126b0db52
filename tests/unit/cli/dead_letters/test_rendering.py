"""Dead letters on a terminal: groups, texts, widths."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from graphnode.cli.dead_letters.rendering import ago, incompleteness, letter_text, list_text
from graphnode.operations.dead_letters.diagnosis import Diagnosis, NamedObject
from graphnode.operations.dead_letters.letters import LetterFilter
from graphnode.operations.dead_letters.reader import LetterQueue, Listing
from graphnode.operations.dead_letters.report import LetterReport
from graphnode.operations.stories.story import FailedAttempt, Story
from tests.unit.operations.dead_letters.samples import NOW, make_info

QUEUE = LetterQueue("results", "https://sqs/r", "arn:aws:sqs:x:1:r", "https://sqs/r-dlq", "arn:aws:sqs:x:1:r-dlq", None)


def make_report(**changes: Any) -> LetterReport:
    known: dict[str, Any] = {"info": make_info(), "title": "r-dlq", "body": "{}", "what_to_do": "Redrive it."}
    known |= {"objects": (), "stories": (), "note": None, "diagnosis": None}
    return LetterReport(**{**known, **changes})


def test_a_list_has_groups_by_reason_type_and_age_the_largest_reason_first() -> None:
    letters = [
        make_info(reason="TIME_LIMIT"),
        *(make_info(task_id=f"t-{number}", since=NOW - timedelta(minutes=number)) for number in range(7)),
        make_info(since=NOW - timedelta(days=2), task_id="old"),
        make_info(
            task_type=None, task_id=None, message_id="m-9", user_id=None, stated=False, attempts=None, received=2
        ),
    ]

    text = list_text(Listing(QUEUE, letters, missing=0, hidden=0, not_released=0), now=NOW)

    assert text.startswith("r-dlq: 10 dead letters, the oldest 2 d old\n\nSERVICE_BUSY  9\n")
    assert text.index("SERVICE_BUSY") < text.index("TIME_LIMIT  1")
    assert "  ADD_NODE_RESULT, under 1 hour old: 7\n    t-6\n      ada, 8 attempts, 6 min: busy\n" in text
    assert "    … 2 more, with --all" in text
    assert "  ADD_NODE_RESULT, 1 to 7 days old: 1\n    old\n" in text
    assert "  unknown type, under 1 hour old: 1\n    m-9\n      unknown user, received 2 times, 5 min: busy" in text
    assert "more, with" not in list_text(Listing(QUEUE, letters, 0, 0, 0), now=NOW, most=None)


def test_a_list_is_as_wide_as_a_terminal_and_has_no_control_characters() -> None:
    letters = [
        make_info(error="가나다 " * 90, user_id="\x1b[31m\u202eada"),
        make_info(error="x" * 300, reason="\x07BELL"),
    ]

    text = list_text(Listing(QUEUE, letters, 0, 0, 0), now=NOW)

    assert max(map(cell_len, text.splitlines())) <= 80
    assert "[…]" in text
    assert not {"\x1b", "\u202e", "\x07"} & set(text)


@pytest.mark.parametrize(
    ("wanted", "others", "expected"),
    [
        (LetterFilter("TIME_LIMIT"), 2, "none with this reason; 2 others"),
        (
            LetterFilter("TIME_LIMIT", "t-1", "ADD_NODE_RESULT"),
            1,
            "none with this reason and of this task and of this type; 1 other",
        ),
        (LetterFilter(older_than=timedelta(days=1)), 1_000, "none of this age; 1,000 others"),
        (LetterFilter("TIME_LIMIT"), 0, "no dead letters"),
    ],
)
def test_an_empty_queue_and_one_without_a_match_are_told_apart(
    wanted: LetterFilter, others: int, expected: str
) -> None:
    assert list_text(Listing(QUEUE, [], 0, 0, 0, wanted, others), now=NOW) == f"r-dlq: {expected}"


def test_a_list_with_a_filter_counts_the_others() -> None:
    listing = Listing(QUEUE, [make_info()], 0, 0, 0, LetterFilter("SERVICE_BUSY"), 3)

    assert list_text(listing, now=NOW).startswith("r-dlq: 1 dead letter, the oldest 5 min old; 3 others\n")


def test_a_queue_whose_letters_are_in_flight_is_not_called_empty() -> None:
    assert list_text(Listing(QUEUE, [], 0, 2, 0), now=NOW) == "r-dlq: none could be read"


def test_a_list_says_why_it_may_be_incomplete() -> None:
    assert incompleteness(Listing(QUEUE, [], 0, 0, 0)) == []
    assert [note.partition(": ")[2] for note in incompleteness(Listing(QUEUE, [], 3, 2, 1))] == [
        "SQS says there are about 3 more: the list may be incomplete.",
        "about 2 letters were in flight elsewhere, and are not listed.",
        "1 dead letter could not be made visible again: hidden for up to 120 s.",
    ]


def test_a_letter_is_shown_with_all_that_was_found() -> None:
    attempts = [
        FailedAttempt(at=NOW, number=1, reason="UNEXPECTED", error="boom", given_up=False, stack="first"),
        FailedAttempt(
            at=NOW + timedelta(1), number=2, reason="UNEXPECTED", error="boom", given_up=True, stack="last\nline"
        ),
    ]
    story = Story(task_id="t-1", task_type="ADD_NODE_RESULT", user_id="ada", attempts=attempts)

    text = letter_text(
        make_report(
            body='{"taskId":"t-1","n":{"ü":1}}',
            objects=[NamedObject("s3://b/k", "IS NOT THERE")],
            stories=[story],
            diagnosis=Diagnosis("OBJECT_NOT_FOUND", "s3://b/k does not exist (yet)"),
        ),
        now=NOW,
    )

    assert text.startswith("m-1 on r-dlq\n  ADD_NODE_RESULT of ada; 2026-05-24 11:55:00 UTC (5 min ago), 8 attempts,")
    assert 'Body (2 bytes)\n  {\n    "taskId": "t-1",\n    "n": {\n      "ü": 1\n    }\n  }' in text
    assert "Objects\n  s3://b/k\n    IS NOT THERE" in text
    assert "Diagnosis: OBJECT_NOT_FOUND" in text
    assert "What to do\n  Redrive it.\n" in text
    assert "  More: docs/runbook.md#object_not_found\n" in text
    assert text.endswith("Stack of the last attempt\n  last\n  line")


def test_a_body_that_is_no_json_is_shown_as_it_is_with_escapes_and_bounded() -> None:
    text = letter_text(make_report(body="{\x1b[31m" + "x\n" * 100), now=NOW)

    assert "  {\\x1b[31mx\n" in text
    assert "[…] all of it: graphnode dlq export FILE" in text


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=-1), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=59), "59 min"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=3), "3 d"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(span: timedelta, text: str) -> None:
    assert ago(span) == text
