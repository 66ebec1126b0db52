"""Contract: drop the column that no code has used since the release whose newest migration is FLOOR."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

FLOOR = "9003_priority_filled"

STATEMENTS = """
ALTER TABLE tasks DROP COLUMN eta_seconds;
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Drop it."""
    db.execute_sql(STATEMENTS)
