"""Expand: the error of what keeps a worker process from taking messages, and what mends it.

Workers of the previous release write neither.
"""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

STATEMENTS = """
ALTER TABLE workers
    ADD COLUMN outage_error text,
    ADD COLUMN outage_advice text;
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Add the columns."""
    db.execute_sql(STATEMENTS)
