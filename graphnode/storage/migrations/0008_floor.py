"""Beside each migration what code must know to work with it, and beside each worker process what it knows.

`floor` is set by migrations that take something away; `newest_migration` is what a process's code knows.
"""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

STATEMENTS = """
ALTER TABLE schema_migration ADD COLUMN floor text;
ALTER TABLE workers ADD COLUMN newest_migration text;
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Add the columns."""
    db.execute_sql(STATEMENTS)
