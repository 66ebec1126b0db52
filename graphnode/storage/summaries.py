"""Summaries of users' graphs."""

from __future__ import annotations

from datetime import datetime

from peewee import EXCLUDED, TextField
from playhouse.postgres_ext import DateTimeTZField

from graphnode.rules.rows import SummaryRow
from graphnode.steps import is_step
from graphnode.storage.database import NEWEST_BELIEVED, JsonField, Record


class SummaryRecord(Record):
    """The summary of a user's graph."""

    user_id = TextField(primary_key=True)
    overview = JsonField()
    clusters = JsonField()
    patterns = JsonField()
    connections = JsonField()
    recommendations = JsonField()
    detail_level = TextField(null=True)
    generated_at = DateTimeTZField(null=True)
    source_timestamp = DateTimeTZField(null=True)

    class Meta:
        table_name = "graph_summaries"


@is_step("summary")
def replace_summary(user_id: str, row: SummaryRow, *, source_timestamp: datetime) -> bool:
    """Replace the user's summary, unless the stored one was sent later. A stored time in the future does not count.

    Parameters:
      source_timestamp: when the AI server sent it.

    Returns whether it was stored.
    """
    values = {**row._asdict(), "source_timestamp": source_timestamp}
    stored_at = SummaryRecord.source_timestamp
    is_newest = stored_at.is_null() | (stored_at <= EXCLUDED.source_timestamp) | (stored_at > NEWEST_BELIEVED)
    written: int = (
        SummaryRecord.insert(user_id=user_id, **values)
        .on_conflict(conflict_target=[SummaryRecord.user_id], update=values, where=is_newest)
        .as_rowcount()
        .execute()
    )
    return written > 0
