"""Backfill: who asked for the existing tasks. Then the check is valid for old rows too."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

from graphnode.storage.online import in_batches

atomic = False


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Fill the column, and validate the check."""
    in_batches(db, "tasks", key="task_id, task_type", to="asked_by = user_id", where="asked_by IS NULL")
    db.execute_sql("ALTER TABLE tasks VALIDATE CONSTRAINT tasks_priority_is_known")
