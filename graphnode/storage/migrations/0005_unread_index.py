"""Drop an index that no query uses."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

STATEMENTS = """
SET LOCAL lock_timeout = '5s';

-- A user's pending notifications: the sweep finds them by `due_at`, whoever's they are. Each push wrote this one twice.
DROP INDEX notifications_user_id_idx;
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Drop the index."""
    db.execute_sql(STATEMENTS)
