"""The dead letters that somebody deleted: which, who, when and why. What they held is gone; its digest is here."""

from __future__ import annotations

import hashlib

from peewee import TextField, fn
from playhouse.postgres_ext import DateTimeTZField

from graphnode.storage.database import Record, connection


class DeletedLetterRecord(Record):
    """A dead letter that was deleted."""

    message_id = TextField(primary_key=True)
    queue = TextField()
    task_id = TextField(null=True)
    task_type = TextField(null=True)
    user_id = TextField(null=True)
    #: The reason why it was a dead letter.
    reason = TextField()
    #: Why it was deleted, in the words of whoever did.
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
    """Note that a dead letter is deleted, before it is; a second time changes the note.

    Parameters:
      message_id: SQS's ID of the letter.
      queue: `results`, `notifications` or `requests`.
      reason: why it was a dead letter.
      because: why it is deleted.
      deleted_by: who does it, on which machine.
      body: its digest is kept. A body may hold a user's words, and need not say whose.
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
    with connection():
        DeletedLetterRecord.insert({DeletedLetterRecord.message_id: message_id, **values}).on_conflict(
            conflict_target=[DeletedLetterRecord.message_id], update=values
        ).execute()
