"""How often each message has failed."""

from __future__ import annotations

from peewee import IntegerField, TextField, fn
from playhouse.postgres_ext import DateTimeTZField

from graphnode.storage.database import Table, connection


class MessageFailure(Table):
    """A message that has failed and may be delivered again, and why it failed the last time."""

    message_id = TextField(primary_key=True)
    failures = IntegerField()
    reason = TextField()
    error = TextField()
    failed_at = DateTimeTZField()

    class Meta:
        table_name = "message_failures"


def record_failure(message_id: str, *, reason: str, error: str) -> int:
    """Note that a message has failed once more; how often it has failed by now.

    Parameters:
      message_id: SQS's ID, the same at each delivery.
      reason: the error's reason code.
      error: its text.
    """
    row = {MessageFailure.reason: reason, MessageFailure.error: error, MessageFailure.failed_at: fn.now()}
    with connection():
        written = (
            MessageFailure.insert({MessageFailure.message_id: message_id, MessageFailure.failures: 1, **row})
            .on_conflict(
                conflict_target=[MessageFailure.message_id],
                update={MessageFailure.failures: MessageFailure.failures + 1, **row},
            )
            .returning(MessageFailure.failures)
            .execute()
        )
        row_now: MessageFailure = next(iter(written))
        return int(row_now.failures)


def clear_failures(message_id: str) -> None:
    """Forget the failures of a message that will not be delivered again."""
    with connection():
        MessageFailure.delete().where(MessageFailure.message_id == message_id).execute()
