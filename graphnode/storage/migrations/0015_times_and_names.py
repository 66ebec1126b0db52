"""Expand: the times and names that clients read, of graphs, nodes, edges, subclusters, documents and workspaces.

Rows of before have none. Rows that workers of the previous release insert get their times by default.
"""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

from graphnode.storage.online import change_table

atomic = False

GRAPHS = "ALTER TABLE graphs ADD COLUMN IF NOT EXISTS content_updated_at timestamptz"

NODES = """
ALTER TABLE graph_nodes
    ADD COLUMN IF NOT EXISTS title text,
    ADD COLUMN IF NOT EXISTS label text,
    ADD COLUMN IF NOT EXISTS summary text,
    ADD COLUMN IF NOT EXISTS created_at timestamptz,
    ADD COLUMN IF NOT EXISTS updated_at timestamptz,
    ALTER COLUMN created_at SET DEFAULT now(),
    ALTER COLUMN updated_at SET DEFAULT now()
"""

EDGES = """
ALTER TABLE graph_edges
    ADD COLUMN IF NOT EXISTS relation text,
    ADD COLUMN IF NOT EXISTS created_at timestamptz,
    ADD COLUMN IF NOT EXISTS updated_at timestamptz,
    ALTER COLUMN created_at SET DEFAULT now(),
    ALTER COLUMN updated_at SET DEFAULT now()
"""

SUBCLUSTERS = """
ALTER TABLE graph_subclusters
    ADD COLUMN IF NOT EXISTS internal_edges integer,
    ADD COLUMN IF NOT EXISTS cohesion_score double precision
"""

DOCUMENTS = """
ALTER TABLE microscope_documents
    ADD COLUMN IF NOT EXISTS file_name text,
    ADD COLUMN IF NOT EXISTS node_id text,
    ADD COLUMN IF NOT EXISTS node_type text,
    ADD COLUMN IF NOT EXISTS input_s3_key text,
    ADD COLUMN IF NOT EXISTS created_at timestamptz,
    ADD COLUMN IF NOT EXISTS updated_at timestamptz,
    ALTER COLUMN created_at SET DEFAULT now(),
    ALTER COLUMN updated_at SET DEFAULT now()
"""

WORKSPACES = """
ALTER TABLE microscope_workspaces
    ADD COLUMN IF NOT EXISTS created_at timestamptz,
    ADD COLUMN IF NOT EXISTS updated_at timestamptz,
    ALTER COLUMN created_at SET DEFAULT now(),
    ALTER COLUMN updated_at SET DEFAULT now()
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Add the columns, one table after the other."""
    for statement in (GRAPHS, NODES, EDGES, SUBCLUSTERS, DOCUMENTS, WORKSPACES):
        change_table(db, statement)
