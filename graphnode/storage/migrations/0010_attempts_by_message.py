"""Expand: the failures of a message that count, in order; two deliveries at the same time cannot count as one."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

from graphnode.storage.online import make_index

atomic = False


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Make the index."""
    on = "task_attempts (message_id, attempt) WHERE message_id IS NOT NULL"
    make_index(db, "task_attempts_of_message", on, unique=True)
