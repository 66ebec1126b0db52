"""What migrations do to tables in use without a transaction of their own: they say `atomic = False`."""

from __future__ import annotations

import time
from typing import Any

from peewee import Database

from graphnode.errors import SchemaError
from graphnode.storage.migration_locks import set_bounds

#: Seconds between two looks at what somebody else is at.
LOOK_S = 0.5

#: How often a table is gone through for rows that were in use, or have come behind.
PASSES = 10

#: A new column has no statistics: PostgreSQL would take few rows to be left, and sort the whole table for each batch.
IN_ORDER = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"

BEING_MADE = """
SELECT 1 FROM pg_stat_progress_create_index AS making JOIN pg_class ON pg_class.oid = making.index_relid
WHERE making.datname = current_database() AND pg_class.relname = %s
"""

IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"


def make_index(db: Database, name: str, on: str, *, unique: bool = False) -> None:
    """Make an index while workers write, unless it is there.

    What an interrupted run has left is waited for or made anew: PostgreSQL goes on making the index of a migrator that
    was killed, and an index whose making failed is there, invalid, and of no use.

    Parameters:
      name: the index's, in lower case.
      on: what follows ON: `tasks (user_id) WHERE reason IS NOT NULL`.
    """
    while db.execute_sql(BEING_MADE, (name,)).fetchone():
        time.sleep(LOOK_S)
    if db.execute_sql(IS_VALID, (name,)).fetchone() == (False,):
        db.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    db.execute_sql(f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY IF NOT EXISTS {name} ON {on}")


def in_batches(db: Database, table: str, *, key: str, to: str, where: str, size: int = 1000) -> None:
    """Change all rows that a condition holds for, some at a time in the key's order, each time in its own transaction.

    It waits for nobody's row, and so is in no deadlock with workers: rows that are in use are changed by another pass.

    Parameters:
      key: the table's primary key: `task_id, task_type`.
      to: what follows SET.
      where: which rows; for a row that was changed it holds no longer. No `%` is in it.
      size: rows at a time.

    Raises:
      SchemaError: Such rows keep coming.
    """
    columns = key.split(", ")
    behind_last = f"({key}) > ({', '.join(['%s'] * len(columns))})"
    last_first = ", ".join(f"{column} DESC" for column in columns)

    def change(which: str) -> str:
        return f"""
            WITH batch AS MATERIALIZED (
                SELECT {key}, ctid FROM {table} WHERE {which} ORDER BY {key} LIMIT {size} FOR UPDATE SKIP LOCKED
            ), changed AS (UPDATE {table} SET {to} WHERE ctid = ANY (ARRAY(SELECT ctid FROM batch)))
            SELECT {key} FROM batch ORDER BY {last_first} LIMIT 1
        """  # noqa: S608

    for _ in range(PASSES):
        last = _batch(db, change(where))
        while last:
            last = _batch(db, change(f"({where}) AND {behind_last}"), last)
        if not db.execute_sql(f"SELECT 1 FROM {table} WHERE {where} LIMIT 1").fetchone():  # noqa: S608
            return
        time.sleep(LOOK_S)
    raise SchemaError(
        f"{table} has rows again and again for which {where}: workers run that write them. Run `graphnode migrate` "
        "again when those of the release before have ended; what was filled stays."
    )


def _batch(db: Database, change: str, last: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
    with db.atomic():
        set_bounds(db)
        db.execute_sql(IN_ORDER)
        found: tuple[Any, ...] | None = db.execute_sql(change, last).fetchone()
        return found
