"""Summaries of users' graphs."""

from __future__ import annotations

from datetime import datetime

from peewee import EXCLUDED, TextField
from playhouse.postgres_ext import DateTimeTZField

from graphnode.rules.rows import SummaryRow
from graphnode.steps import is_step
from graphnode.storage.database import NEWEST_BELIEVED, JsonField, Record
from graphnode.storage.statements import Statement, given, given_json


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


#: Not if the stored one was sent later. A stored time in the future does not count.
REPLACE = Statement(
    SummaryRecord.insert(
        {
            SummaryRecord.user_id: given("user_id"),
            SummaryRecord.overview: given_json("overview"),
            SummaryRecord.clusters: given_json("clusters"),
            SummaryRecord.patterns: given_json("patterns"),
            SummaryRecord.connections: given_json("connections"),
            SummaryRecord.recommendations: given_json("recommendations"),
            SummaryRecord.detail_level: given("detail_level"),
            SummaryRecord.generated_at: given("generated_at"),
            SummaryRecord.source_timestamp: given("source_timestamp"),
        }
    )
    .on_conflict(
        conflict_target=[SummaryRecord.user_id],
        preserve=[field for field in SummaryRecord._meta.sorted_fields if not field.primary_key],
        where=SummaryRecord.source_timestamp.is_null()
        | (SummaryRecord.source_timestamp <= EXCLUDED.source_timestamp)
        | (SummaryRecord.source_timestamp > NEWEST_BELIEVED),
    )
    .returning(SummaryRecord.user_id)
)


@is_step("summary")
def replace_summary(user_id: str, row: SummaryRow, *, source_timestamp: datetime) -> bool:
    """Replace the user's summary, unless the stored one was sent later.

    Parameters:
      source_timestamp: when the AI server sent it.

    Returns whether it was stored.
    """
    written = REPLACE(user_id=user_id, **row._asdict(), source_timestamp=source_timestamp)
    return written.fetchone() is not None
