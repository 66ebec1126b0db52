"""Expand: what operators did, what worker processes run, and an index of the tasks that failed or were superseded."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

from graphnode.storage.online import change_table, make_index

atomic = False

AUDIT = """
CREATE TABLE IF NOT EXISTS audit (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    actor    text NOT NULL,
    via      text NOT NULL CHECK (via IN ('console', 'command')),
    action   text NOT NULL,
    subject  text NOT NULL,
    because  text,
    -- Until the user is forgotten.
    user_id  text,
    state    text NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'DONE', 'STOPPED', 'FAILED')),
    outcome  text NOT NULL DEFAULT '',
    news_at  timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
)
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Add the table, the column and the indexes."""
    change_table(db, AUDIT)
    change_table(db, "ALTER TABLE workers ADD COLUMN IF NOT EXISTS runs jsonb")
    make_index(db, "audit_of_user", "audit (user_id) WHERE user_id IS NOT NULL")
    make_index(db, "tasks_without_effect", "tasks (finished_at) WHERE status IN ('FAILED', 'SUPERSEDED')")
