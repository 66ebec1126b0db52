"""Expand: a priority and notes for tasks. Workers of the previous release know neither."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

STATEMENTS = """
ALTER TABLE tasks
    ADD COLUMN asked_by text,
    ADD COLUMN priority integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT tasks_priority_is_known CHECK (priority BETWEEN 0 AND 9) NOT VALID;

CREATE TABLE task_notes (
    id        bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    task_id   text NOT NULL,
    task_type text NOT NULL,
    note      text NOT NULL
);
CREATE INDEX ON task_notes (task_id, id);
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Add the columns and the table."""
    db.execute_sql(STATEMENTS)
