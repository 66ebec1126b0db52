"""All that is stored of a task's life."""

from __future__ import annotations

from peewee import SQL
from ulid import ULID

from graphnode.contract.notifications import GraphProgress
from graphnode.contract.task_ids import SUFFIXES
from graphnode.operations.stories.telling import Attempt, Story, Told
from graphnode.storage import failures
from graphnode.storage.database import transaction
from graphnode.storage.failures import AttemptRecord
from graphnode.storage.notifications import NotificationRecord
from graphnode.storage.tasks import TaskRecord


def stories(task_id: str) -> list[Story]:
    """What is known of the tasks with this ID, or of the halves of the document with it; none, if nothing is."""
    ids = [task_id, *(task_id + half for half in SUFFIXES)]
    with transaction():
        found = [
            _story(task)
            for task in TaskRecord.select().where(TaskRecord.task_id.in_(ids)).order_by(TaskRecord.created_at)
        ]
        told = {(story.task_id, story.task_type) for story in found}
        for name in ids:
            attempts = failures.failed_attempts(name)
            for task_type in sorted({one.task_type for one in attempts if (name, one.task_type) not in told}):
                own = [one for one in attempts if one.task_type == task_type]
                found.append(
                    Story(task_id=name, task_type=task_type, user_id=own[-1].user_id, attempts=list(map(_attempt, own)))
                )
    return found


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


def _notifications(task: TaskRecord) -> list[Told]:
    """What the user was told of a task. Which of its types a notification is of, it does not say: few IDs have two."""
    query = (
        NotificationRecord.select()
        .where(NotificationRecord.user_id == task.user_id, SQL("payload ->> 'taskId' = %s", (task.task_id,)))
        .order_by(NotificationRecord.id)
    )
    return [
        Told(
            id=row.id,
            type=row.type,
            # A failure that was noticed late says when it was, its ID when that was noticed.
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


def _attempt(row: AttemptRecord) -> Attempt:
    return Attempt(
        at=row.failed_at,
        number=row.attempt,
        reason=row.reason,
        error=row.error,
        stack=row.stack,
        given_up=row.given_up,
    )
