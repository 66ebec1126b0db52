"""Expand: a row that says whose something is never changes its user, whoever writes it."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

from graphnode.storage.online import change_table

atomic = False

FUNCTION = """
CREATE OR REPLACE FUNCTION graphnode_refuse_another_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%% stays its user''s: user_id never changes', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
"""

#: `UPDATE OF` is asked of statements that name the column alone: an upsert with the same user costs a comparison.
TRIGGER = """
DROP TRIGGER IF EXISTS keeps_its_owner ON {table};
CREATE TRIGGER keeps_its_owner BEFORE UPDATE OF user_id ON {table}
    FOR EACH ROW WHEN (OLD.user_id IS DISTINCT FROM NEW.user_id)
    EXECUTE FUNCTION graphnode_refuse_another_owner();
"""

#: Device tokens are not among them: another user may log in on a device. What belongs to a graph has its foreign key.
TABLES = ("tasks", "graphs", "graph_summaries", "microscope_workspaces", "microscope_documents", "notifications")


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Make the triggers, one table after the other: whoever holds several waits for workers that wait for it."""
    change_table(db, FUNCTION)
    for table in TABLES:
        change_table(db, TRIGGER.format(table=table))
