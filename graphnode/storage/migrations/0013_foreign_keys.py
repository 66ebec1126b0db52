"""Expand: every foreign key's columns lead an index, and no index of nodes beside the primary key begins with the user.

Where PostgreSQL's statistics are of a time with few nodes, one row is expected of any user. All indexes that begin with
`user_id` then cost the same to the planner, and the check of each edge may read all of the user's nodes.
"""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

from graphnode.storage.online import change_table, make_index

atomic = False

#: The constraint keeps its name and its checks; its index has the columns in the other order.
SWAP = """
ALTER TABLE graph_nodes
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT graph_nodes_has_each_source_once,
    ADD CONSTRAINT graph_nodes_has_each_source_once
        UNIQUE USING INDEX graph_nodes_of_source DEFERRABLE INITIALLY DEFERRED
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Make the indexes."""
    make_index(db, "graph_nodes_of_cluster", "graph_nodes (cluster_id, user_id)")
    make_index(db, "graph_subclusters_of_cluster", "graph_subclusters (cluster_id, user_id)")
    make_index(db, "graph_subclusters_of_node", "graph_subclusters (representative_node_id, user_id)")
    make_index(db, "microscope_documents_of_workspace", "microscope_documents (workspace_id, user_id)")
    db.execute_sql("DROP INDEX CONCURRENTLY IF EXISTS microscope_documents_workspace_id_idx")
    make_index(db, "graph_nodes_of_source", "graph_nodes (orig_id, user_id)", unique=True)
    try:
        change_table(db, SWAP)
    finally:
        # Until it is the constraint's, it refuses nodes that change places: it must not stay if the table is in use.
        db.execute_sql("DROP INDEX CONCURRENTLY IF EXISTS graph_nodes_of_source")
