"""What migrations do to tables in use without a transaction of their own: they say `atomic = False`."""

from __future__ import annotations

import time

from peewee import Database

from graphnode.storage.migration_locks import set_bounds

#: Seconds between two looks at what somebody else is at.
LOOK_S = 0.5

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
    """Change all rows that a condition holds for, some at a time, each time in a transaction of its own.

    It waits for nobody's row, and so is in no deadlock with workers: rows that are in use are changed later.

    Parameters:
      key: the table's primary key: `task_id, task_type`.
      to: what follows SET.
      where: which rows; for a row that was changed it holds no longer.
      size: rows at a time.
    """
    look = f"SELECT {key} FROM {table} WHERE {where} LIMIT"  # noqa: S608
    change = f"UPDATE {table} SET {to} WHERE ({key}) IN ({look} {size} FOR UPDATE SKIP LOCKED)"  # noqa: S608
    while db.execute_sql(f"{look} 1").fetchone():
        with db.atomic():
            set_bounds(db)
            changed = db.execute_sql(change).rowcount
        if not changed:
            time.sleep(LOOK_S)
