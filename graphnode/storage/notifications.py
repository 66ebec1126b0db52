"""Notifications: the outbox of their pushes, and the devices that they are pushed to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from peewee import CTE, SQL, IntegerField, ModelInsert, Select, TextField, fn
from playhouse.postgres_ext import DateTimeTZField
from ulid import ULID

from graphnode.rules.pushes import NO_DEVICE, PushOutcome, PushStatus
from graphnode.steps import is_step
from graphnode.storage.database import JsonField, Record, database
from graphnode.storage.statements import Statement, written

#: Seconds for which a push belongs to the worker that claimed it: more than the time limit of the pushing actor.
PUSH_LEASE_S = 90

#: Seconds for which sweeps leave a notification alone after a sweep has put it on the queue: a long backlog must not
#: make sweeps put the same notification on the queue again and again.
SWEPT_S = 300

#: The `push_error` of a notification that is never pushed.
STORED_ONLY = "stored only"

#: The NOTIFY channel that announces each new notification when its transaction commits.
CHANNEL = "graphnode_notifications"

#: Inserts notifications, each unless its event has one already. What need not be pushed, or cannot be, ends here.
INSERT = """
INSERT INTO notifications (id, user_id, type, payload, event, created_at, push_status, push_error, due_at)
SELECT id, user_id, type, payload, event, created_at,
    CASE WHEN not_pushed IS NULL THEN 'PENDING' ELSE 'SKIPPED' END, not_pushed,
    CASE WHEN not_pushed IS NULL THEN now() END
FROM (
    SELECT id, user_id, type, payload, event, created_at,
        CASE WHEN not_pushed IS NOT NULL THEN not_pushed
             WHEN NOT EXISTS (SELECT FROM device_tokens WHERE device_tokens.user_id = new.user_id AND token <> '')
             THEN %(no_device)s END AS not_pushed
    FROM jsonb_to_recordset(%(notifications)s) AS new (
        id text, user_id text, type text, payload jsonb, event text, created_at timestamptz, not_pushed text)
) AS new
WHERE {condition}
ON CONFLICT (event) DO NOTHING
RETURNING user_id, id
"""

#: Announces what INSERT has inserted when the transaction commits, and counts it.
ANNOUNCED = f"""
(SELECT count(pg_notify('{CHANNEL}', json_build_object('userId', user_id, 'notificationId', id)::text)) FROM told)
"""  # noqa: S608

WRITE = Statement(f"WITH told AS ({INSERT.format(condition='true')}) SELECT {ANNOUNCED}")

#: Claims due notifications. A settled row has a `due_at` only if a worker older than 0003_outbox wrote it: remove it.
CLAIM_DUE = """
UPDATE notifications
SET due_at = CASE WHEN push_status IN ('PENDING', 'SENDING') OR remaining_tokens IS NOT NULL
                  THEN now() + make_interval(secs => %s) END
WHERE id IN (SELECT id FROM notifications WHERE due_at <= now() ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING id, due_at IS NOT NULL
"""

#: Open notifications by push status. The index on `due_at` leaves out settled rows, of which there are millions.
OPEN_PUSHES = """
SELECT push_status, count(*), extract(epoch FROM now() - min(created_at))::float8
FROM notifications WHERE due_at IS NOT NULL GROUP BY push_status
"""


class OpenPushes(NamedTuple):
    """Number of open notifications by push status, and the age in seconds of the oldest.

    A SENT notification is open while some devices were not reached.
    """

    by_status: dict[str, int]
    oldest_age_s: float


class NotificationRecord(Record):
    """A notification of a user. `event` names what happened; an event that is reported again adds no second row."""

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
    #: When the first device was reached.
    pushed_at = DateTimeTZField(null=True)
    #: When a sweep puts it on the notification queue; None if it is settled.
    due_at = DateTimeTZField(null=True)
    #: No worker pushes it before this time: another worker has claimed it, or FCM asked to wait.
    retry_at = DateTimeTZField(null=True)
    #: The devices that were not reached, once at least one was.
    remaining_tokens = JsonField(null=True)

    class Meta:
        table_name = "notifications"


class Device(NamedTuple):
    """A device to push to."""

    token: str
    last_seen_at: datetime


class DeviceTokenRecord(Record):
    """The FCM token of a user's device. The API server writes these rows."""

    token = TextField(primary_key=True)
    user_id = TextField()
    platform = TextField(null=True)
    last_seen_at = DateTimeTZField()

    class Meta:
        table_name = "device_tokens"


class NewNotification(msgspec.Struct, frozen=True):
    """A notification to write.

    Parameters:
      payload: what the app reads.
      event: names what happened; there is at most one notification per event.
      created_at: when it happened.
      not_pushed: why it is not pushed; None: it is pushed to the user's devices, if there are any.
    """

    id: str
    user_id: str
    type: str
    payload: dict[str, Any]
    event: str
    created_at: datetime
    not_pushed: str | None


def new_notification(
    *,
    user_id: str,
    type: str,  # noqa: A002
    payload: dict[str, Any],
    event: str,
    created_at: datetime | None = None,
    not_pushed: str | None,
) -> NewNotification:
    """A notification to write, with its ID.

    Parameters:
      type: the notification type of the contract.
      payload: what the app reads. Its `timestamp`, which says when it happened, is added here.
      event, not_pushed: as in `NewNotification`.
      created_at: when it happened; now, if missing.
    """
    at = (created_at or datetime.now(UTC)).astimezone(UTC)
    return NewNotification(
        # The ID grows with the time of writing, not with `created_at`: readers go on from the last ID they have seen.
        id=str(ULID()),
        user_id=user_id,
        type=type,
        payload={**payload, "timestamp": at.isoformat()},
        event=event,
        created_at=at,
        not_pushed=not_pushed,
    )


def with_notifications(query: ModelInsert) -> Statement:
    """The statement that runs a query and, if it writes a row, INSERT; it returns the number of rows that it wrote.

    Parameters:
      query: it returns something of each row.
    """
    told = SQL(*written(INSERT.format(condition="EXISTS (SELECT FROM subject)")))
    both = (CTE("subject", query), CTE("told", told))
    rows = Select(columns=[SQL("(SELECT count(*) FROM subject)"), SQL(ANNOUNCED)])
    return Statement(rows.with_cte(*both).bind(database))


def values_of(notifications: Sequence[NewNotification]) -> dict[str, Any]:
    """The values of INSERT in a statement."""
    return {"notifications": msgspec.json.encode(notifications).decode(), "no_device": NO_DEVICE.error}


def write(
    *,
    user_id: str,
    type: str,  # noqa: A002
    payload: dict[str, Any],
    event: str,
    created_at: datetime | None = None,
    push: bool,
) -> str | None:
    """Insert a notification and announce it on CHANNEL, unless its event already has one.

    Parameters:
      push: whether it is pushed to the user's devices; otherwise the app only reads it.
      the others: as in `new_notification`.

    Returns the ID of the new row; None if the event already has one.
    """
    new = new_notification(
        user_id=user_id,
        type=type,
        payload=payload,
        event=event,
        created_at=created_at,
        not_pushed=None if push else STORED_ONLY,
    )
    (written,) = WRITE(**values_of([new])).fetchone()
    return new.id if written else None


def claim_due(*, limit: int) -> list[str]:
    """Claim due notifications, to put them on the queue; returns their IDs. Two sweeps never claim the same one."""
    claimed = database.execute_sql(CLAIM_DUE, (SWEPT_S, limit)).fetchall()
    return [notification_id for notification_id, is_due in claimed if is_due]


def open_pushes() -> OpenPushes:
    """Number and age of the open notifications."""
    rows = database.execute_sql(OPEN_PUSHES).fetchall()
    counts: dict[str, int] = dict.fromkeys((PushStatus.PENDING, PushStatus.SENDING, PushStatus.SENT), 0)
    return OpenPushes(
        by_status={**counts, **{status: count for status, count, _ in rows}},
        oldest_age_s=max((age for _, _, age in rows), default=0.0),
    )


def postpone(notification_id: str, *, seconds: float) -> None:
    """Keep sweeps away from an open notification for this time; a settled one does not change."""
    NotificationRecord.update(due_at=fn.greatest(NotificationRecord.due_at, _from_now(seconds))).where(
        NotificationRecord.id == notification_id, NotificationRecord.due_at.is_null(False)
    ).execute()


@is_step("claim")
def claim_push(notification_id: str) -> NotificationRecord | None:
    """Claim a notification for `PUSH_LEASE_S`; None if it is settled, not due, or claimed by another worker."""
    is_left = NotificationRecord.push_status == PushStatus.PENDING
    # Workers older than 0003_outbox set no `retry_at`: their claim ends by its age.
    is_left |= (NotificationRecord.push_status == PushStatus.SENDING) & (
        NotificationRecord.claimed_at < _from_now(-PUSH_LEASE_S)
    )
    is_left |= NotificationRecord.remaining_tokens.is_null(False)
    is_time = NotificationRecord.retry_at.is_null() | (NotificationRecord.retry_at <= fn.now())
    claimed = (
        NotificationRecord.update(
            push_status=SQL("CASE WHEN remaining_tokens IS NULL THEN %s ELSE push_status END", (PushStatus.SENDING,)),
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
def settle_push(claimed: NotificationRecord, settled: PushOutcome) -> bool:
    """Store the outcome of a claimed push; False if the claim was lost to another worker."""
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
    written: int = (
        NotificationRecord.update(row)
        .where(NotificationRecord.id == claimed.id, NotificationRecord.push_attempts == claimed.push_attempts, is_open)
        .execute()
    )
    return written > 0


def devices(user_id: str) -> list[Device]:
    """The devices of a user, the last seen first. Rows without a token are left out: firebase-admin refuses them."""
    query = (
        DeviceTokenRecord.select(DeviceTokenRecord.token, DeviceTokenRecord.last_seen_at)
        .where(DeviceTokenRecord.user_id == user_id, DeviceTokenRecord.token != "")
        .order_by(DeviceTokenRecord.last_seen_at.desc(), DeviceTokenRecord.token)
    )
    return [Device(*row) for row in query.tuples().iterator()]


def remove_devices(gone: Iterable[Device]) -> None:
    """Delete devices that FCM no longer knows, unless they were seen again since they were read."""
    for device in gone:
        DeviceTokenRecord.delete().where(
            DeviceTokenRecord.token == device.token, DeviceTokenRecord.last_seen_at <= device.last_seen_at
        ).execute()


def _from_now(seconds: float) -> SQL:
    return SQL("now() + make_interval(secs => %s)", (seconds,))
