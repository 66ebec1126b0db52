"""The tasks: how far each is, how it ended, and whether a message may still have an effect."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from peewee import EXCLUDED, BooleanField, CompositeKey, DoubleField, Field, IntegerField, TextField, fn
from playhouse.postgres_ext import DateTimeTZField

from graphnode.errors import WrongOwner
from graphnode.repairs import Warnings
from graphnode.storage.database import JsonField, Table, connection


class TaskStatus(StrEnum):
    """The statuses of a task (the contract)."""

    PENDING = "PENDING"
    PROGRESS = "PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"


#: Nothing follows on these: a repeat is acknowledged and changes nothing. FAILED may still turn COMPLETED.
FINAL = (TaskStatus.COMPLETED, TaskStatus.SUPERSEDED)

#: Progress is news only before the task has ended, one way or another.
OPEN = (TaskStatus.PENDING, TaskStatus.PROGRESS)


class Task(Table):
    """A task of the AI server. Its type is always the result's, also while only progress is known.

    `registered` says whether the API server made the row; a result of a task that it did not register is taken, too.
    """

    task_id = TextField()
    task_type = TextField()
    user_id = TextField()
    status = TextField()
    attempts = IntegerField(default=0)
    error = TextField(null=True)
    warnings = JsonField(null=True)
    s3_keys = JsonField(default=list)
    registered = BooleanField(default=True)
    current_stage = TextField(null=True)
    progress_percent = DoubleField(null=True)
    eta_seconds = DoubleField(null=True)
    progress_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()
    updated_at = DateTimeTZField()
    finished_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "tasks"
        primary_key = CompositeKey("task_id", "task_type")


def status(task_id: str, task_type: str) -> TaskStatus | None:
    """The task's status; None when it is not known."""
    with connection():
        stored = Task.select(Task.status).where(Task.task_id == task_id, Task.task_type == task_type).scalar()
        return TaskStatus(stored) if stored else None


def is_final(stored: TaskStatus | None) -> bool:
    """Whether nothing follows on this status."""
    return stored in FINAL


def claim(task_id: str, task_type: str, *, user_id: str) -> TaskStatus | None:
    """The status that a result finds, in the transaction that will have its effect; None when the task is not known.

    Raises:
      WrongOwner: The task is someone else's, by any of its types.
    """
    found = None
    for task in Task.select().where(Task.task_id == task_id):
        if task.user_id != user_id:
            raise WrongOwner(f"Task {task_id} belongs to user {task.user_id!r}, the result names {user_id!r}")
        if task.task_type == task_type:
            found = TaskStatus(task.status)
    return found


def finish(
    task_id: str,
    task_type: str,
    *,
    user_id: str,
    status: TaskStatus,
    attempts: int,
    error: str | None = None,
    warnings: Warnings | None = None,
    s3_keys: Sequence[str] = (),
) -> None:
    """Write how the task ended, in place of what its row said before.

    Parameters:
      attempts: the deliveries its message has had, this one included.
      warnings: what was repaired or left out, counted by a plain name.
      s3_keys: the objects that the result named.

    Raises:
      WrongOwner: The task has become someone else's since `claim`.
    """
    row = {
        Task.user_id: user_id,
        Task.status: status,
        Task.attempts: attempts,
        Task.error: error,
        Task.warnings: warnings or None,
        Task.s3_keys: list(s3_keys),
        Task.updated_at: fn.now(),
        Task.finished_at: fn.now(),
    }
    written = (
        Task.insert({**_unregistered(task_id, task_type), **row})
        .on_conflict(conflict_target=[Task.task_id, Task.task_type], update=row, where=Task.user_id == EXCLUDED.user_id)
        .as_rowcount()
        .execute()
    )
    if not written:
        raise WrongOwner(f"Task {task_id} belongs to another user than {user_id!r}")


def record_progress(
    task_id: str,
    task_type: str,
    *,
    user_id: str,
    stage: str,
    percent: float | None,
    eta_seconds: float | None,
    at: datetime,
) -> bool:
    """Keep a task's progress, if it is newer than what is stored and the task has not ended.

    Parameters:
      task_type: the type of the result it is progress towards.
      percent: 0 to 100.
      eta_seconds: what the AI server thinks is left.
      at: the producer's time.

    Returns whether it changed anything.
    """
    row = {
        Task.status: TaskStatus.PROGRESS,
        Task.current_stage: stage,
        Task.progress_percent: percent,
        Task.eta_seconds: eta_seconds,
        Task.progress_at: at,
        Task.updated_at: fn.now(),
    }
    is_news = Task.progress_at.is_null() | (Task.progress_at < EXCLUDED.progress_at)
    written: int = (
        Task.insert({**_unregistered(task_id, task_type), Task.user_id: user_id, **row})
        .on_conflict(
            conflict_target=[Task.task_id, Task.task_type],
            update=row,
            where=is_news & Task.status.in_(OPEN) & (Task.user_id == EXCLUDED.user_id),
        )
        .as_rowcount()
        .execute()
    )
    return written > 0


def _unregistered(task_id: str, task_type: str) -> dict[Field[Any], Any]:
    """What a row says of a task that nobody registered: its first message made it."""
    return {Task.task_id: task_id, Task.task_type: task_type, Task.registered: False, Task.created_at: fn.now()}
