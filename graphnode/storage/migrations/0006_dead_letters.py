"""The stack traces of failed attempts, and a record of deleted dead letters."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

STATEMENTS = """
SET LOCAL lock_timeout = '5s';

ALTER TABLE task_attempts ADD COLUMN stack text;

CREATE TABLE deleted_letters (
    message_id   text PRIMARY KEY,
    queue        text NOT NULL,
    task_id      text,
    task_type    text,
    user_id      text,
    reason       text NOT NULL,
    because      text NOT NULL,
    deleted_by   text NOT NULL,
    deleted_at   timestamptz NOT NULL DEFAULT now(),
    body_sha256  text NOT NULL
);
-- For `graphnode forget`.
CREATE INDEX ON deleted_letters (user_id);
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Add the column and the table."""
    db.execute_sql(STATEMENTS)
