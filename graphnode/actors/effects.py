"""The transaction in which each actor does its work, so that a message has one effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Generic, TypeVar

from graphnode.actors.notifications import enqueue
from graphnode.contract.envelopes import Envelope, Payload, ResultPayload
from graphnode.contract.notifications import Notice
from graphnode.errors import NotRegistered
from graphnode.settings import settings
from graphnode.storage import graph_status, notifications, tasks, users
from graphnode.storage.database import user_transaction
from graphnode.storage.tasks import FailureReason, TaskKey, TaskStatus

P = TypeVar("P", bound=Payload)


class Effects(Generic[P]):
    """What a message writes beside its actor's own tables: its task's row and its notifications.

    Parameters:
      envelope: the message.
      user_id: whose task it is.
      repeated: whether the message has had its effect already, or must have none.
    """

    def __init__(self, envelope: Envelope[P], user_id: str, *, repeated: bool) -> None:
        self.envelope = envelope
        self.user_id = user_id
        self.repeated = repeated
        #: What `finish` writes into the task's row.
        self.warnings = Counter(envelope.warnings)
        #: The IDs of the notifications to push after the commit.
        self.to_push: list[str] = []

    @property
    def payload(self) -> P:
        """The message's payload."""
        return self.envelope.payload

    def finish(self) -> None:
        """End the task as the result says. Call it after the content is written: the graph's status is derived."""
        result = self.envelope.payload
        assert isinstance(result, ResultPayload), "progress ends no task"  # noqa: S101
        # An error beside COMPLETED is a partial failure, and still a success (the contract).
        error = result.error_text if result.status == "FAILED" else result.error
        self._finish(TaskStatus(result.status), error=error)

    def supersede(self, why: str) -> None:
        """End the task without storing its result.

        Parameters:
          why: the task's warning, beside those of the envelope.
        """
        self.warnings = Counter({**self.envelope.warnings, why: 1})
        self._finish(TaskStatus.SUPERSEDED, error=None)

    def _finish(self, status: TaskStatus, *, error: str | None) -> None:
        tasks.finish(
            self.envelope.task_id,
            self.envelope.task_type,
            user_id=self.user_id,
            status=status,
            attempts=self.envelope.attempt,
            error=error,
            reason=_reason(self.envelope),
            warnings=self.warnings,
            s3_keys=self.envelope.payload.s3_keys,
        )
        if self.envelope.task_type in graph_status.TASK_TYPES:
            graph_status.derive_status(self.user_id)

    def notify(self, notice: Notice, *, key: str = "", at: datetime | None = None) -> None:
        """Write a notification. After the commit it is pushed, if its type is.

        Parameters:
          notice: what the app reads.
          key: distinguishes events of one type and task; each has one notification.
          at: when it happened, if not now.
        """
        event = notice.event
        written = notifications.write(
            user_id=self.user_id,
            type=event,
            payload=notice.payload(self.envelope.task_id),
            event=":".join(filter(None, (self.envelope.task_id, event, key))),
            # An overdue task ended when its time was over, however late a sweep finds it: old news is not pushed.
            created_at=at or (self.envelope.timestamp if self.envelope.no_news_since else None),
            push=notice.is_pushed,
        )
        if written and notice.is_pushed:
            self.to_push.append(written)


def _reason(envelope: Envelope[P]) -> FailureReason | None:
    """Why a task failed, if the AI server did not report it."""
    if envelope.is_rejected:
        return FailureReason.REJECTED
    return FailureReason.TIMEOUT if envelope.no_news_since else None


@contextmanager
def effects_of(envelope: Envelope[P], *, user_id: str) -> Iterator[Effects[P]]:
    """One transaction under the user's lock. After its commit the notifications go to their queue.

    A crash between the two loses nothing: a sweep sends the notifications that wait.

    Parameters:
      envelope: the message.
      user_id: whose task it is.

    Raises WrongOwner for another user's task, and NotRegistered for nobody's where those are refused.
    """
    with user_transaction(user_id):
        stored = tasks.status_for_owner(envelope.task_id, envelope.task_type, user_id=user_id)
        repeated = tasks.is_final(stored) or has_ended_so(envelope, stored) or has_news(envelope)
        effects = Effects(envelope, user_id, repeated=repeated)
        if is_of_forgotten_user(stored, user_id):
            effects.supersede("the user was forgotten")
            effects.repeated = True
        else:
            refuse_unregistered(envelope, stored)
        yield effects
    for notification_id in effects.to_push:
        enqueue(notification_id)


def has_ended_so(envelope: Envelope[P], stored: TaskStatus | None) -> bool:
    """Whether the task has already ended as the message says."""
    return isinstance(envelope.payload, ResultPayload) and stored == envelope.payload.status


def has_news(envelope: Envelope[P]) -> bool:
    """Whether an overdue task has had news since it was found."""
    since = envelope.no_news_since
    return since is not None and tasks.was_updated_after(TaskKey(envelope.task_id, envelope.task_type), since)


def refuse_unregistered(envelope: Envelope[P], stored: TaskStatus | None) -> None:
    """Raise NotRegistered for a task without a row, where those are refused."""
    if stored is None and settings().registered_only:
        raise NotRegistered(f"Nobody has asked for task {envelope.task_id} (GRAPHNODE_REGISTERED_ONLY)")


def is_repeated(envelope: Envelope[P], *, user_id: str) -> bool:
    """Whether the message has nothing left to do: a look before documents are fetched.

    Raises WrongOwner and NotRegistered.
    """
    stored = tasks.status(envelope.task_id, envelope.task_type)
    if not tasks.is_final(stored) and not is_of_forgotten_user(stored, user_id):
        refuse_unregistered(envelope, stored)
        return False
    # The transaction checks the owner, and ends a forgotten user's task.
    with effects_of(envelope, user_id=user_id) as effects:
        return effects.repeated


def is_of_forgotten_user(stored: TaskStatus | None, user_id: str) -> bool:
    """Whether a task is older than its user's removal: a task that was registered later has a row."""
    return stored is None and users.is_forgotten(user_id)
