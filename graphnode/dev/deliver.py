"""Send one result as the AI server would, and wait for its outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from graphnode.dev import outcomes, samples
from graphnode.dev.local_aws import dead_letter_url, s3_client, sqs_client
from graphnode.dev.outcomes import QueuedLetter, TaskRow
from graphnode.errors import NotSent
from graphnode.operations import background
from graphnode.operations.background import NoAnswer
from graphnode.settings import Settings, read_settings
from graphnode.sqs.queues import named_if_missing
from graphnode.storage.tasks import FailureReason
from graphnode.text import printable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from psycopg2.extensions import connection

#: Statuses of a task that has ended. A progress message only sets PROGRESS.
FINAL = frozenset({"COMPLETED", "FAILED", "SUPERSEDED"})
PROGRESS = "PROGRESS"


class Outcome(NamedTuple):
    """The outcome of a message.

    Parameters:
      task: its task's row, or None.
      letter: its dead letter, or None.
      repeated: the task had ended before, and the message changed nothing.
    """

    task: TaskRow | None
    letter: QueuedLetter | None = None
    repeated: bool = False


def deliver(
    result: samples.Result, environment: Mapping[str, str], *, timeout_s: float, tell: Callable[[str], None]
) -> Outcome | None:
    """Send a result and wait until the worker has handled it; None after the timeout.

    Parameters:
      environment: variables of docs/settings.md.
      timeout_s: seconds that all of it may take, whatever does not answer.
      tell: called with a line for each step.

    Raises NotSent, SettingsError, NoSuchQueue, and errors of boto3 and psycopg2 if a service is unreachable.
    """
    by = time.monotonic() + timeout_s
    settings = read_settings(environment, Settings)
    queue_url, bucket = settings.sqs_result_queue_url, settings.s3_payload_bucket
    sqs = sqs_client(environment)

    def send() -> tuple[str, TaskRow | None]:
        """Send the result; its dead-letter queue's URL, and its task's row before."""
        dead_letters = dead_letter_url(sqs, queue_url)
        with outcomes.reading(settings.database_url) as database:
            before = outcomes.task(database, task_id=result.task_id, task_type=result.task_type)
        for key, content in result.documents.items():
            tell(f"put   s3://{bucket}/{key} ({len(content):,} bytes)")
        samples.send(result, sqs=sqs, s3=s3_client(environment), queue_url=queue_url, bucket=bucket)
        tell(f"sent  {result.task_type} {result.task_id}")
        return dead_letters, before

    def wait(dead_letters: str, before: TaskRow | None) -> Outcome | None:
        with outcomes.reading(settings.database_url) as database, named_if_missing(f"{queue_url} or {dead_letters}"):
            return outcomes.wait_for(
                lambda: look(result, before, database, sqs, queue_url=queue_url, dead_letters=dead_letters),
                timeout_s=by - time.monotonic(),
            )

    try:
        sent = background.answer_of(background.start(send, name="send"), by=by)
    except NoAnswer:
        raise NotSent(
            f"Nothing is known to be sent within {timeout_s:g} s: SQS, S3 or PostgreSQL gives no answer. "
            "`graphnode doctor` says which."
        ) from None
    try:
        return background.answer_of(background.start(partial(wait, *sent), name="wait"), by=by)
    except NoAnswer:
        return None


def look(
    result: samples.Result,
    before: TaskRow | None,
    database: connection,
    sqs: SQSClient,
    *,
    queue_url: str,
    dead_letters: str,
) -> Outcome | None:
    """The message's outcome, or None if it has none yet."""
    # Read before the row: a message leaves its queue after its effect, so with an empty queue the row is final.
    handled = outcomes.is_empty(sqs, queue_url)
    now = outcomes.task(database, task_id=result.task_id, task_type=result.task_type)
    over = now is not None and is_over(now, result.task_type)
    # A result that cannot be used ends its task as FAILED, and its dead letter follows.
    is_rejected = now is not None and now.reason == FailureReason.REJECTED
    if over and now != before and not is_rejected:
        return Outcome(now)
    if not outcomes.is_empty(sqs, dead_letters):
        for letter in outcomes.dead_letters(sqs, dead_letters):
            if letter.body == result.body:
                return Outcome(now, letter)
    return Outcome(now, repeated=True) if over and handled else None


def is_over(task: TaskRow, task_type: str) -> bool:
    """Whether the task's row shows the effect of a message of this type."""
    return task.status in FINAL or (task.status == PROGRESS and task_type == "GRAPH_GENERATION_PROGRESS")


def outcome_text(outcome: Outcome | None, *, timeout_s: float) -> str:
    """The outcome as text for the user."""
    match outcome:
        case None:
            return (
                f"Nothing happened within {timeout_s:g} s. Is a worker running on this queue? "
                "The message is still there."
            )
        case Outcome(letter=QueuedLetter(attributes=attributes)):
            reason, error = attributes.get("reason", "no reason given"), attributes.get("error", "")
            return f"DEAD LETTER: {reason} at attempt {attributes.get('attempt', '?')}: {printable(error)}"
        case Outcome(task=TaskRow() as task, repeated=repeated):
            lines = [f"{task.status} at attempt {task.attempts}"]
            lines += ["The task had this status before: the message changed nothing."] if repeated else []
            lines += [f"error: {printable(task.error)}"] if task.error else []
            lines += [f"warning: {printable(text)} ({count})" for text, count in (task.warnings or {}).items()]
            return "\n".join(lines)
    raise AssertionError(f"an outcome without a task and without a letter: {outcome}")
