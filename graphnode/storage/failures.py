"""Failures: how often each message has failed, and the failed attempts of each task."""

from __future__ import annotations

from typing import Any, NamedTuple

from peewee import SQL, BigAutoField, BooleanField, IntegerField, TextField, fn
from playhouse.postgres_ext import DateTimeTZField

from graphnode.steps import is_step
from graphnode.storage.database import Record, database

#: The most attempts that are kept for a task (the newest), and the most characters of an error.
MOST_ATTEMPTS = 50
LONGEST_ERROR = 1000


class FailureRecord(Record):
    """A message that has failed and may be delivered again, with its last failure."""

    message_id = TextField(primary_key=True)
    failures = IntegerField()
    reason = TextField()
    error = TextField()
    failed_at = DateTimeTZField()

    class Meta:
        table_name = "message_failures"


class AttemptRecord(Record):
    """A failed attempt at a message of a task. The row outlives the message."""

    id = BigAutoField()
    task_id = TextField()
    task_type = TextField()
    user_id = TextField(null=True)
    attempt = IntegerField()
    reason = TextField()
    error = TextField()
    #: The stack trace without the error text; None if nothing was raised.
    stack = TextField(null=True)
    #: Whether the message became a dead letter.
    given_up = BooleanField()
    failed_at = DateTimeTZField()

    class Meta:
        table_name = "task_attempts"


class Subject(NamedTuple):
    """The task that a message is about.

    Parameters:
      user_id: None if the message names no user: then the user of the task's row is stored, if there is a row.
    """

    task_id: str
    task_type: str
    user_id: str | None


@is_step("failure")
def record_failure(
    message_id: str, *, reason: str, error: str, stack: str | None = None, subject: Subject | None = None
) -> int:
    """Count a failure of a message; returns how often it has failed so far.

    Parameters:
      message_id: SQS's ID, the same at each delivery.
      reason: the error's reason code.
      error: the error's text.
      stack: the stack trace.
      subject: the task that the message is about, if any. Its attempt is stored too.
    """
    row = {FailureRecord.reason: reason, FailureRecord.error: error, FailureRecord.failed_at: fn.now()}
    with database.atomic():
        written = (
            FailureRecord.insert({FailureRecord.message_id: message_id, FailureRecord.failures: 1, **row})
            .on_conflict(
                conflict_target=[FailureRecord.message_id],
                update={FailureRecord.failures: FailureRecord.failures + 1, **row},
            )
            .returning(FailureRecord.failures)
            .execute()
        )
        row_now: FailureRecord = next(iter(written))
        count = int(row_now.failures)
        if subject:
            _keep_attempt(subject, attempt=count, reason=reason, error=error, stack=stack, given_up=False)
        return count


def clear_failures(message_id: str) -> None:
    """Delete the failures of a message that will not be delivered again."""
    FailureRecord.delete().where(FailureRecord.message_id == message_id).execute()


@is_step("failure")
def record_dead_letter(
    message_id: str, *, attempt: int, reason: str, error: str, subject: Subject | None, stack: str | None = None
) -> None:
    """Record that a message became a dead letter, and delete its failures.

    Parameters:
      attempt: how often it was tried.
      reason, error: as in the dead letter.
      stack: the stack trace.
      subject: the task that the message is about, if any.
    """
    with database.atomic():
        FailureRecord.delete().where(FailureRecord.message_id == message_id).execute()
        if subject:
            _keep_attempt(subject, attempt=attempt, reason=reason, error=error, stack=stack, given_up=True)


def failed_attempts(task_id: str) -> list[AttemptRecord]:
    """The failed attempts at a task's messages, the oldest first."""
    return list(AttemptRecord.select().where(AttemptRecord.task_id == task_id).order_by(AttemptRecord.id))


def _keep_attempt(
    subject: Subject, *, attempt: int, reason: str, error: str, stack: str | None, given_up: bool
) -> None:
    of_the_row = SQL("(SELECT user_id FROM tasks WHERE task_id = %s LIMIT 1)", (subject.task_id,))
    row: dict[Any, Any] = {
        AttemptRecord.task_id: subject.task_id,
        AttemptRecord.task_type: subject.task_type,
        AttemptRecord.user_id: subject.user_id or of_the_row,
        AttemptRecord.attempt: attempt,
        AttemptRecord.reason: reason,
        AttemptRecord.error: error if len(error) <= LONGEST_ERROR else error[: LONGEST_ERROR - 1] + "…",
        AttemptRecord.stack: stack,
        AttemptRecord.given_up: given_up,
        AttemptRecord.failed_at: fn.now(),
    }
    AttemptRecord.insert(row).execute()
    newest = (
        AttemptRecord.select(AttemptRecord.id)
        .where(AttemptRecord.task_id == subject.task_id)
        .order_by(AttemptRecord.id.desc())
        .limit(MOST_ATTEMPTS)
    )
    AttemptRecord.delete().where(AttemptRecord.task_id == subject.task_id, AttemptRecord.id.not_in(newest)).execute()
