"""Notifications: the outbox of their pushes, and the devices that they are pushed to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from peewee import CTE, SQL, IntegerField, ModelInsert, Select, TextField
from playhouse.postgres_ext import DateTimeTZField
from ulid import ULID

from graphnode.rules.pushes import NO_DEVICE, PushOutcome, PushStatus
from graphnode.steps import is_step
from graphnode.storage.database import JsonField, Record, database
from graphnode.storage.statements import Statement, written

#: Seconds for which a push belongs to the process that claimed it: then it is due again.
PUSH_LEASE_S = 90

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
RETURNING user_id, id, due_at
"""

#: Announces what INSERT has inserted when the transaction commits, and counts it; then the IDs of what is to be pushed.
ANNOUNCED = f"""
(SELECT count(pg_notify('{CHANNEL}', json_build_object('userId', user_id, 'notificationId', id)::text)) FROM told),
(SELECT array_agg(id) FROM told WHERE due_at IS NOT NULL)
"""  # noqa: S608

WRITE = Statement(f"WITH told AS ({INSERT.format(condition='true')}) SELECT {ANNOUNCED}")

#: Claims notifications to push, with their users' devices, the last seen first. A row that another process is claiming
#: is left out. Rows without a token are no devices: firebase-admin refuses them.
CLAIM = """
WITH due AS MATERIALIZED (
    SELECT id FROM notifications
    WHERE {due} AND (push_status = 'PENDING' OR push_status = 'SENDING' OR remaining_tokens IS NOT NULL)
      AND (retry_at IS NULL OR retry_at <= now())
    ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE notifications AS notification
    SET push_status = CASE WHEN remaining_tokens IS NULL THEN 'SENDING' ELSE push_status END,
        push_attempts = push_attempts + 1, claimed_at = now(),
        due_at = now() + make_interval(secs => %s), retry_at = now() + make_interval(secs => %s)
    FROM due WHERE notification.id = due.id
    RETURNING notification.id, user_id, type, payload, created_at, push_attempts, push_error, pushed_at,
        remaining_tokens
)
SELECT id, user_id, type, payload, created_at, push_attempts, push_error, pushed_at, remaining_tokens, ARRAY(
    SELECT jsonb_build_array(token, last_seen_at) FROM device_tokens AS device
    WHERE device.user_id = claimed.user_id AND token <> '' ORDER BY last_seen_at DESC, token
) FROM claimed
"""

#: Those that are due. The index on `due_at` leaves out settled rows, of which there are millions.
CLAIM_DUE = CLAIM.format(due="due_at <= now()")

#: Those with these IDs. After a commit, no index is searched past the rows that were due and are not vacuumed yet, and
#: `due_at` does not count: workers of release 0.1.0 set it to later, and put the notification on a queue.
CLAIM_BY_ID = CLAIM.format(due="id = ANY(%s) AND due_at IS NOT NULL")

#: Seconds until the next one is due: its claim or its back-off ends.
NEXT_DUE = "SELECT extract(epoch FROM min(due_at) - now())::float8 FROM notifications WHERE due_at > now()"

#: Stores outcomes, unless the claim was lost: then another one has counted its attempt.
SETTLE = """
UPDATE notifications AS notification
SET push_status = outcome.status, push_error = outcome.error,
    push_attempts = outcome.attempts - (NOT outcome.is_attempt)::int,
    due_at = now() + make_interval(secs => outcome.retry_in_s),
    retry_at = now() + make_interval(secs => outcome.retry_in_s),
    remaining_tokens = outcome.remaining,
    pushed_at = CASE WHEN outcome.status = 'SENT' THEN coalesce(pushed_at, now()) ELSE pushed_at END
FROM jsonb_to_recordset(%s) AS outcome
    (id text, attempts int, status text, error text, retry_in_s float8, remaining jsonb, is_attempt boolean)
WHERE notification.id = outcome.id AND push_attempts = outcome.attempts
  AND (push_status = 'SENDING' OR remaining_tokens IS NOT NULL)
RETURNING notification.id
"""

#: Deletes devices, unless they were seen again since they were read.
REMOVE_DEVICES = """
DELETE FROM device_tokens AS device
USING jsonb_to_recordset(%s) AS gone (token text, last_seen_at timestamptz)
WHERE device.token = gone.token AND device.last_seen_at <= gone.last_seen_at
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
    #: When it is to be pushed, unless it is claimed before by its ID; None if it is settled.
    due_at = DateTimeTZField(null=True)
    #: No worker pushes it before this time: another worker has claimed it, or FCM asked to wait.
    retry_at = DateTimeTZField(null=True)
    #: The devices that were not reached, once at least one was.
    remaining_tokens = JsonField(null=True)

    class Meta:
        table_name = "notifications"


class Device(NamedTuple):
    """A device to push to.

    Parameters:
      last_seen_at: as PostgreSQL writes it in JSON.
    """

    token: str
    last_seen_at: str


class ClaimedPush(NamedTuple):
    """A notification that this process pushes now: what its row says, and its user's devices.

    Parameters:
      push_attempts: this attempt included.
      push_error: the error of the last attempt.
      pushed_at: when the first device was reached.
      remaining_tokens: the devices that were not reached, once at least one was.
    """

    id: str
    user_id: str
    type: str
    payload: dict[str, Any]
    created_at: datetime
    push_attempts: int
    push_error: str | None
    pushed_at: datetime | None
    remaining_tokens: list[str] | None
    devices: list[Device]


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
    """The statement that runs a query and, if it writes a row, INSERT: the number of its rows, and ANNOUNCED.

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
    written, _due = WRITE(**values_of([new])).fetchone()
    return new.id if written else None


def open_pushes() -> OpenPushes:
    """Number and age of the open notifications."""
    rows = database.execute_sql(OPEN_PUSHES).fetchall()
    counts: dict[str, int] = dict.fromkeys((PushStatus.PENDING, PushStatus.SENDING, PushStatus.SENT), 0)
    return OpenPushes(
        by_status={**counts, **{status: count for status, count, _ in rows}},
        oldest_age_s=max((age for _, _, age in rows), default=0.0),
    )


def claim_pushes(ids: Sequence[str] | None = None, *, limit: int) -> list[ClaimedPush]:
    """Claim open notifications for `PUSH_LEASE_S`, those with these IDs or those that are due.

    Left out are those that are settled, whose time has not come, or that another process has claimed.
    """
    lease = (PUSH_LEASE_S, PUSH_LEASE_S)
    if ids is None:
        rows = database.execute_sql(CLAIM_DUE, (limit, *lease))
    else:
        rows = database.execute_sql(CLAIM_BY_ID, (list(ids), limit, *lease))
    return [ClaimedPush._make((*row, [Device(*device) for device in devices])) for *row, devices in rows.fetchall()]


def next_due_s() -> float | None:
    """Seconds until another notification is due; None if none will be."""
    ((seconds,),) = database.execute_sql(NEXT_DUE).fetchall()
    return seconds  # type: ignore[no-any-return]


@is_step("settle")
def settle_pushes(outcomes: Iterable[tuple[ClaimedPush, PushOutcome]]) -> set[str]:
    """Store the outcomes of claimed pushes; the IDs of those whose claim was not lost to another process."""
    settled = [
        {
            "id": claimed.id,
            "attempts": claimed.push_attempts,
            "status": outcome.status,
            "error": _storable(outcome.error),
            "retry_in_s": outcome.retry_in_s,
            "remaining": outcome.remaining,
            "is_attempt": outcome.is_attempt,
        }
        for claimed, outcome in outcomes
    ]
    rows = database.execute_sql(SETTLE, (msgspec.json.encode(settled).decode(),)).fetchall()
    return {notification_id for (notification_id,) in rows}


def remove_devices(gone: Sequence[Device]) -> None:
    """Delete devices that FCM no longer knows, unless they were seen again since they were read."""
    rows = [device._asdict() for device in gone]
    database.execute_sql(REMOVE_DEVICES, (msgspec.json.encode(rows).decode(),))


def _storable(text: str | None) -> str | None:
    """The text without what PostgreSQL cannot store: one error must not keep the other outcomes from being stored."""
    return text and text.encode(errors="replace").decode().replace("\x00", "")
