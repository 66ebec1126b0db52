"""The transaction in which each actor does its work, so that a message has one effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Generic, TypeVar

from graphnode.contract.envelopes import Envelope, Payload, ResultPayload
from graphnode.contract.notifications import Notice
from graphnode.errors import NotRegistered
from graphnode.rules.pushes import NO_CREDENTIALS
from graphnode.settings import has_firebase_key, settings
from graphnode.storage import graph_status, tasks
from graphnode.storage.database import try_user_lock, user_transaction
from graphnode.storage.notifications import STORED_ONLY, NewNotification, new_notification
from graphnode.storage.tasks import FailureReason, Found, TaskKey, TaskStatus
from graphnode.worker import outbox

P = TypeVar("P", bound=Payload)


class Effects(Generic[P]):
    """What a message writes beside its actor's own tables: its task's row and its notifications.

    Parameters:
      envelope: the message.
      user_id: whose task it is.
      found: the task before it.
    """

    def __init__(self, envelope: Envelope[P], user_id: str, found: Found) -> None:
        self.envelope = envelope
        self.user_id = user_id
        #: Whether the message has had its effect already, or must have none.
        self.repeated = found.is_final or has_ended_so(envelope, found) or has_news(envelope, found)
        #: What is written into the task's row.
        self.warnings = Counter(envelope.warnings)
        self.notifications: list[NewNotification] = []
        self._status: TaskStatus | None = None
        self._error: str | None = None

    @property
    def payload(self) -> P:
        """The message's payload."""
        return self.envelope.payload

    def finish(self) -> None:
        """End the task as the result says."""
        result = self.envelope.payload
        assert isinstance(result, ResultPayload), "progress ends no task"  # noqa: S101
        self._status = TaskStatus(result.status)
        # An error beside COMPLETED is a partial failure, and still a success (the contract).
        self._error = result.error_text if result.status == "FAILED" else result.error

    def supersede(self, why: str) -> None:
        """End the task without storing its result.

        Parameters:
          why: the task's warning, beside those of the envelope.
        """
        self.warnings = Counter({**self.envelope.warnings, why: 1})
        self._status, self._error = TaskStatus.SUPERSEDED, None

    def notify(self, notice: Notice, *, key: str = "", at: datetime | None = None) -> None:
        """Write a notification with the task. After the commit it is pushed, if its type is.

        Parameters:
          notice: what the app reads.
          key: distinguishes events of one type and task; each has one notification.
          at: when it happened, if not now.
        """
        event = notice.event
        self.notifications.append(
            new_notification(
                user_id=self.user_id,
                type=event,
                payload=notice.payload(self.envelope.task_id),
                event=":".join(filter(None, (self.envelope.task_id, event, key))),
                # An overdue task ended when its time was over, however late a sweep finds it: old news is not pushed.
                created_at=at or (self.envelope.timestamp if self.envelope.no_news_since else None),
                not_pushed=not_pushed(notice),
            )
        )

    def write(self) -> list[str]:
        """Write the end of the task, if it has ended, and its notifications. Raises WrongOwner.

        Returns the IDs of the notifications to push after the commit.
        """
        if self._status is None:
            return []
        key, first = task_key(self.envelope), []
        if key.task_type in graph_status.TASK_TYPES:
            is_superseded = self._status is TaskStatus.SUPERSEDED
            first.append(graph_status.derivation(self.user_id, ended=key, superseded=is_superseded))
        return tasks.finish(
            *key,
            user_id=self.user_id,
            status=self._status,
            attempts=self.envelope.attempt,
            error=self._error,
            reason=_reason(self.envelope),
            warnings=self.warnings,
            s3_keys=self.envelope.payload.s3_keys,
            notifications=self.notifications,
            first=first,
        )


def not_pushed(notice: Notice) -> str | None:
    """Why a notice is pushed to nobody; None: it is, if its user has a device."""
    if not notice.is_pushed:
        return STORED_ONLY
    return None if has_firebase_key(settings()) else NO_CREDENTIALS.error


def _reason(envelope: Envelope[P]) -> FailureReason | None:
    """Why a task failed, if the AI server did not report it."""
    if envelope.is_rejected:
        return FailureReason.REJECTED
    return FailureReason.TIMEOUT if envelope.no_news_since else None


@contextmanager
def effects_of(envelope: Envelope[P], *, user_id: str) -> Iterator[Effects[P]]:
    """One transaction under the user's lock. After its commit the notifications are pushed.

    A crash between the two loses nothing: the pushes of any process find the notifications that wait.

    Parameters:
      envelope: the message.
      user_id: whose task it is.

    Raises WrongOwner for another user's task, and NotRegistered for nobody's where those are refused.
    """
    with user_transaction(user_id, tasks.find(envelope.task_id, user_id)) as rows:
        found = tasks.found(rows, task_key(envelope), user_id=user_id)
        effects = Effects(envelope, user_id, found)
        if found.is_forgotten:
            effects.supersede("the user was forgotten")
            effects.repeated = True
        else:
            refuse_unregistered(envelope, found)
        yield effects
        to_push = effects.write()
    if to_push:
        outbox.wake(to_push)


def task_key(envelope: Envelope[P]) -> TaskKey:
    """The key of a message's task."""
    return TaskKey(envelope.task_id, envelope.task_type)


def has_ended_so(envelope: Envelope[P], found: Found) -> bool:
    """Whether the task has already ended as the message says."""
    return isinstance(envelope.payload, ResultPayload) and found.status == envelope.payload.status


def has_news(envelope: Envelope[P], found: Found) -> bool:
    """Whether an overdue task has had news since it was found."""
    since = envelope.no_news_since
    return since is not None and found.updated_at is not None and found.updated_at > since


def refuse_unregistered(envelope: Envelope[P], found: Found) -> None:
    """Raise NotRegistered for a task without a row, where those are refused."""
    if found.status is None and settings().registered_only:
        raise NotRegistered(f"Nobody has asked for task {envelope.task_id} (GRAPHNODE_REGISTERED_ONLY)")


def is_repeated(envelope: Envelope[P], *, user_id: str) -> bool:
    """Whether the message has nothing left to do: a look before documents are fetched. It holds no lock afterwards.

    Raises UserLocked while another session works on the user, WrongOwner and NotRegistered.
    """
    rows = try_user_lock(user_id, tasks.find(envelope.task_id, user_id))
    found = tasks.found(rows, task_key(envelope), user_id=user_id)
    if found.is_forgotten:
        with effects_of(envelope, user_id=user_id) as effects:
            return effects.repeated
    if not found.is_final:
        refuse_unregistered(envelope, found)
    return found.is_final
