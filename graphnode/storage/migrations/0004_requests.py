"""Requests and failures of tasks: when a request was published, why a task failed, and its failed attempts."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

STATEMENTS = """
SET LOCAL lock_timeout = '5s';

ALTER TABLE tasks
    ADD COLUMN published_at timestamptz,
    ADD COLUMN reason text,
    ADD COLUMN swept_at timestamptz;

-- Few tasks are open; the others are not in this index.
CREATE INDEX tasks_open ON tasks (updated_at) WHERE status IN ('PENDING', 'PROGRESS');

-- By task and not by message, and kept when the message is done with.
CREATE TABLE task_attempts (
    id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    task_id    text NOT NULL,
    task_type  text NOT NULL,
    user_id    text,
    attempt    integer NOT NULL,
    reason     text NOT NULL,
    error      text NOT NULL,
    given_up   boolean NOT NULL,
    failed_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON task_attempts (task_id, id);
CREATE INDEX ON task_attempts (user_id);
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Add the columns, an index and the table of attempts."""
    db.execute_sql(STATEMENTS)
