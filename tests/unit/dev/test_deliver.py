from __future__ import annotations

from datetime import UTC, datetime

import pytest

from graphnode.dev import samples
from graphnode.dev.deliver import Outcome, deliver, is_over, outcome_text
from graphnode.dev.outcomes import QueuedLetter, TaskRow
from graphnode.errors import NotSent
from graphnode.text import escaped


def test_a_delivery_ends_in_time_while_services_are_silent(silent_port: int) -> None:
    environment = {
        "DATABASE_URL": f"postgresql://ada@127.0.0.1:{silent_port}/graphs",
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "SQS_RESULT_QUEUE_URL": "http://127.0.0.1:9/000000000000/results",
        "SQS_NOTIFICATION_QUEUE_URL": "http://127.0.0.1:9/000000000000/notifications",
        "S3_PAYLOAD_BUCKET": "bucket",
    }
    result = samples.result_of(samples.kind_of("progress"), user_id="ada", documents={})

    with pytest.raises(NotSent, match=r"Nothing is known to be sent within 0\.2 s"):
        deliver(result, environment, timeout_s=0.2, tell=lambda _line: None)


def task(status: str, *, error: str | None = None, warnings: dict[str, int] | None = None) -> TaskRow:
    return TaskRow(status, 2, None, error, warnings, datetime.now(UTC))


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "SUPERSEDED"])
def test_a_final_status_is_the_end_of_any_message(status: str) -> None:
    assert is_over(task(status), "GRAPH_GENERATION_RESULT")
    assert is_over(task(status), "GRAPH_GENERATION_PROGRESS")


def test_progress_is_the_end_of_only_a_progress_message() -> None:
    assert is_over(task("PROGRESS"), "GRAPH_GENERATION_PROGRESS")
    assert not is_over(task("PROGRESS"), "GRAPH_GENERATION_RESULT")


def test_a_pending_task_is_not_over() -> None:
    assert not is_over(task("PENDING"), "GRAPH_GENERATION_PROGRESS")


def test_the_outcome_has_status_error_and_warnings() -> None:
    outcome = Outcome(task("COMPLETED", error="one source was unreadable", warnings={"self-loops": 3}))

    assert outcome_text(outcome, timeout_s=60) == (
        "COMPLETED at attempt 2\nerror: one source was unreadable\nwarning: self-loops (3)"
    )


def test_the_outcome_says_if_the_message_changed_nothing() -> None:
    assert "changed nothing" in outcome_text(Outcome(task("COMPLETED"), repeated=True), timeout_s=60)


def test_the_outcome_of_a_dead_letter_has_its_reason() -> None:
    letter = QueuedLetter("{}", {"reason": "INVALID_DOCUMENT", "attempt": "1", "error": "$.nodes: missing"})

    text = outcome_text(Outcome(None, letter), timeout_s=60)

    assert text == "DEAD LETTER: INVALID_DOCUMENT at attempt 1: $.nodes: missing"


def test_a_dead_letter_from_sqs_itself_has_no_reason() -> None:
    assert "no reason given" in outcome_text(Outcome(None, QueuedLetter("{}", {})), timeout_s=60)


def test_no_outcome_asks_whether_a_worker_runs() -> None:
    assert "Is a worker running" in outcome_text(None, timeout_s=2)


def test_an_outcome_shows_no_character_that_a_terminal_obeys() -> None:
    hostile = "a\x1b[2J\u202e\nb"
    letter = QueuedLetter("{}", {"reason": "INVALID_DOCUMENT", "attempt": "1", "error": hostile})

    for outcome in (Outcome(None, letter), Outcome(task("FAILED", error=hostile, warnings={hostile: 1}))):
        text = outcome_text(outcome, timeout_s=60)

        assert escaped(text, but="\n") == text
        assert "a\\x1b[2J\\u202e b" in text
