"""Expand: attempts name their message, whose failures are counted from them; a message may have no task.

Workers of the previous release count in `message_failures`, and write attempts without a message.
"""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

STATEMENTS = """
-- The previous release reads the attempts of a task, and counts all attempts: none of it needs a task.
ALTER TABLE task_attempts
    ADD COLUMN message_id text,
    -- squawk-ignore ban-drop-not-null
    ALTER COLUMN task_id DROP NOT NULL,
    -- squawk-ignore ban-drop-not-null
    ALTER COLUMN task_type DROP NOT NULL;
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Add the column, and allow attempts of no task."""
    db.execute_sql(STATEMENTS)
