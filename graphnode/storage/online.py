"""Changes to tables in use, for migrations with `atomic = False`: they run outside a transaction."""

from __future__ import annotations

import time
from typing import Any

from peewee import Database

from graphnode.errors import SchemaError
from graphnode.storage.migration_locks import set_bounds

#: Seconds between two checks, and between two passes.
LOOK_S = 0.5

#: The most passes over a table: rows may be in use, or be inserted behind the current batch.
PASSES = 10

#: A new column has no statistics. PostgreSQL would expect few matching rows, and sort the whole table for each batch.
IN_ORDER = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"

BEING_BUILT = """
SELECT 1 FROM pg_stat_progress_create_index AS making JOIN pg_class ON pg_class.oid = making.index_relid
WHERE making.datname = current_database() AND pg_class.relname = %s
"""

IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"


def make_index(db: Database, name: str, on: str, *, unique: bool = False) -> None:
    """Create an index while workers write, unless it exists.

    It also handles what an interrupted run has left. If the migrator was killed, PostgreSQL may still be building the
    index: wait for it. If the build failed, an invalid index exists: drop it and build it again.

    Parameters:
      name: the name of the index, in lower case.
      on: what follows ON in the statement: `tasks (user_id) WHERE reason IS NOT NULL`.
    """
    while db.execute_sql(BEING_BUILT, (name,)).fetchone():
        time.sleep(LOOK_S)
    if db.execute_sql(IS_VALID, (name,)).fetchone() == (False,):
        db.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    db.execute_sql(f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY IF NOT EXISTS {name} ON {on}")


def change_table(db: Database, statement: str) -> None:
    """Run an ALTER TABLE as a transaction of its own, which waits for its lock as briefly as any migration.

    If the table is in use, the whole migration is tried again: a statement that was applied must do no harm then.
    """
    with db.atomic():
        set_bounds(db)
        db.execute_sql(statement)


def in_batches(db: Database, table: str, *, key: str, to: str, where: str, size: int = 1000) -> None:
    """Update all rows that meet a condition, in batches by primary key; each batch is a transaction.

    It skips locked rows, so it has no deadlock with workers; a later pass updates them.

    Parameters:
      key: the columns of the primary key: `task_id, task_type`.
      to: what follows SET in the statement.
      where: the condition. An updated row must not meet it any more. It must not contain `%`.
      size: rows per batch.

    Raises:
      SchemaError: After `PASSES` passes there are still such rows.
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
        f"{table} still has rows where {where}: workers of the previous release keep writing them. Run "
        "`graphnode migrate` again when these workers have ended; the rows that were changed stay changed."
    )


def _batch(db: Database, change: str, last: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
    with db.atomic():
        set_bounds(db)
        db.execute_sql(IN_ORDER)
        found: tuple[Any, ...] | None = db.execute_sql(change, last).fetchone()
        return found
