"""Backfill: when the content of the existing graphs last changed, no later than it did.

It is the time at which the AI server sent the graph as a whole. Graphs that were never sent so have none.
"""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

from graphnode.storage.online import in_batches

atomic = False


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Fill the column."""
    in_batches(
        db,
        "graphs",
        key="user_id",
        # The previous release has stored times in the future.
        to="content_updated_at = least(source_timestamp, updated_at)",
        where="content_updated_at IS NULL AND source_timestamp IS NOT NULL",
    )
