"""Deleted dead letters: which, by whom, when and why. Of the body only a digest is kept."""

from __future__ import annotations

import hashlib

from peewee import TextField, fn
from playhouse.postgres_ext import DateTimeTZField

from graphnode.storage.database import Record


class DeletedLetterRecord(Record):
    """A dead letter that was deleted."""

    message_id = TextField(primary_key=True)
    queue = TextField()
    task_id = TextField(null=True)
    task_type = TextField(null=True)
    user_id = TextField(null=True)
    #: Why it became a dead letter.
    reason = TextField()
    #: Why it was deleted, as the operator typed it.
    because = TextField()
    deleted_by = TextField()
    deleted_at = DateTimeTZField()
    body_sha256 = TextField()

    class Meta:
        table_name = "deleted_letters"


def record_deletion(
    message_id: str,
    *,
    queue: str,
    task_id: str | None,
    task_type: str | None,
    user_id: str | None,
    reason: str,
    because: str,
    deleted_by: str,
    body: str,
) -> None:
    """Record that a dead letter is deleted. Call it before the deletion; a second call overwrites the record.

    Parameters:
      message_id: SQS's ID of the dead letter.
      queue: `results`, `notifications` or `requests`.
      reason: why it became a dead letter.
      because: why it is deleted.
      deleted_by: who deletes it, on which machine.
      body: only its digest is stored, because a body may hold text of a user without naming the user.
    """
    values = {
        DeletedLetterRecord.queue: queue,
        DeletedLetterRecord.task_id: task_id,
        DeletedLetterRecord.task_type: task_type,
        DeletedLetterRecord.user_id: user_id,
        DeletedLetterRecord.reason: reason,
        DeletedLetterRecord.because: because,
        DeletedLetterRecord.deleted_by: deleted_by,
        DeletedLetterRecord.deleted_at: fn.now(),
        DeletedLetterRecord.body_sha256: hashlib.sha256(body.encode()).hexdigest(),
    }
    DeletedLetterRecord.insert({DeletedLetterRecord.message_id: message_id, **values}).on_conflict(
        conflict_target=[DeletedLetterRecord.message_id], update=values
    ).execute()
