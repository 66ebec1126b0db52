"""Expand: indexes for the status of a graph: a user's open tasks, and the graphs whose status says that one is open."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

from graphnode.storage.online import make_index

atomic = False


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Make the indexes."""
    make_index(db, "tasks_open_of_user", "tasks (user_id) WHERE status IN ('PENDING', 'PROGRESS')")
    make_index(db, "graphs_under_way", "graphs (user_id) WHERE status IN ('CREATING', 'UPDATING')")
