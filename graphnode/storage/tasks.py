"""The tasks: how far each is, how it ended, and whether a message may still have an effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from typing import Any, NamedTuple

import msgspec
from peewee import (
    EXCLUDED,
    SQL,
    BooleanField,
    CompositeKey,
    DoubleField,
    Field,
    IntegerField,
    TextField,
    Tuple,
    fn,
)
from playhouse.postgres_ext import DateTimeTZField

from graphnode.contract.repairs import Warnings
from graphnode.errors import TaskHasFailed, WrongOwner
from graphnode.steps import is_step
from graphnode.storage.database import JsonField, Record, connection, database


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


class FailureReason(StrEnum):
    """Why a task has failed that the AI server has not ended."""

    NOT_PUBLISHED = "NOT_PUBLISHED"
    """The request could not be put on its queue. Whoever asked was told, and may ask again under the same ID."""
    TIMEOUT = "TIMEOUT"
    """There was no news of it for too long."""


#: Seconds for which a sweep leaves an overdue task alone that another one has taken.
SWEPT_S = 300

#: The objects that the request and the result have named.
ALL_S3_KEYS = SQL(
    "(SELECT coalesce(jsonb_agg(DISTINCT key), '[]')"
    " FROM jsonb_array_elements(tasks.s3_keys || EXCLUDED.s3_keys) AS key)"
)

#: Takes one task that is overdue, the oldest first. A type that has no time-out is never overdue.
TAKE_OVERDUE = """
UPDATE tasks SET swept_at = now()
WHERE (task_id, task_type) = (
    SELECT task_id, task_type FROM tasks
    WHERE status IN ('PENDING', 'PROGRESS')
        AND updated_at < now() - make_interval(secs => %(shortest)s)
        AND updated_at < now() - make_interval(secs => (%(timeouts)s::jsonb ->> task_type)::double precision)
        AND (swept_at IS NULL OR swept_at < now() - make_interval(secs => %(swept)s))
    ORDER BY updated_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING task_id, task_type, user_id, updated_at
"""


class Key(NamedTuple):
    """What names a task's row."""

    task_id: str
    task_type: str


class RequestState(Enum):
    """How far a task's request is."""

    WAITING = auto()
    """It is to be published."""
    GIVEN_UP = auto()
    DONE = auto()
    """It is published, or its task has news already."""


class Overdue(NamedTuple):
    """A task of which there was no news for too long.

    Parameters:
      news_at: when there was news of it last.
    """

    task_id: str
    task_type: str
    user_id: str
    news_at: datetime


class TaskRecord(Record):
    """A task of the AI server. Its type is always the result's, also while only progress is known.

    `registered` says whether the API server made the row; a result of a task that it did not register is taken, too.
    `updated_at` is the time of its last news.
    """

    task_id = TextField()
    task_type = TextField()
    user_id = TextField()
    status = TextField()
    attempts = IntegerField(default=0)
    error = TextField(null=True)
    #: Of a failure: none if the AI server said so.
    reason = TextField(null=True)
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
    #: When `graphnode.requests` has put its request on the queue.
    published_at = DateTimeTZField(null=True)
    #: When a sweep last took it, as one that is overdue.
    swept_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "tasks"
        primary_key = CompositeKey("task_id", "task_type")


def status(task_id: str, task_type: str) -> TaskStatus | None:
    """The task's status; None when it is not known."""
    with connection():
        stored = (
            TaskRecord.select(TaskRecord.status)
            .where(TaskRecord.task_id == task_id, TaskRecord.task_type == task_type)
            .scalar()
        )
        return TaskStatus(stored) if stored else None


def is_final(stored: TaskStatus | None) -> bool:
    """Whether nothing follows on this status."""
    return stored in FINAL


@is_step("task")
def claim(task_id: str, task_type: str, *, user_id: str) -> TaskStatus | None:
    """The status that a result finds, in the transaction that will have its effect; None when the task is not known.

    Raises:
      WrongOwner: The task is someone else's, by any of its types.
    """
    found = None
    for task in TaskRecord.select().where(TaskRecord.task_id == task_id):
        if task.user_id != user_id:
            raise WrongOwner(f"Task {task_id} belongs to user {task.user_id!r}, the result names {user_id!r}")
        if task.task_type == task_type:
            found = TaskStatus(task.status)
    return found


def register(task_id: str, task_type: str, *, user_id: str, s3_keys: Sequence[str]) -> bool:
    """Make the row of a task that is about to be requested, in a transaction under its user's lock.

    Parameters:
      s3_keys: the objects that the request names.

    Returns whether there was none, or one whose request was given up: it is open now. What there is stays otherwise.

    Raises:
      WrongOwner: The task is someone else's, by any of its types.
      TaskHasFailed: It has failed, and its user knows.
    """
    stored = None
    for task in TaskRecord.select().where(TaskRecord.task_id == task_id):
        if task.user_id != user_id:
            raise WrongOwner(f"Task {task_id} belongs to user {task.user_id!r}, the request names {user_id!r}")
        if task.task_type == task_type:
            stored = task
    if stored and stored.status != TaskStatus.FAILED:
        return False
    if stored and stored.reason != FailureReason.NOT_PUBLISHED:
        raise TaskHasFailed(f"Task {task_id} has failed ({stored.error}): make the request again under a new task ID")
    row: dict[Field[Any], Any] = {
        TaskRecord.status: TaskStatus.PENDING,
        TaskRecord.error: None,
        TaskRecord.reason: None,
        TaskRecord.s3_keys: list(s3_keys),
        TaskRecord.updated_at: fn.now(),
        TaskRecord.finished_at: None,
        TaskRecord.swept_at: None,
    }
    new = {
        TaskRecord.task_id: task_id,
        TaskRecord.task_type: task_type,
        TaskRecord.user_id: user_id,
        TaskRecord.created_at: fn.now(),
    }
    TaskRecord.insert(row | new).on_conflict(
        conflict_target=[TaskRecord.task_id, TaskRecord.task_type], update=row
    ).execute()
    return True


def running(user_id: str, task_type: str, *, but: str) -> str | None:
    """The ID of an open task of this type, other than `but`, if the user has one."""
    query = TaskRecord.select(TaskRecord.task_id).where(
        TaskRecord.user_id == user_id,
        TaskRecord.task_type == task_type,
        TaskRecord.task_id != but,
        TaskRecord.status.in_(OPEN),
    )
    found: str | None = query.limit(1).scalar()
    return found


def lock_requests(keys: Iterable[Key]) -> dict[Key, RequestState]:
    """Lock the rows of tasks to the end of the transaction; how far the request of each is."""
    query = (
        TaskRecord.select()
        .where(Tuple(TaskRecord.task_id, TaskRecord.task_type).in_(list(keys)))
        .order_by(TaskRecord.task_id, TaskRecord.task_type)
        .for_update()
    )
    return {Key(task.task_id, task.task_type): _request_state(task) for task in query}


def _request_state(task: TaskRecord) -> RequestState:
    if task.reason == FailureReason.NOT_PUBLISHED:
        return RequestState.GIVEN_UP
    is_waiting = task.status == TaskStatus.PENDING and task.published_at is None
    return RequestState.WAITING if is_waiting else RequestState.DONE


def mark_published(keys: Iterable[Key]) -> None:
    """Note that the requests of these tasks are on their queue. Their time begins now."""
    TaskRecord.update(published_at=fn.now(), updated_at=fn.now()).where(
        Tuple(TaskRecord.task_id, TaskRecord.task_type).in_(list(keys))
    ).execute()


def give_up(key: Key, *, error: str) -> bool:
    """End a task whose request could not be published; False if somebody else has published it, or given it up."""
    written: int = (
        TaskRecord.update(
            status=TaskStatus.FAILED,
            reason=FailureReason.NOT_PUBLISHED,
            error=error,
            updated_at=fn.now(),
            finished_at=fn.now(),
        )
        .where(TaskRecord.task_id == key.task_id, TaskRecord.task_type == key.task_type)
        .where(TaskRecord.status == TaskStatus.PENDING, TaskRecord.published_at.is_null())
        .execute()
    )
    return written > 0


@is_step("task")
def finish(
    task_id: str,
    task_type: str,
    *,
    user_id: str,
    status: TaskStatus,
    attempts: int,
    error: str | None = None,
    reason: FailureReason | None = None,
    warnings: Warnings | None = None,
    s3_keys: Sequence[str] = (),
) -> None:
    """Write how the task ended, in place of what its row said before.

    Parameters:
      attempts: the deliveries its message has had, this one included.
      reason: of a failure that the AI server did not tell.
      warnings: what was repaired or left out, counted by a plain name.
      s3_keys: the objects that the result named.

    Raises:
      WrongOwner: The task has become someone else's since `claim`.
    """
    row = {
        TaskRecord.user_id: user_id,
        TaskRecord.status: status,
        TaskRecord.attempts: attempts,
        TaskRecord.error: error,
        TaskRecord.reason: reason,
        TaskRecord.warnings: warnings or None,
        TaskRecord.updated_at: fn.now(),
        TaskRecord.finished_at: fn.now(),
    }
    written = (
        TaskRecord.insert({**_unregistered(task_id, task_type), **row, TaskRecord.s3_keys: list(s3_keys)})
        .on_conflict(
            conflict_target=[TaskRecord.task_id, TaskRecord.task_type],
            update={**row, TaskRecord.s3_keys: ALL_S3_KEYS},
            where=TaskRecord.user_id == EXCLUDED.user_id,
        )
        .as_rowcount()
        .execute()
    )
    if not written:
        raise WrongOwner(f"Task {task_id} belongs to another user than {user_id!r}")


@is_step("task")
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
        TaskRecord.status: TaskStatus.PROGRESS,
        TaskRecord.current_stage: stage,
        TaskRecord.progress_percent: percent,
        TaskRecord.eta_seconds: eta_seconds,
        TaskRecord.progress_at: at,
        TaskRecord.updated_at: fn.now(),
    }
    is_news = TaskRecord.progress_at.is_null() | (TaskRecord.progress_at < EXCLUDED.progress_at)
    written: int = (
        TaskRecord.insert({**_unregistered(task_id, task_type), TaskRecord.user_id: user_id, **row})
        .on_conflict(
            conflict_target=[TaskRecord.task_id, TaskRecord.task_type],
            update=row,
            where=is_news & TaskRecord.status.in_(OPEN) & (TaskRecord.user_id == EXCLUDED.user_id),
        )
        .as_rowcount()
        .execute()
    )
    return written > 0


def take_overdue(timeouts: Mapping[str, timedelta]) -> Overdue | None:
    """Take one task of which there was no news for longer than its type's time-out; none, if nobody else has it.

    Parameters:
      timeouts: by task type.
    """
    seconds = {task_type: timeout.total_seconds() for task_type, timeout in timeouts.items()}
    values = {
        "shortest": min(seconds.values()),
        "timeouts": msgspec.json.encode(seconds).decode(),
        "swept": SWEPT_S,
    }
    with connection():
        taken = database.execute_sql(TAKE_OVERDUE, values).fetchone()
    return Overdue(*taken) if taken else None


def has_news(key: Key, *, since: datetime) -> bool:
    """Whether anything was written to an open task after this."""
    return bool(
        TaskRecord.select()
        .where(TaskRecord.task_id == key.task_id, TaskRecord.task_type == key.task_type, TaskRecord.updated_at > since)
        .exists()
    )


def _unregistered(task_id: str, task_type: str) -> dict[Field[Any], Any]:
    """What a row says of a task that nobody registered: its first message made it."""
    return {
        TaskRecord.task_id: task_id,
        TaskRecord.task_type: task_type,
        TaskRecord.registered: False,
        TaskRecord.created_at: fn.now(),
    }
