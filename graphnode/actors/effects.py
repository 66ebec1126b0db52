"""One message, one effect: the transaction in which every handler does its work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from graphnode.actors.notifications import enqueue
from graphnode.clients.s3 import check_keys
from graphnode.contract.envelopes import Envelope, Payload, ResultPayload
from graphnode.contract.notifications import Notice
from graphnode.contract.repairs import Warnings
from graphnode.storage import notifications, tasks, users
from graphnode.storage.database import user_transaction
from graphnode.storage.tasks import FailureReason, Key, TaskStatus


class Effects:
    """What a message does beside its handler's own tables: the task's row and the notifications' rows.

    Parameters:
      envelope: the message.
      user_id: whose it is.
      repeated: whether it has had its effect already, or must not have any.
    """

    def __init__(self, envelope: Envelope[Payload], user_id: str, *, repeated: bool) -> None:
        self.envelope = envelope
        self.user_id = user_id
        self.repeated = repeated
        self.to_deliver: list[str] = []

    def finish(self, *, warnings: Warnings | None = None) -> None:
        """Write the task's row: it ends as the result says."""
        result = self.envelope.payload
        assert isinstance(result, ResultPayload), "progress ends no task"  # noqa: S101
        # Text beside COMPLETED tells of a partial failure: a success all the same (the contract).
        error = result.error_text if result.status == "FAILED" else result.error
        self._finish(TaskStatus(result.status), error=error, warnings=warnings)

    def supersede(self, why: str) -> None:
        """Write the task's row: it has ended, and nothing else is stored of it.

        Parameters:
          why: the warning that says so.
        """
        self._finish(TaskStatus.SUPERSEDED, error=None, warnings={why: 1})

    def _finish(self, status: TaskStatus, *, error: str | None, warnings: Warnings | None) -> None:
        tasks.finish(
            self.envelope.task_id,
            self.envelope.task_type,
            user_id=self.user_id,
            status=status,
            attempts=self.envelope.attempt,
            error=error,
            reason=FailureReason.TIMEOUT if self.envelope.no_news_since else None,
            warnings=warnings,
            s3_keys=self.envelope.payload.s3_keys,
        )

    def notify(self, notice: Notice, *, key: str = "", at: datetime | None = None) -> None:
        """Write a notification's row; what is pushed is on its way after the commit.

        Parameters:
          notice: what the app is told.
          key: tells events of one type and task apart: for each there is one notification.
          at: when it happened, if not now.
        """
        event = notice.event
        written = notifications.write(
            user_id=self.user_id,
            type=event,
            payload=notice.payload(self.envelope.task_id),
            event=":".join(filter(None, (self.envelope.task_id, event, key))),
            # The time of a task that is overdue was over then, however late it is noticed: old news is not pushed.
            created_at=at or (self.envelope.timestamp if self.envelope.no_news_since else None),
            push=notice.is_pushed,
        )
        if written and notice.is_pushed:
            self.to_deliver.append(written)


@contextmanager
def effects_of(envelope: Envelope[Payload], *, user_id: str) -> Iterator[Effects]:
    """One transaction under the user's lock. After its commit the notifications are put on their queue.

    What a crash in between leaves, a sweep puts there.

    Parameters:
      envelope: the message.
      user_id: whose it is.

    Raises WrongOwner when the task is someone else's, and ForbiddenKey.
    """
    check_keys(envelope.payload.s3_keys, user_id=user_id)
    with user_transaction(user_id):
        stored = tasks.claim(envelope.task_id, envelope.task_type, user_id=user_id)
        repeated = tasks.is_final(stored) or has_ended_so(envelope, stored) or has_news(envelope)
        effects = Effects(envelope, user_id, repeated=repeated)
        if is_of_forgotten_user(stored, user_id):
            effects.supersede("the user was forgotten")
            effects.repeated = True
        yield effects
    for notification_id in effects.to_deliver:
        enqueue(notification_id)


def has_ended_so(envelope: Envelope[Payload], stored: TaskStatus | None) -> bool:
    """Whether the task has ended already as the message says."""
    return isinstance(envelope.payload, ResultPayload) and stored == envelope.payload.status


def has_news(envelope: Envelope[Payload]) -> bool:
    """Whether a task that was overdue has had news since."""
    since = envelope.no_news_since
    return since is not None and tasks.has_news(Key(envelope.task_id, envelope.task_type), since=since)


def is_repeated(envelope: Envelope[Payload], *, user_id: str) -> bool:
    """A look before documents are fetched: whether nothing is left to do.

    Raises WrongOwner for someone else's task, and ForbiddenKey.
    """
    check_keys(envelope.payload.s3_keys, user_id=user_id)
    stored = tasks.status(envelope.task_id, envelope.task_type)
    if not tasks.is_final(stored) and not is_of_forgotten_user(stored, user_id):
        return False
    with effects_of(envelope, user_id=user_id) as effects:
        return effects.repeated


def is_of_forgotten_user(stored: TaskStatus | None, user_id: str) -> bool:
    """Whether a task is of a time before its user was forgotten: one that was registered later has a row."""
    return stored is None and users.is_forgotten(user_id)
