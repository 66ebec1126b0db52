"""What to do about a letter: by its task, its diagnosis, its reason."""

from __future__ import annotations

from unittest.mock import Mock

import msgspec

from graphnode.operations.dead_letters.advice import UNEXPLAINED, advice
from graphnode.operations.dead_letters.diagnosis import Diagnosis, NamedObject
from graphnode.operations.dead_letters.reader import LetterQueue
from graphnode.operations.dead_letters.report import LetterReport, report_letter, what_to_do
from graphnode.operations.stories.story import Story
from tests.unit.operations.dead_letters.samples import make_info, make_letter


def test_the_letter_of_a_completed_task_is_to_be_deleted() -> None:
    story = Story(task_id="t-1", task_type="GRAPH_GENERATION_RESULT", user_id="ada", status="COMPLETED")
    of_its_progress = make_info(task_type="GRAPH_GENERATION_PROGRESS")

    assert "has no effect. Delete it: graphnode dlq delete m-1" in what_to_do(of_its_progress, [story])
    assert what_to_do(make_info(), [story]) == advice("SERVICE_BUSY")


def test_a_diagnosis_decides_what_to_do() -> None:
    assert what_to_do(make_info(), diagnosis=Diagnosis("INVALID_DOCUMENT", "x")) == advice("INVALID_DOCUMENT")
    assert what_to_do(make_info(), diagnosis=Diagnosis(None, "x")) == "What failed is fixed: redrive it."
    unexplained = make_info(reason=UNEXPLAINED)
    assert what_to_do(unexplained, diagnosis=Diagnosis(None, "x")) == advice(UNEXPLAINED)


def test_without_a_database_a_report_says_why_and_what_s3_was_not_asked_for() -> None:
    queue = LetterQueue("results", "https://sqs/r", "arn:r", "https://sqs/r-dlq", "arn:aws:sqs:x:1:r-dlq", None)
    body = '{"taskType": "GRAPH_GENERATION_RESULT", "taskId": "t", "payload": {"resultS3Key": "k"}}'

    report = report_letter(make_letter(body), queue, s3=Mock(spec=[]), bucket=None, no_database="it is away")

    assert (report.note, report.stories) == ("Its task was not looked up: it is away", [])
    assert report.objects == [NamedObject("k", "not looked for: set S3_PAYLOAD_BUCKET")]
    assert report.diagnosis is None


def test_as_json_a_report_calls_its_info_facts() -> None:
    report = LetterReport(
        info=make_info(),
        title="r-dlq",
        body="{}",
        objects=(),
        stories=(),
        note=None,
        diagnosis=None,
        what_to_do="Redrive it.",
    )

    assert list(msgspec.to_builtins(report)) == [
        "facts",
        "title",
        "body",
        "objects",
        "stories",
        "note",
        "diagnosis",
        "what_to_do",
    ]
