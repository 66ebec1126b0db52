"""What is stored of a task's life."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from peewee import SQL
from ulid import ULID

from graphnode.contract.notifications import GraphProgress
from graphnode.contract.task_ids import SUFFIXES
from graphnode.storage import failures
from graphnode.storage.database import transaction
from graphnode.storage.failures import AttemptRecord
from graphnode.storage.notifications import NotificationRecord
from graphnode.storage.tasks import TaskRecord


class FailedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """A failed attempt at a message of the task.

    Parameters:
      given_up: whether the message became a dead letter.
      stack: where the error was raised, without its text.
    """

    at: datetime
    number: int
    reason: str
    error: str
    given_up: bool
    stack: str | None = None


class TaskNotification(msgspec.Struct, frozen=True, kw_only=True):
    """A notification of the task, and its push.

    Parameters:
      at: when it was written; of progress, the time in the AI server's message.
      push_due_at: when the next push is tried; None if none is.
    """

    id: str
    type: str
    at: datetime
    payload: dict[str, Any]
    push_status: str
    push_attempts: int
    push_error: str | None
    pushed_at: datetime | None
    push_due_at: datetime | None


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A task's life.

    Parameters:
      status: None if the task has no row: only failed attempts are known.
      deliveries: how often its last message was delivered.
      registered_at: when the API server wrote its row; None if its first result did.
      news_at: the last news of it.
    """

    task_id: str
    task_type: str
    user_id: str | None
    status: str | None = None
    reason: str | None = None
    error: str | None = None
    deliveries: int = 0
    warnings: dict[str, Any] | None = None
    s3_keys: Sequence[str] = ()
    registered_at: datetime | None = None
    published_at: datetime | None = None
    news_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: Sequence[FailedAttempt] = ()
    notifications: Sequence[TaskNotification] = ()


def find_stories(task_id: str) -> list[Story]:
    """The stories of the tasks with this ID, or of both halves of the document with this ID; empty if unknown."""
    ids = [task_id, *(task_id + half for half in SUFFIXES)]
    with transaction():
        stories = [
            _story(task)
            for task in TaskRecord.select().where(TaskRecord.task_id.in_(ids)).order_by(TaskRecord.created_at)
        ]
        with_row = {(story.task_id, story.task_type) for story in stories}
        for name in ids:
            attempts = failures.failed_attempts(name)
            types = {one.task_type for one in attempts if one.task_type}
            for task_type in sorted(each for each in types if (name, each) not in with_row):
                own = [one for one in attempts if one.task_type == task_type]
                stories.append(
                    Story(task_id=name, task_type=task_type, user_id=own[-1].user_id, attempts=list(map(_attempt, own)))
                )
    return stories


def _story(task: TaskRecord) -> Story:
    attempts = [_attempt(one) for one in failures.failed_attempts(task.task_id) if one.task_type == task.task_type]
    return Story(
        task_id=task.task_id,
        task_type=task.task_type,
        user_id=task.user_id,
        status=task.status,
        reason=task.reason,
        error=task.error,
        deliveries=task.attempts,
        warnings=task.warnings,
        s3_keys=task.s3_keys,
        registered_at=task.created_at if task.registered else None,
        published_at=task.published_at,
        news_at=task.updated_at,
        finished_at=task.finished_at,
        attempts=attempts,
        notifications=_notifications(task),
    )


def _notifications(task: TaskRecord) -> list[TaskNotification]:
    """The notifications with the task's ID. They have no task type, but few IDs have two tasks."""
    query = (
        NotificationRecord.select()
        .where(NotificationRecord.user_id == task.user_id, SQL("payload ->> 'taskId' = %s", (task.task_id,)))
        .order_by(NotificationRecord.id)
    )
    return [
        TaskNotification(
            id=row.id,
            type=row.type,
            # A timed-out task's created_at is when its time was over; the time in its ID is when that was noticed.
            at=row.created_at if row.type == GraphProgress.event else ULID.from_str(row.id).datetime,
            payload=row.payload,
            push_status=row.push_status,
            push_attempts=row.push_attempts,
            push_error=row.push_error,
            pushed_at=row.pushed_at,
            push_due_at=row.due_at,
        )
        for row in query
    ]


def _attempt(row: AttemptRecord) -> FailedAttempt:
    return FailedAttempt(
        at=row.failed_at,
        number=row.attempt,
        reason=row.reason,
        error=row.error,
        stack=row.stack,
        given_up=row.given_up,
    )
