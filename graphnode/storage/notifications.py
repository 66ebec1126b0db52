"""What users are told: each notification's row, how its push went, and the devices it goes to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from peewee import SQL, IntegerField, TextField, fn
from playhouse.postgres_ext import DateTimeTZField
from ulid import ULID

from graphnode.errors import BeingPushed
from graphnode.storage.database import JsonField, Table, connection


class PushStatus(StrEnum):
    """How far the push of a notification is."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    SENT = "SENT"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


#: Seconds that a worker has for a push it has claimed: more than the time limit of the actor that pushes.
PUSH_LEASE_S = 90

#: What `push_error` says of a type that has no push.
STORED_ONLY = "stored only"


class Notification(Table):
    """Something a user is told. `event` names what happened: there is one row for it, however often it is reported."""

    id = TextField(primary_key=True)
    user_id = TextField()
    type = TextField()
    payload = JsonField()
    event = TextField(unique=True)
    created_at = DateTimeTZField()
    push_status = TextField()
    push_attempts = IntegerField(default=0)
    push_error = TextField(null=True)
    claimed_at = DateTimeTZField(null=True)
    pushed_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "notifications"


class DeviceToken(Table):
    """A device of a user, as FCM knows it. The API server writes these rows."""

    token = TextField(primary_key=True)
    user_id = TextField()
    platform = TextField(null=True)
    last_seen_at = DateTimeTZField()

    class Meta:
        table_name = "device_tokens"


def write(
    *,
    user_id: str,
    type: str,  # noqa: A002
    payload: dict[str, Any],
    event: str,
    created_at: datetime | None = None,
    push: bool,
) -> str | None:
    """Write a notification, unless its event has one.

    Parameters:
      type: the notification type of the contract.
      event: names what happened; a second notification of the same event is impossible.
      created_at: when it happened, if not now.
      push: whether it goes to the user's devices, or is for the app to read only.

    Returns the new row's ID, or that of the event's row while nobody has pushed it; None when there is nothing to do.
    """
    moment = created_at or datetime.now(UTC)
    notification_id = str(ULID.from_datetime(moment))
    written = (
        Notification.insert(
            id=notification_id,
            user_id=user_id,
            type=type,
            payload=payload,
            event=event,
            created_at=moment,
            push_status=PushStatus.PENDING if push else PushStatus.SKIPPED,
            push_error=None if push else STORED_ONLY,
        )
        .on_conflict(action="IGNORE", conflict_target=[Notification.event])
        .as_rowcount()
        .execute()
    )
    if written:
        return notification_id
    waiting: str | None = (
        Notification.select(Notification.id)
        .where(Notification.event == event, Notification.push_status == PushStatus.PENDING)
        .scalar()
    )
    return waiting


def pending(user_id: str) -> list[str]:
    """The IDs of the user's notifications that nobody has pushed yet, the oldest first."""
    with connection():
        query = (
            Notification.select(Notification.id)
            .where(Notification.user_id == user_id, Notification.push_status == PushStatus.PENDING)
            .order_by(Notification.id)
        )
        return [notification.id for notification in query]


def claim_push(notification_id: str) -> Notification | None:
    """Take a notification to push it; None when that is done, or it is not there.

    Raises:
      BeingPushed: Another worker has it, and may still end. After `PUSH_LEASE_S` it is taken from that worker.
    """
    is_free = (Notification.push_status == PushStatus.PENDING) | (
        (Notification.push_status == PushStatus.SENDING)
        & (Notification.claimed_at < fn.now() - SQL(f"interval '{PUSH_LEASE_S} s'"))
    )
    with connection():
        claimed = (
            Notification.update(
                push_status=PushStatus.SENDING,
                push_attempts=Notification.push_attempts + 1,
                claimed_at=fn.now(),
            )
            .where(Notification.id == notification_id, is_free)
            .returning(Notification)
            .execute()
        )
        found: Notification | None = next(iter(claimed), None)
        if found:
            return found
        status = Notification.select(Notification.push_status).where(Notification.id == notification_id).scalar()
    if status == PushStatus.SENDING:
        raise BeingPushed(f"Notification {notification_id} is being pushed by another worker")
    return None


def settle_push(notification_id: str, *, status: PushStatus, error: str | None = None) -> None:
    """Write how the push of a claimed notification went. One that another worker has settled stays as it is."""
    with connection():
        Notification.update(
            push_status=status,
            push_error=error,
            pushed_at=fn.now() if status == PushStatus.SENT else None,
        ).where(Notification.id == notification_id, Notification.push_status == PushStatus.SENDING).execute()


def device_tokens(user_id: str) -> list[str]:
    """The FCM tokens of a user's devices, the one seen last first."""
    with connection():
        query = (
            DeviceToken.select(DeviceToken.token)
            .where(DeviceToken.user_id == user_id)
            .order_by(DeviceToken.last_seen_at.desc(), DeviceToken.token)
        )
        return [token for (token,) in query.tuples().iterator()]


def remove_tokens(tokens: Sequence[str]) -> None:
    """Forget devices that FCM no longer knows."""
    if not tokens:
        return
    with connection():
        DeviceToken.delete().where(DeviceToken.token.in_(tokens)).execute()
