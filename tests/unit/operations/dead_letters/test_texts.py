"""What is told of dead letters: facts, groups, advice. No server is needed."""

from __future__ import annotations

import io
import json
import signal
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from graphnode import errors
from graphnode.cli.dead_letters import interruptible
from graphnode.contract.envelopes import NOTIFICATION_QUEUE, RESULT_QUEUE
from graphnode.errors import GraphNodeError, InvalidLetterFile, OutageError, Postponed
from graphnode.operations.dead_letters.advice import ADVICE, UNEXPLAINED, UNKNOWN, advice
from graphnode.operations.dead_letters.diagnosis import Diagnosis, Found
from graphnode.operations.dead_letters.files import Line, read
from graphnode.operations.dead_letters.letters import Facts, Letter, Wanted, facts_of, outline_of, without_ours
from graphnode.operations.dead_letters.reading import LetterQueue, Listing
from graphnode.operations.dead_letters.terminal import Shown, ago, completeness, list_text, show_text, what_to_do
from graphnode.operations.stories.telling import Attempt, Story
from graphnode.sqs.dead_letter import attributes
from graphnode.sqs.verdicts import DeadLetter, RetryPolicy

NOW = datetime(2026, 5, 24, 12, tzinfo=UTC)

QUEUE = LetterQueue("results", "https://sqs/r", "arn:aws:sqs:x:1:r", "https://sqs/r-dlq", "arn:aws:sqs:x:1:r-dlq", None)


def a_letter(body: str, *, moved_by_sqs: bool = False, **said: Any) -> Letter:
    """A letter with a worker's attributes, if a reason is given."""
    stated = {"error": "busy", "attempt": 8, "task_id": None, "task_type": None, "failed_at": NOW, "worker": "w:1"}
    attached: Any = attributes(body, **{**stated, **said}) if said else {}
    return Letter("m-1", body, attached, "r-1", 3, NOW - timedelta(hours=1), moved_by_sqs)


def facts(**changes: Any) -> Facts:
    known: dict[str, Any] = {
        "queue": "results",
        "message_id": "m-1",
        "reason": "SERVICE_BUSY",
        "stated": True,
        "error": "busy",
        "task_id": "t-1",
        "task_type": "ADD_NODE_RESULT",
        "user_id": "ada",
        "notification_id": None,
        "attempts": 8,
        "received": 1,
        "since": NOW - timedelta(minutes=5),
        "worker": "w:1",
        "body_bytes": 2,
    }
    return Facts(**{**known, **changes})


def shown(**changes: Any) -> Shown:
    known = Shown(facts(), "r-dlq", "{}", objects=(), stories=(), note=None, diagnosis=None)
    return known._replace(**changes)


def classes(kind: type[GraphNodeError]) -> set[type[GraphNodeError]]:
    return {kind}.union(*(classes(sub) for sub in kind.__subclasses__() if sub.__module__ == errors.__name__))


def test_every_reason_a_message_can_be_given_up_for_has_its_advice() -> None:
    policy = RetryPolicy(max_attempts=1)
    of_messages = classes(errors.PermanentError) | classes(errors.TransientError) | classes(OutageError)
    verdicts = {kind.reason: policy.decide(kind(), attempt=1) for kind in of_messages - {Postponed}}

    assert set(ADVICE) == {reason for reason, verdict in verdicts.items() if isinstance(verdict, DeadLetter)} | {
        UNEXPLAINED
    }


def test_a_reason_of_a_newer_worker_is_said_to_be_unknown() -> None:
    assert advice("NEW") == UNKNOWN


def test_a_letter_says_what_a_worker_wrote_beside_it() -> None:
    body = json.dumps({"taskType": "ADD_NODE_RESULT", "taskId": "t-1", "payload": {"user_id": "ada"}})
    letter = a_letter(body, reason="TIME_LIMIT", error="first\nsecond", task_id="t-1", task_type="ADD_NODE_RESULT")

    found = facts_of(letter, RESULT_QUEUE)

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
        ("{", NOTIFICATION_QUEUE, UNEXPLAINED),
        ('{"taskType": "ADD_NODE_REQUEST", "taskId": "t", "payload": {}}', "requests", UNEXPLAINED),
    ],
)
def test_the_reason_of_a_letter_without_one_is_worked_out(body: str, queue: str, reason: str) -> None:
    found = facts_of(a_letter(body, moved_by_sqs=True), queue)

    assert (found.reason, found.stated, found.attempts) == (reason, False, None)
    assert found.since == NOW - timedelta(hours=1)


def test_a_reason_that_an_earlier_death_left_on_a_message_is_not_believed() -> None:
    letter = a_letter("{}", reason="TIME_LIMIT", moved_by_sqs=True)

    assert facts_of(letter, RESULT_QUEUE).reason == "INVALID_ENVELOPE"
    assert without_ours(letter) == {}


def test_the_user_of_a_microscope_letter_is_in_its_task_id() -> None:
    task_id = "task_microscope_file_ada_b_01M884KFE4B7JFTF0JCZQ6WQJG"
    body = json.dumps({"taskType": "MICROSCOPE_INGEST_RESULT", "taskId": task_id, "payload": {}})

    assert facts_of(a_letter(body), RESULT_QUEUE).user_id == "ada_b"


def test_a_message_of_the_worker_itself_tells_its_actor_and_notification() -> None:
    body = json.dumps(
        {
            "queue_name": "notifications",
            "actor_name": "deliver_notification",
            "args": [],
            "kwargs": {"notification_id": "n-1"},
            "options": {},
            "message_id": "x",
            "message_timestamp": 1,
        }
    )

    found = facts_of(a_letter(b64encode(body.encode()).decode()), NOTIFICATION_QUEUE)

    assert (found.task_type, found.notification_id) == ("deliver_notification", "n-1")


def test_attributes_that_a_worker_wrote_are_left_out_and_others_are_kept() -> None:
    letter = a_letter("{}", reason="TIME_LIMIT")
    own: Any = {"DataType": "String", "StringValue": "of the sender"}

    assert without_ours(letter._replace(attributes={**letter.attributes, "trace": own})) == {"trace": own}
    assert without_ours(letter._replace(attributes={"error": own})) == {"error": own}


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Wanted(), True),
        (Wanted(reason="SERVICE_BUSY", task_id="t-1", task_type="ADD_NODE_RESULT"), True),
        (Wanted(reason="TIME_LIMIT"), False),
        (Wanted(task_id="t-2"), False),
        (Wanted(task_type="GRAPH_SUMMARY_RESULT"), False),
        (Wanted(older_than=timedelta(minutes=5)), True),
        (Wanted(older_than=timedelta(minutes=6)), False),
    ],
)
def test_a_letter_is_meant_when_all_that_is_given_matches(wanted: Wanted, matches: bool) -> None:
    assert wanted.matches(facts(), now=NOW) is matches


def test_a_list_has_groups_by_reason_type_and_age_the_largest_reason_first() -> None:
    letters = [
        facts(reason="TIME_LIMIT"),
        *(facts(task_id=f"t-{number}", since=NOW - timedelta(minutes=number)) for number in range(7)),
        facts(since=NOW - timedelta(days=2), task_id="old"),
        facts(task_type=None, task_id=None, message_id="m-9", user_id=None, stated=False, attempts=None, received=2),
    ]

    text = list_text(Listing(QUEUE, letters, missing=0, hidden=0, not_released=0), now=NOW)

    assert text.startswith("r-dlq: 10 dead letters, the oldest 2 d old\n\nSERVICE_BUSY  9\n")
    assert text.index("SERVICE_BUSY") < text.index("TIME_LIMIT  1")
    assert "  ADD_NODE_RESULT, under 1 hour old: 7\n    t-6\n      ada, 8 attempts, 6 min: busy\n" in text
    assert "    … 2 more, with --all" in text
    assert "  ADD_NODE_RESULT, 1 to 7 days old: 1\n    old\n" in text
    assert "  of no known type, under 1 hour old: 1\n    m-9\n      nobody known, received 2 times, 5 min: busy" in text
    assert "more, with" not in list_text(Listing(QUEUE, letters, 0, 0, 0), now=NOW, most=None)


def test_a_list_is_as_wide_as_a_terminal_and_obeys_nothing_that_is_in_it() -> None:
    letters = [facts(error="가나다 " * 90, user_id="\x1b[31m\u202eada"), facts(error="x" * 300, reason="\x07BELL")]

    text = list_text(Listing(QUEUE, letters, 0, 0, 0), now=NOW)

    assert max(map(cell_len, text.splitlines())) <= 80
    assert "[…]" in text
    assert not {"\x1b", "\u202e", "\x07"} & set(text)


def test_what_a_list_cannot_vouch_for_is_said() -> None:
    assert completeness(Listing(QUEUE, [], 0, 0, 0)) == []
    assert [note.partition(": ")[2] for note in completeness(Listing(QUEUE, [], 3, 2, 1))] == [
        "SQS says there are about 3 more: the list may be incomplete.",
        "about 2 letters were in somebody else's hands, and are not listed.",
        "1 dead letter could not be given back: hidden for up to 120 s.",
    ]


def test_a_letter_is_shown_with_all_that_was_found() -> None:
    attempts = [
        Attempt(at=NOW, number=1, reason="UNEXPECTED", error="boom", given_up=False, stack="first"),
        Attempt(at=NOW + timedelta(1), number=2, reason="UNEXPECTED", error="boom", given_up=True, stack="last\nline"),
    ]
    story = Story(task_id="t-1", task_type="ADD_NODE_RESULT", user_id="ada", attempts=attempts)

    text = show_text(
        shown(
            body='{"taskId":"t-1","n":{"ü":1}}',
            objects=[Found("s3://b/k", "IS NOT THERE")],
            stories=[story],
            diagnosis=Diagnosis("OBJECT_NOT_FOUND", "s3://b/k does not exist (yet)"),
        ),
        now=NOW,
    )

    assert text.startswith("m-1 on r-dlq\n  ADD_NODE_RESULT of ada; 2026-05-24 11:55:00 UTC (5 min ago), 8 attempts,")
    assert 'Body (2 bytes)\n  {\n    "taskId": "t-1",\n    "n": {\n      "ü": 1\n    }\n  }' in text
    assert "Objects\n  s3://b/k\n    IS NOT THERE" in text
    assert "Diagnosis: OBJECT_NOT_FOUND" in text
    assert "  More: docs/runbook.md#object_not_found\n" in text
    assert text.endswith("Stack of the last attempt\n  last\n  line")


def test_a_body_that_is_no_json_is_shown_as_it_is_with_escapes_and_bounded() -> None:
    text = show_text(shown(body="{\x1b[31m" + "x\n" * 100), now=NOW)

    assert "  {\\x1b[31mx\n" in text
    assert "[…] all of it: graphnode dlq export FILE" in text


def test_the_letter_of_a_completed_task_is_to_be_deleted() -> None:
    story = Story(task_id="t-1", task_type="GRAPH_GENERATION_RESULT", user_id="ada", status="COMPLETED")
    of_its_progress = shown(facts=facts(task_type="GRAPH_GENERATION_PROGRESS"), stories=[story])

    assert "has no effect. Delete it: graphnode dlq delete m-1" in what_to_do(of_its_progress)
    assert what_to_do(shown(stories=[story])) == advice("SERVICE_BUSY")


def test_a_diagnosis_decides_what_to_do() -> None:
    assert what_to_do(shown(diagnosis=Diagnosis("INVALID_DOCUMENT", "x"))) == advice("INVALID_DOCUMENT")
    assert what_to_do(shown(diagnosis=Diagnosis(None, "x"))) == "What failed is mended: redrive it."
    unexplained = shown(facts=facts(reason=UNEXPLAINED), diagnosis=Diagnosis(None, "x"))
    assert what_to_do(unexplained) == advice(UNEXPLAINED)


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


def test_a_file_that_is_no_export_is_refused_by_its_line() -> None:
    good = b'{"queue":"results","message_id":"m","sent_at":"2026-05-24T12:00:00Z","received":1,"moved_by_sqs":false,'
    good += b'"attributes":{"a":{"type":"Binary","binary":"AAE="}},"body":"{"}\n'

    (line,) = read(io.BytesIO(good))

    assert line.letter().attributes == {"a": {"DataType": "Binary", "BinaryValue": b"\0\1"}}
    assert Line.of(line.letter(), "results") == line
    with pytest.raises(InvalidLetterFile, match=r"^Line 2 is no letter"):
        list(read(io.BytesIO(good + b"{}\n")))


def test_the_first_ctrl_c_asks_for_an_end_and_the_second_one_ends() -> None:
    before = signal.getsignal(signal.SIGINT)

    with interruptible() as stopping:
        assert not stopping()
        signal.raise_signal(signal.SIGINT)
        assert stopping()
        assert signal.getsignal(signal.SIGINT) is before

    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("line", [b'{"a": ' + b"[" * 5000, b'{"a": ' + b"[" * 300 + b"9" * 5000, b'"\xff"'])
def test_no_line_is_too_odd_to_be_refused_briefly(line: bytes) -> None:
    with pytest.raises(InvalidLetterFile, match=r"^Line 1 is no letter") as raised:
        list(read(io.BytesIO(line)))

    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "fields", [{"kwargs": []}, {"kwargs": {"notification_id": 7}}, {"options": 7}, {"args": "x"}, {"queue_name": None}]
)
def test_a_forged_message_of_the_workers_own_names_no_notification(fields: dict[str, Any]) -> None:
    message = {
        "queue_name": "notifications",
        "actor_name": "deliver_notification",
        "args": [],
        "kwargs": {},
        "options": {},
        "message_id": "m",
        "message_timestamp": 1,
    }
    body = b64encode(json.dumps({**message, **fields}).encode()).decode()

    assert outline_of(body, NOTIFICATION_QUEUE).notification_id is None
