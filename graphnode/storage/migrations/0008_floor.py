"""The newest migration that code must know to work with the schema, and the newest that each worker process knows.

Migrations that remove something set `floor`. Each process writes its `newest_migration`.
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
