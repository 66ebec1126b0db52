"""Failures: the failed attempts of each task, and how often each message has failed."""

from __future__ import annotations

from typing import NamedTuple

from peewee import BigAutoField, BooleanField, IntegerField, TextField
from playhouse.postgres_ext import DateTimeTZField

from graphnode.steps import is_step
from graphnode.storage.database import Record, database

#: The most attempts that are kept for a task (the newest), and the most characters of an error.
MOST_ATTEMPTS = 50
LONGEST_ERROR = 1000

#: Inserts an attempt, and makes room for it among those of its task. No result: another delivery of the message failed
#: at the same time and took the number. If its user was forgotten, it counts without task, user and error, unless its
#: task was registered later.
INSERT = """
WITH oldest AS (
    DELETE FROM task_attempts
    WHERE id IN (SELECT id FROM task_attempts WHERE task_id = %(task_id)s ORDER BY id DESC OFFSET %(most)s - 1)
), named AS (
    SELECT %(task_id)s::text AS task_id, %(task_type)s::text AS task_type, %(error)s::text AS error,
        coalesce(%(user_id)s, (SELECT user_id FROM tasks WHERE task_id = %(task_id)s LIMIT 1)) AS user_id
), subject AS (
    SELECT task_id, task_type, user_id, error FROM named
    WHERE NOT EXISTS (SELECT FROM forgotten_users WHERE user_id = named.user_id)
        OR EXISTS (SELECT FROM tasks WHERE task_id = named.task_id AND user_id = named.user_id AND registered)
)
INSERT INTO task_attempts (message_id, task_id, task_type, user_id, attempt, reason, error, stack, given_up)
SELECT %(message_id)s, subject.task_id, subject.task_type, subject.user_id,
    coalesce(
        %(attempt)s::integer, 1 + (SELECT max(attempt) FROM task_attempts WHERE message_id = %(message_id)s), 1
    ),
    %(reason)s, coalesce(subject.error, 'of a forgotten user'), %(stack)s, %(given_up)s
FROM named LEFT JOIN subject ON true
ON CONFLICT (message_id, attempt) WHERE message_id IS NOT NULL DO NOTHING
RETURNING attempt
"""

#: Ends the count of a message. Its task's attempts stay, without the message. Not an UPDATE: the worker's role has no
#: right to it, and an upgrade needs no new grants this way.
SETTLE = """
WITH settled AS (
    DELETE FROM task_attempts WHERE message_id = %(message_id)s
    RETURNING id, task_id, task_type, user_id, attempt, reason, error, stack, given_up, failed_at
)
INSERT INTO task_attempts (id, task_id, task_type, user_id, attempt, reason, error, stack, given_up, failed_at)
OVERRIDING SYSTEM VALUE
SELECT id, task_id, task_type, user_id, attempt, reason, error, stack, given_up, failed_at
FROM settled WHERE task_id IS NOT NULL
"""


class AttemptRecord(Record):
    """A failed attempt at a message. A task's row outlives the message."""

    id = BigAutoField()
    #: The message whose failures this row counts, or whose dead letter it is; None of failures that count no more.
    message_id = TextField(null=True)
    #: None for a message of no task. Its failures go when it is settled; its dead letter stays.
    task_id = TextField(null=True)
    task_type = TextField(null=True)
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


#: Stands for the task of a message that has none.
NO_TASK = {"task_id": None, "task_type": None, "user_id": None}


@is_step("failure")
def record_failure(
    message_id: str, *, reason: str, error: str, stack: str | None = None, subject: Subject | None = None
) -> int:
    """Record a failed attempt at a message; returns how often it has failed so far.

    Parameters:
      message_id: SQS's ID, the same at each delivery.
      reason: the error's reason code.
      error: the error's text.
      stack: the stack trace.
      subject: the task that the message is about, if any.
    """
    attempt = None
    while attempt is None:
        attempt = _insert(message_id, subject, reason=reason, error=error, stack=stack)
    return attempt


def clear_failures(message_id: str) -> None:
    """Forget the failures of a message that has succeeded: should it be delivered again, it counts from the start."""
    database.execute_sql(SETTLE, {"message_id": message_id})


@is_step("failure")
def record_dead_letter(
    message_id: str, *, attempt: int, reason: str, error: str, subject: Subject | None, stack: str | None = None
) -> None:
    """Record that a message became a dead letter, and end the count of its failures.

    The row names the message, for `is_dead_letter`.

    Parameters:
      attempt: how often it was tried.
      reason, error: as in the dead letter.
      stack: the stack trace.
      subject: the task that the message is about, if any.
    """
    with database.atomic():
        database.execute_sql(SETTLE, {"message_id": message_id})
        _insert(message_id, subject, reason=reason, error=error, stack=stack, attempt=attempt)


def is_dead_letter(message_id: str) -> bool:
    """Whether a message became a dead letter. Uses the index `task_attempts_of_message`."""
    of_message = (AttemptRecord.message_id == message_id) & AttemptRecord.given_up
    return bool(AttemptRecord.select().where(of_message).exists())


def failed_attempts(task_id: str) -> list[AttemptRecord]:
    """The failed attempts at a task's messages, the oldest first."""
    return list(AttemptRecord.select().where(AttemptRecord.task_id == task_id).order_by(AttemptRecord.id))


def _insert(
    message_id: str,
    subject: Subject | None,
    *,
    reason: str,
    error: str,
    stack: str | None,
    attempt: int | None = None,
) -> int | None:
    """Insert an attempt; its number, or None if it was taken.

    Parameters:
      message_id: the message.
      attempt: its number if the message became a dead letter; None: the next one.
    """
    values = {
        **(subject._asdict() if subject else NO_TASK),
        "message_id": message_id,
        "attempt": attempt,
        "reason": reason,
        "error": error if len(error) <= LONGEST_ERROR else error[: LONGEST_ERROR - 1] + "…",
        "stack": stack,
        "given_up": attempt is not None,
        "most": MOST_ATTEMPTS,
    }
    inserted = database.execute_sql(INSERT, values).fetchone()
    return inserted[0] if inserted else None
