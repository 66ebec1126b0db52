"""Tasks: the status of each, how it ended, and whether a message may still have an effect."""

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
from graphnode.storage.database import NEWEST_BELIEVED, Bound, JsonField, Record, database
from graphnode.storage.notifications import NewNotification, values_of, with_notifications
from graphnode.storage.statements import Statement, given, given_json, run


class TaskStatus(StrEnum):
    """The statuses of a task (the contract)."""

    PENDING = "PENDING"
    PROGRESS = "PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"


#: A message for a task in one of these is acknowledged and changes nothing. FAILED may still become COMPLETED.
FINAL = (TaskStatus.COMPLETED, TaskStatus.SUPERSEDED)

#: Progress is stored only for a task in one of these.
OPEN = (TaskStatus.PENDING, TaskStatus.PROGRESS)


class FailureReason(StrEnum):
    """Why a task has FAILED without a result of the AI server."""

    NOT_PUBLISHED = "NOT_PUBLISHED"
    """The request was not put on the request queue. The caller got an error, and may retry with the same task ID."""
    TIMEOUT = "TIMEOUT"
    """The task was not updated for too long."""
    REJECTED = "REJECTED"
    """Its result could not be used and is a dead letter. A redriven one that succeeds still counts."""


#: Seconds for which other sweeps leave a claimed overdue task alone.
SWEPT_S = 300

#: Claims the overdue task with the oldest update. A type without a timeout is never overdue. A message comes again
#: after an attempt that names it and is not its last one.
CLAIM_OVERDUE = """
UPDATE tasks SET swept_at = now()
WHERE (task_id, task_type) = (
    SELECT task_id, task_type FROM tasks
    WHERE status IN ('PENDING', 'PROGRESS')
        AND updated_at < now() - make_interval(secs => %(shortest)s)
        AND updated_at < least(now(), %(before)s)
            - make_interval(secs => (%(timeouts)s::jsonb ->> task_type)::double precision)
        AND (swept_at IS NULL OR swept_at < now() - make_interval(secs => %(swept)s))
        AND NOT EXISTS (
            SELECT FROM task_attempts AS attempt
            WHERE attempt.task_id = tasks.task_id AND attempt.task_type = tasks.task_type
                AND attempt.message_id IS NOT NULL AND NOT attempt.given_up
                AND attempt.failed_at > now() - make_interval(secs => %(backoff)s))
    ORDER BY updated_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING task_id, task_type, user_id, updated_at
"""


class TaskKey(NamedTuple):
    """The primary key of a task."""

    task_id: str
    task_type: str


class RequestState(Enum):
    """Whether the request of a task is on the request queue."""

    WAITING = auto()
    """It still has to be published."""
    GIVEN_UP = auto()
    """It could not be published, and the task has FAILED."""
    DONE = auto()
    """It is published, or the AI server works on it already."""


class OverdueTask(NamedTuple):
    """A task that was not updated for longer than its timeout.

    Parameters:
      news_at: when it was last updated.
    """

    task_id: str
    task_type: str
    user_id: str
    news_at: datetime


class TaskRecord(Record):
    """A task of the AI server.

    `task_type` is always the type of the result, even if only progress has arrived. `registered` says whether the API
    server inserted the row; results of unregistered tasks are accepted too. `updated_at` is the last news of the task.
    """

    task_id = TextField()
    task_type = TextField()
    user_id = TextField()
    status = TextField()
    attempts = IntegerField(default=0)
    error = TextField(null=True)
    #: Why the task failed (`FailureReason`); None if the AI server reported the failure.
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
    #: When `graphnode.requests` put the request on the queue.
    published_at = DateTimeTZField(null=True)
    #: When a sweep last claimed it as overdue.
    swept_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "tasks"
        primary_key = CompositeKey("task_id", "task_type")


PRIMARY_KEY = [TaskRecord.task_id, TaskRecord.task_type]

#: The rows of a task ID, and whether its user's data was deleted. One row at least.
FIND = Statement("""
SELECT EXISTS (SELECT FROM forgotten_users WHERE user_id = %(user_id)s), task_type, user_id, status, updated_at
FROM (VALUES (1)) AS one LEFT JOIN tasks ON task_id = %(task_id)s
""")

#: The first values of a task that nobody registered: its first message inserts the row.
UNREGISTERED = {
    TaskRecord.task_id: given("task_id"),
    TaskRecord.task_type: given("task_type"),
    TaskRecord.user_id: given("user_id"),
    TaskRecord.registered: False,
    TaskRecord.created_at: fn.now(),
    TaskRecord.updated_at: fn.now(),
}

#: The row of a task that has ended. The S3 keys are those of the request and of the result.
ENDED = TaskRecord.insert(
    {
        **UNREGISTERED,
        TaskRecord.status: given("status"),
        TaskRecord.attempts: given("attempts"),
        TaskRecord.error: given("error"),
        TaskRecord.reason: given("reason"),
        TaskRecord.warnings: given_json("warnings"),
        TaskRecord.s3_keys: given_json("s3_keys"),
        TaskRecord.finished_at: fn.now(),
    }
).on_conflict(
    conflict_target=PRIMARY_KEY,
    preserve=[
        TaskRecord.status,
        TaskRecord.attempts,
        TaskRecord.error,
        TaskRecord.reason,
        TaskRecord.warnings,
        TaskRecord.updated_at,
        TaskRecord.finished_at,
    ],
    update={
        TaskRecord.s3_keys: SQL(
            "(SELECT coalesce(jsonb_agg(DISTINCT key), '[]')"
            " FROM jsonb_array_elements(tasks.s3_keys || EXCLUDED.s3_keys) AS key)"
        )
    },
    where=TaskRecord.user_id == EXCLUDED.user_id,
)

END = with_notifications(ENDED.returning(TaskRecord.task_id))

#: The row of an open task, with its newest progress. A stored time in the future is not newer.
UNDER_WAY = TaskRecord.insert(
    {
        **UNREGISTERED,
        TaskRecord.status: TaskStatus.PROGRESS,
        TaskRecord.current_stage: given("stage"),
        TaskRecord.progress_percent: given("percent"),
        TaskRecord.eta_seconds: given("eta_seconds"),
        TaskRecord.progress_at: given("at"),
    }
).on_conflict(
    conflict_target=PRIMARY_KEY,
    preserve=[
        TaskRecord.status,
        TaskRecord.current_stage,
        TaskRecord.progress_percent,
        TaskRecord.eta_seconds,
        TaskRecord.progress_at,
        TaskRecord.updated_at,
    ],
    where=(
        TaskRecord.progress_at.is_null()
        | (TaskRecord.progress_at < EXCLUDED.progress_at)
        | (TaskRecord.progress_at > NEWEST_BELIEVED)
    )
    & TaskRecord.status.in_(OPEN)
    & (TaskRecord.user_id == EXCLUDED.user_id),
)

PROGRESS = with_notifications(UNDER_WAY.returning(TaskRecord.task_id))


class Found(NamedTuple):
    """What a message finds of its task.

    Parameters:
      status: None: the task has no row.
      updated_at: its last news.
      is_forgotten: whether the user's data was deleted, and the task was not registered since.
    """

    status: TaskStatus | None
    updated_at: datetime | None
    is_forgotten: bool

    @property
    def is_final(self) -> bool:
        """Whether the task never changes again."""
        return self.status in FINAL


def find(task_id: str, user_id: str) -> Bound:
    """The statement whose answer `found` reads; it runs with the user's lock."""
    return FIND.bind(task_id=task_id, user_id=user_id)


def found(rows: Iterable[Any], task: TaskKey, *, user_id: str) -> Found:
    """The task in the answer to `find`.

    Raises:
      WrongOwner: A task with this ID, of any type, belongs to another user.
    """
    status, updated_at, user_is_forgotten = None, None, False
    for user_is_forgotten, task_type, owner, its_status, its_update in rows:  # noqa: B007
        if owner not in (None, user_id):
            raise WrongOwner(f"Task {task.task_id} belongs to user {owner!r}, not {user_id!r}")
        if task_type == task.task_type:
            status, updated_at = TaskStatus(its_status), its_update
    return Found(status, updated_at, is_forgotten=user_is_forgotten and status is None)


def register(task_id: str, task_type: str, *, user_id: str, s3_keys: Sequence[str]) -> bool:
    """Insert the row of a task that will be requested. Call it in a transaction under the user's lock.

    Parameters:
      s3_keys: the objects that the request names.

    Returns whether the task is now PENDING by this call: it was unknown, or its request could not be published before.
    Otherwise nothing changes.

    Raises:
      WrongOwner: A task with this ID, of any type, belongs to another user.
      TaskHasFailed: The task has FAILED, and its user was notified.
    """
    stored = _find_for_owner(task_id, task_type, user_id=user_id)
    if stored and stored.status != TaskStatus.FAILED:
        return False
    if stored and stored.reason != FailureReason.NOT_PUBLISHED:
        raise TaskHasFailed(f"Task {task_id} has failed ({stored.error}): make the request again under a new task ID")
    row: dict[Field[Any], Any] = {
        TaskRecord.status: TaskStatus.PENDING,
        TaskRecord.error: None,
        TaskRecord.reason: None,
        TaskRecord.s3_keys: list(s3_keys),
        TaskRecord.created_at: fn.now(),
        TaskRecord.updated_at: fn.now(),
        TaskRecord.finished_at: None,
        TaskRecord.swept_at: None,
    }
    new = {TaskRecord.task_id: task_id, TaskRecord.task_type: task_type, TaskRecord.user_id: user_id}
    of_user = TaskRecord.user_id == EXCLUDED.user_id
    insert = TaskRecord.insert(row | new).on_conflict(conflict_target=PRIMARY_KEY, update=row, where=of_user)
    if not insert.as_rowcount().execute():
        raise WrongOwner(f"Task {task_id} belongs to another user than {user_id!r}")
    return True


def open_task_id(user_id: str, task_type: str, *, other_than: str) -> str | None:
    """The ID of an open task of this user and type, other than `other_than`; None if there is none."""
    query = TaskRecord.select(TaskRecord.task_id).where(
        TaskRecord.user_id == user_id,
        TaskRecord.task_type == task_type,
        TaskRecord.task_id != other_than,
        TaskRecord.status.in_(OPEN),
    )
    found: str | None = query.limit(1).scalar()
    return found


def lock_requests(keys: Iterable[TaskKey]) -> dict[TaskKey, RequestState]:
    """Lock the rows of these tasks until the transaction ends; returns the state of each request."""
    query = TaskRecord.select().where(Tuple(*PRIMARY_KEY).in_(list(keys))).order_by(*PRIMARY_KEY).for_update()
    return {TaskKey(task.task_id, task.task_type): _request_state(task) for task in query}


def _request_state(task: TaskRecord) -> RequestState:
    if task.reason == FailureReason.NOT_PUBLISHED:
        return RequestState.GIVEN_UP
    is_waiting = task.status == TaskStatus.PENDING and task.published_at is None
    return RequestState.WAITING if is_waiting else RequestState.DONE


def mark_published(keys: Iterable[TaskKey]) -> None:
    """Record that the requests of these tasks are on the request queue. Their timeout starts now."""
    TaskRecord.update(published_at=fn.now(), updated_at=fn.now()).where(Tuple(*PRIMARY_KEY).in_(list(keys))).execute()


def mark_not_published(key: TaskKey, *, error: str) -> bool:
    """Set a task to FAILED because its request was not published; False if another call has settled that already."""
    written: int = (
        TaskRecord.update(
            status=TaskStatus.FAILED,
            reason=FailureReason.NOT_PUBLISHED,
            error=error,
            updated_at=fn.now(),
            finished_at=fn.now(),
        )
        .where(_is(key), TaskRecord.status == TaskStatus.PENDING, TaskRecord.published_at.is_null())
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
    notifications: Sequence[NewNotification] = (),
    first: Sequence[Bound] = (),
) -> list[str]:
    """Write how the task ended, and its notifications. Returns the IDs of those to push.

    Parameters:
      attempts: how often its message was delivered, this time included.
      reason: why it failed, if the AI server did not report that.
      warnings: what was repaired or left out, counted by a plain name.
      s3_keys: the objects that the result names.
      first: statements that run before, in the same round trip.

    Raises:
      WrongOwner: The task belongs to another user, also if that one's row came meanwhile.
    """
    end = END.bind(
        task_id=task_id,
        task_type=task_type,
        user_id=user_id,
        status=status,
        attempts=attempts,
        error=error,
        reason=reason,
        warnings=warnings or None,
        s3_keys=list(s3_keys),
        **values_of(notifications),
    )
    rows, _told, due = run(*first, end).fetchone()
    if not rows:
        raise WrongOwner(f"Task {task_id} belongs to another user than {user_id!r}")
    return due or []


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
    notifications: Sequence[NewNotification] = (),
) -> bool:
    """Store the progress of an open task, and its notifications, if it is newer than the stored one.

    Parameters:
      task_type: the type of the task's result.
      percent: 0 to 100.
      eta_seconds: how long the task will still take, as the AI server estimates.
      at: when the AI server reported it.

    Returns whether it was stored.
    """
    rows, _told, _due = PROGRESS(
        task_id=task_id,
        task_type=task_type,
        user_id=user_id,
        stage=stage,
        percent=percent,
        eta_seconds=eta_seconds,
        at=at,
        **values_of(notifications),
    ).fetchone()
    return bool(rows)


def claim_overdue(timeouts: Mapping[str, timedelta], *, before: datetime, backoff: timedelta) -> OverdueTask | None:
    """Claim the overdue task with the oldest update; None if there is none. Other sweeps skip it for `SWEPT_S`.

    Parameters:
      timeouts: by task type, how long a task may stay without an update.
      before: only tasks whose time was over by then.
      backoff: the longest back-off: a task is not overdue while a message of it waits for its next attempt.
    """
    seconds = {task_type: timeout.total_seconds() for task_type, timeout in timeouts.items()}
    values = {
        "shortest": min(seconds.values()),
        "timeouts": msgspec.json.encode(seconds).decode(),
        "before": before,
        "backoff": backoff.total_seconds(),
        "swept": SWEPT_S,
    }
    claimed = database.execute_sql(CLAIM_OVERDUE, values).fetchone()
    return OverdueTask(*claimed) if claimed else None


def _is(key: TaskKey) -> Any:
    return (TaskRecord.task_id == key.task_id) & (TaskRecord.task_type == key.task_type)


def _find_for_owner(task_id: str, task_type: str, *, user_id: str) -> TaskRecord | None:
    found = None
    for task in TaskRecord.select().where(TaskRecord.task_id == task_id):
        if task.user_id != user_id:
            raise WrongOwner(f"Task {task_id} belongs to user {task.user_id!r}, not {user_id!r}")
        if task.task_type == task_type:
            found = task
    return found
