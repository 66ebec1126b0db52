"""Deleting old rows that nobody needs any more: in small transactions, page by page of each table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from graphnode.storage.database import connection, database

#: Pages of a table that one transaction looks through: some thousand rows, a few ten milliseconds.
BATCH_PAGES = 256

#: By table, which of its rows are old. A row that is still worked with is not, whatever its age.
OLD: Mapping[str, str] = {
    "notifications": "created_at < %(before)s AND push_status IN ('SENT', 'SKIPPED', 'FAILED') AND due_at IS NULL",
    "tasks": "finished_at < %(before)s AND status IN ('COMPLETED', 'FAILED', 'SUPERSEDED')",
    "message_failures": "failed_at < %(before)s",
    "task_attempts": "failed_at < %(before)s",
    "deleted_letters": "deleted_at < %(before)s",
}

PAGES = "SELECT pg_relation_size(%(table)s::regclass) / current_setting('block_size')::int"

#: By row address: each page is read once, in order, and no index is needed.
#: https://www.postgresql.org/docs/current/runtime-config-query.html#GUC-ENABLE-TIDSCAN
RANGE = "ctid >= %(first)s::tid AND ctid < %(last)s::tid"


class Pruned(NamedTuple):
    """How far a table is pruned.

    Parameters:
      table: its name.
      rows: how many rows were deleted, or would be, so far.
      share: how much of the table has been looked through, from 0 to 1.
    """

    table: str
    rows: int
    share: float


def prune(before: datetime, *, dry_run: bool = False) -> Iterator[Pruned]:
    """Delete rows that were done with before a moment, batch by batch, and say after each how far it is.

    Each batch is a transaction of its own: it can be stopped at any point, and started again.

    Parameters:
      before: rows of that time or later stay.
      dry_run: count them only.
    """
    for table, is_old in OLD.items():
        where = f"FROM {table} WHERE {RANGE} AND {is_old}"
        statement = f"SELECT count(*) {where}" if dry_run else f"DELETE {where}"
        rows, pages = 0, _number(PAGES, {"table": table})
        for first in range(0, pages, BATCH_PAGES):
            last = min(first + BATCH_PAGES, pages)
            rows += _number(statement, {"first": f"({first},0)", "last": f"({last},0)", "before": before})
            yield Pruned(table, rows, last / pages)
        if not pages:
            yield Pruned(table, 0, 1.0)


def _number(statement: str, values: Mapping[str, object]) -> int:
    """The number that a query gives, or of the rows that a statement has changed."""
    with connection():
        cursor = database.execute_sql(statement, values)
        return int(cursor.fetchone()[0] if cursor.description else cursor.rowcount)
