"""The audit table: who did what, when and why, and what came of it.

An entry is written before its action begins, and again as it goes on. So one whose process died is there, too.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec
from peewee import SQL, BigAutoField, TextField, fn
from playhouse.postgres_ext import DateTimeTZField

from graphnode.storage.database import Record

#: Seconds without news after which a running action's process has most likely died.
LOST_AFTER_S = 60

#: What stands for the subject of an action once its user is forgotten.
FORGOTTEN = "of a forgotten user"


class ActionState(StrEnum):
    """How far an action is."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


class AuditRecord(Record):
    """An action of an operator."""

    id = BigAutoField()
    at = DateTimeTZField()
    actor = TextField()
    #: `console` or `command`.
    via = TextField()
    action = TextField()
    #: To what it was done, in words. It names what is a user's only if `user_id` is set.
    subject = TextField()
    because = TextField(null=True)
    #: The user whose data it is about; None if it is about no single one, or if they were forgotten.
    user_id = TextField(null=True)
    state = TextField(default=ActionState.RUNNING)
    #: What came of it so far, in words and numbers without user data.
    outcome = TextField(default="")
    news_at = DateTimeTZField()
    ended_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "audit"


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as it is shown; the other fields are the columns of `AuditRecord`.

    Parameters:
      is_lost: it says that it runs, and has had no news for `LOST_AFTER_S`.
    """

    id: int
    at: datetime
    actor: str
    via: str
    action: str
    subject: str
    because: str | None
    user_id: str | None
    state: str
    outcome: str
    ended_at: datetime | None
    is_lost: bool


def begin_entry(
    action: str,
    subject: str,
    *,
    actor: str,
    via: Literal["console", "command"],
    because: str | None = None,
    user_id: str | None = None,
) -> int:
    """Write the entry of an action that begins; returns its ID."""
    made: int = AuditRecord.insert(
        action=action, subject=subject, actor=actor, via=via, because=because, user_id=user_id, **_now("at", "news_at")
    ).execute()
    return made


def update_entry(entry_id: int, outcome: str, state: ActionState = ActionState.RUNNING) -> None:
    """Write what came of an action so far, and how far it is."""
    ended = {} if state is ActionState.RUNNING else _now("ended_at")
    AuditRecord.update(outcome=outcome, state=state, **_now("news_at"), **ended).where(
        AuditRecord.id == entry_id
    ).execute()


def entry(entry_id: int) -> AuditEntry | None:
    """The entry with this ID, if there is one."""
    return next(iter(_read(AuditRecord.id == entry_id, most=1)), None)


def entries(*, before: int | None = None, action: str | None = None, most: int) -> list[AuditEntry]:
    """The newest entries.

    Parameters:
      before: only those with a lower ID.
      action: only those of this action.
    """
    conditions = [AuditRecord.id < before] if before is not None else []
    conditions += [AuditRecord.action == action] if action else []
    return _read(*conditions, most=most)


def _read(*conditions: object, most: int) -> list[AuditEntry]:
    is_lost = SQL("state = 'RUNNING' AND news_at < now() - make_interval(secs => %s)", (LOST_AFTER_S,)).alias("is_lost")
    query = AuditRecord.select(AuditRecord, is_lost).order_by(AuditRecord.id.desc()).limit(most)
    if conditions:
        query = query.where(*conditions)
    return [msgspec.convert(row, AuditEntry, from_attributes=True) for row in query]


def forget_entries(user_id: str) -> int:
    """Take a user out of all entries; returns how many named them. Who acted, when and how it ended stays."""
    changed: int = (
        AuditRecord.update(user_id=None, subject=FORGOTTEN, because=None)
        .where(AuditRecord.user_id == user_id)
        .execute()
    )
    return changed


def _now(*columns: str) -> dict[str, object]:
    return dict.fromkeys(columns, fn.now())
