"""Sending one result as the AI server would, and saying what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from graphnode.dev import outcomes, samples
from graphnode.dev.aws import dead_letter_url, s3_client, sqs_client
from graphnode.dev.outcomes import DeadLetter, Task
from graphnode.settings import Settings, read_settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from psycopg2.extensions import connection

#: Statuses of a task on which a message's effect is over. Progress has its effect, and ends no task.
FINAL = frozenset({"COMPLETED", "FAILED", "SUPERSEDED"})
PROGRESS = "PROGRESS"


class Outcome(NamedTuple):
    """What became of a message.

    Parameters:
      task: its task's row, if there is one.
      letter: its dead letter, if it ended there.
      repeated: the task was final before, and the message changed nothing.
    """

    task: Task | None
    letter: DeadLetter | None = None
    repeated: bool = False


def deliver(
    result: samples.Result, environment: Mapping[str, str], *, timeout_s: float, tell: Callable[[str], None]
) -> Outcome | None:
    """Send a result and wait until the worker is done with it; None when the time is over.

    Parameters:
      environment: names of docs/settings.md.
      tell: takes a line for each thing done.

    Raises SettingsError, or what boto3 and psycopg2 raise when a service cannot be reached.
    """
    settings = read_settings(environment, Settings)
    queue_url, bucket = settings.sqs_result_queue_url, settings.s3_payload_bucket
    sqs = sqs_client(environment)
    dead_letters = dead_letter_url(sqs, queue_url)
    with outcomes.reading(settings.database_url) as database:
        before = outcomes.task(database, task_id=result.task_id, task_type=result.task_type)
        for key, content in result.documents.items():
            tell(f"put   s3://{bucket}/{key} ({len(content):,} bytes)")
        samples.send(result, sqs=sqs, s3=s3_client(environment), queue_url=queue_url, bucket=bucket)
        tell(f"sent  {result.task_type} {result.task_id}")
        return outcomes.wait_for(
            lambda: look(result, before, database, sqs, queue_url=queue_url, dead_letters=dead_letters),
            timeout_s=timeout_s,
        )


def look(
    result: samples.Result,
    before: Task | None,
    database: connection,
    sqs: SQSClient,
    *,
    queue_url: str,
    dead_letters: str,
) -> Outcome | None:
    """What has become of the message, if anything has."""
    # Looked at before the row: a message leaves its queue after its effect, so on an empty queue the row is final.
    handled = outcomes.is_empty(sqs, queue_url)
    now = outcomes.task(database, task_id=result.task_id, task_type=result.task_type)
    over = now is not None and is_over(now, result.task_type)
    if over and now != before:
        return Outcome(now)
    if not outcomes.is_empty(sqs, dead_letters):
        for letter in outcomes.dead_letters(sqs, dead_letters):
            if letter.body == result.body:
                return Outcome(now, letter)
    return Outcome(now, repeated=True) if over and handled else None


def is_over(task: Task, task_type: str) -> bool:
    """Whether a message of this type has had its effect, by its task's row."""
    return task.status in FINAL or (task.status == PROGRESS and task_type == "GRAPH_GENERATION_PROGRESS")


def outcome_text(outcome: Outcome | None, *, timeout_s: float) -> str:
    """The outcome as it is told to the user."""
    match outcome:
        case None:
            return (
                f"Nothing happened within {timeout_s:g} s: is a worker running, and on this queue? "
                "The message is still there."
            )
        case Outcome(letter=DeadLetter(attributes=attributes)):
            reason, error = attributes.get("reason", "no reason given"), attributes.get("error", "")
            return f"DEAD LETTER: {reason} at attempt {attributes.get('attempt', '?')}: {error}"
        case Outcome(task=Task() as task, repeated=repeated):
            lines = [f"{task.status} at attempt {task.attempts}"]
            lines += ["It was so before: the message changed nothing."] if repeated else []
            lines += [f"error: {task.error}"] if task.error else []
            lines += [f"warning: {text} ({count})" for text, count in (task.warnings or {}).items()]
            return "\n".join(lines)
    raise AssertionError(f"an outcome without a task and without a letter: {outcome}")
