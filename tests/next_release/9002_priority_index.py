"""Expand: an index on a table in use."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

from graphnode.storage.online import make_index

atomic = False


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Make it."""
    make_index(db, "tasks_urgent", "tasks (priority) WHERE priority > 0")
