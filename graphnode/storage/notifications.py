"""What users are told: each notification's row, how its push went, and the devices it goes to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from peewee import SQL, IntegerField, TextField, fn
from playhouse.postgres_ext import DateTimeTZField
from ulid import ULID

from graphnode.rules.pushes import PushStatus, Settled
from graphnode.steps import is_step
from graphnode.storage.database import JsonField, Record, connection, database

#: Seconds that a worker has for a push it has claimed: more than the time limit of the actor that pushes.
PUSH_LEASE_S = 90

#: Seconds for which a sweep leaves a notification alone that was put on its queue: after its commit, and by a sweep.
#: The second is longer, so that the sweeps of a long backlog do not put it on the queue again and again.
ENQUEUED_S = 60
SWEPT_S = 300

#: What `push_error` says of a type that has no push.
STORED_ONLY = "stored only"

#: The channel on which each new notification is announced, when its transaction has committed.
CHANNEL = "graphnode_notifications"

#: Takes what is due. A settled row has a date only if a worker wrote it that knows no dates: it loses it.
TAKE_DUE = """
UPDATE notifications
SET due_at = CASE WHEN push_status IN ('PENDING', 'SENDING') OR remaining_tokens IS NOT NULL
                  THEN now() + make_interval(secs => %s) END
WHERE id IN (SELECT id FROM notifications WHERE due_at <= now() ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING id, due_at IS NOT NULL
"""


#: What is left to push. Only rows with a date are: ten million settled ones are not in that index.
OPEN_PUSHES = """
SELECT push_status, count(*), extract(epoch FROM now() - min(created_at))::float8
FROM notifications WHERE due_at IS NOT NULL GROUP BY push_status
"""


class OpenPushes(NamedTuple):
    """The notifications whose push is not over: how many by status, and the oldest one's age in seconds.

    SENT ones are among them while some of their devices are left.
    """

    by_status: dict[str, int]
    oldest_age_s: float


class NotificationRecord(Record):
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
    #: When a device was first reached.
    pushed_at = DateTimeTZField(null=True)
    #: When a sweep puts it on the notification queue; none when nothing is left to do.
    due_at = DateTimeTZField(null=True)
    #: Before this nobody pushes it: it is another worker's, or FCM is to be left alone.
    retry_at = DateTimeTZField(null=True)
    #: The devices not reached yet, once one is reached.
    remaining_tokens = JsonField(null=True)

    class Meta:
        table_name = "notifications"


class Device(NamedTuple):
    """A device to push to, and when it was last seen by then."""

    token: str
    last_seen_at: datetime


class DeviceTokenRecord(Record):
    """A device of a user, as FCM knows it. The API server writes these rows."""

    token = TextField(primary_key=True)
    user_id = TextField()
    platform = TextField(null=True)
    last_seen_at = DateTimeTZField()

    class Meta:
        table_name = "device_tokens"


@is_step("notification")
def write(
    *,
    user_id: str,
    type: str,  # noqa: A002
    payload: dict[str, Any],
    event: str,
    created_at: datetime | None = None,
    push: bool,
) -> str | None:
    """Write a notification, unless its event has one, and announce it on CHANNEL.

    Parameters:
      type: the notification type of the contract.
      event: names what happened; a second notification of the same event is impossible.
      created_at: when it happened, if not now.
      push: whether it goes to the user's devices, or is for the app to read only.

    Returns the new row's ID, or None when the event has its row.
    """
    # By the time of writing, not by `created_at`: who reads on from the last ID must not miss what is told late.
    notification_id = str(ULID())
    written = (
        NotificationRecord.insert(
            id=notification_id,
            user_id=user_id,
            type=type,
            payload=payload,
            event=event,
            created_at=created_at or datetime.now(UTC),
            push_status=PushStatus.PENDING if push else PushStatus.SKIPPED,
            push_error=None if push else STORED_ONLY,
            due_at=_from_now(ENQUEUED_S) if push else None,
        )
        .on_conflict(action="IGNORE", conflict_target=[NotificationRecord.event])
        .as_rowcount()
        .execute()
    )
    if not written:
        return None
    announcement = msgspec.json.encode({"userId": user_id, "notificationId": notification_id}).decode()
    database.execute_sql("SELECT pg_notify(%s, %s)", (CHANNEL, announcement))
    return notification_id


def take_due(*, limit: int) -> list[str]:
    """The IDs of notifications to put on the notification queue. Of two sweeps at the same time, one has each."""
    with connection():
        taken = database.execute_sql(TAKE_DUE, (SWEPT_S, limit)).fetchall()
    return [notification_id for notification_id, is_due in taken if is_due]


def open_pushes() -> OpenPushes:
    """What is left to push."""
    with connection():
        rows = database.execute_sql(OPEN_PUSHES).fetchall()
    counts: dict[str, int] = dict.fromkeys((PushStatus.PENDING, PushStatus.SENDING, PushStatus.SENT), 0)
    return OpenPushes(
        by_status={**counts, **{status: count for status, count, _ in rows}},
        oldest_age_s=max((age for _, _, age in rows), default=0.0),
    )


def postpone(notification_id: str, *, seconds: float) -> None:
    """Have no sweep put the notification on its queue for so long, if there is anything left to do."""
    with connection():
        NotificationRecord.update(due_at=fn.greatest(NotificationRecord.due_at, _from_now(seconds))).where(
            NotificationRecord.id == notification_id, NotificationRecord.due_at.is_null(False)
        ).execute()


@is_step("claim")
def claim_push(notification_id: str) -> NotificationRecord | None:
    """Take a notification to push it, for `PUSH_LEASE_S`; None when that is done, or not now, or not ours to do."""
    is_left = NotificationRecord.push_status == PushStatus.PENDING
    # The claim of a worker that knows no `retry_at` holds by its time alone.
    is_left |= (NotificationRecord.push_status == PushStatus.SENDING) & (
        NotificationRecord.claimed_at < _from_now(-PUSH_LEASE_S)
    )
    is_left |= NotificationRecord.remaining_tokens.is_null(False)
    is_time = NotificationRecord.retry_at.is_null() | (NotificationRecord.retry_at <= fn.now())
    with connection():
        claimed = (
            NotificationRecord.update(
                push_status=SQL(
                    "CASE WHEN remaining_tokens IS NULL THEN %s ELSE push_status END", (PushStatus.SENDING,)
                ),
                push_attempts=NotificationRecord.push_attempts + 1,
                claimed_at=fn.now(),
                due_at=_from_now(PUSH_LEASE_S),
                retry_at=_from_now(PUSH_LEASE_S),
            )
            .where(NotificationRecord.id == notification_id, is_left, is_time)
            .returning(NotificationRecord)
            .execute()
        )
        found: NotificationRecord | None = next(iter(claimed), None)
        return found


@is_step("settle")
def settle_push(claimed: NotificationRecord, settled: Settled) -> bool:
    """Write how an attempt went; whether it was still this claim's to tell."""
    next_at = None if settled.retry_in_s is None else _from_now(settled.retry_in_s)
    is_open = (NotificationRecord.push_status == PushStatus.SENDING) | NotificationRecord.remaining_tokens.is_null(
        False
    )
    row: dict[Any, Any] = {
        NotificationRecord.push_status: settled.status,
        NotificationRecord.push_error: settled.error,
        NotificationRecord.push_attempts: claimed.push_attempts - (not settled.is_attempt),
        NotificationRecord.due_at: next_at,
        NotificationRecord.retry_at: next_at,
        NotificationRecord.remaining_tokens: settled.remaining,
    }
    if settled.status == PushStatus.SENT:
        row[NotificationRecord.pushed_at] = fn.coalesce(NotificationRecord.pushed_at, fn.now())
    with connection():
        written: int = (
            NotificationRecord.update(row)
            .where(
                NotificationRecord.id == claimed.id, NotificationRecord.push_attempts == claimed.push_attempts, is_open
            )
            .execute()
        )
        return written > 0


def devices(user_id: str) -> list[Device]:
    """A user's devices, the one seen last first. A row without a token is none: for it, firebase-admin refuses all."""
    with connection():
        query = (
            DeviceTokenRecord.select(DeviceTokenRecord.token, DeviceTokenRecord.last_seen_at)
            .where(DeviceTokenRecord.user_id == user_id, DeviceTokenRecord.token != "")
            .order_by(DeviceTokenRecord.last_seen_at.desc(), DeviceTokenRecord.token)
        )
        return [Device(*row) for row in query.tuples().iterator()]


def remove_devices(gone: Iterable[Device]) -> None:
    """Forget devices that FCM no longer knows, but not one that has been seen since."""
    with connection():
        for device in gone:
            DeviceTokenRecord.delete().where(
                DeviceTokenRecord.token == device.token, DeviceTokenRecord.last_seen_at <= device.last_seen_at
            ).execute()


def _from_now(seconds: float) -> SQL:
    return SQL("now() + make_interval(secs => %s)", (seconds,))
