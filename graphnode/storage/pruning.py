"""Deletes old rows that nobody needs any more, in small transactions, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from graphnode.storage.database import STATEMENT_TIMEOUT_MS, Limits, database, statement_limits

#: Table pages per transaction: a few thousand rows, some tens of milliseconds.
BATCH_PAGES = 256

#: By table, the condition for old rows. A row that is still in use is never old.
OLD: Mapping[str, str] = {
    "notifications": "created_at < %(before)s AND push_status IN ('SENT', 'SKIPPED', 'FAILED') AND due_at IS NULL",
    "tasks": "finished_at < %(before)s AND status IN ('COMPLETED', 'FAILED', 'SUPERSEDED')",
    "task_attempts": "failed_at < %(before)s",
    "deleted_letters": "deleted_at < %(before)s",
}

PAGES = "SELECT pg_relation_size(%(table)s::regclass) / current_setting('block_size')::int"

#: Rows by address: each page is read once, in order, and no index is needed.
#: https://www.postgresql.org/docs/current/runtime-config-query.html#GUC-ENABLE-TIDSCAN
RANGE = "ctid >= %(first)s::tid AND ctid < %(last)s::tid"


class PruningProgress(NamedTuple):
    """How far the pruning of a table is.

    Parameters:
      rows: rows deleted so far; for a dry run, rows that would be deleted.
      share: the part of the table that was searched, from 0 to 1.
    """

    table: str
    rows: int
    share: float


def prune(before: datetime, *, dry_run: bool = False) -> Iterator[PruningProgress]:
    """Delete rows that are older than a moment, in batches; yields the progress after each batch.

    Each batch is one transaction, so it can be stopped and started again at any time.

    Parameters:
      before: rows of this moment or later stay.
      dry_run: only count the rows.
    """
    for table, is_old in OLD.items():
        where = f"FROM {table} WHERE {RANGE} AND {is_old}"
        statement = f"SELECT count(*) {where}" if dry_run else f"DELETE {where}"
        rows, pages = 0, _number(PAGES, {"table": table})
        for first in range(0, pages, BATCH_PAGES):
            last = min(first + BATCH_PAGES, pages)
            rows += _number(statement, {"first": f"({first},0)", "last": f"({last},0)", "before": before})
            yield PruningProgress(table, rows, last / pages)
        if not pages:
            yield PruningProgress(table, 0, 1.0)


def _number(statement: str, values: Mapping[str, object]) -> int:
    """The result of a counting query, or the number of rows that a statement changed."""
    with statement_limits(Limits(statement_ms=STATEMENT_TIMEOUT_MS)):
        cursor = database.execute_sql(statement, values)
    return int(cursor.fetchone()[0] if cursor.description else cursor.rowcount)
