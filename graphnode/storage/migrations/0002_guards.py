"""Constraints against wrong states, the table of forgotten users, and whether a task was registered.

Foreign keys are checked at commit, because workers of the previous release write the same rows in another order.
"""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

STATEMENTS = """
SET LOCAL lock_timeout = '5s';

-- All at once, and `tasks` first, as each worker's transaction does: whoever comes meanwhile waits, and nobody for us.
LOCK TABLE tasks, graphs, graph_nodes, graph_edges, graph_clusters, graph_subclusters, node_embeddings,
    microscope_workspaces, microscope_documents, microscope_graphs, notifications IN ACCESS EXCLUSIVE MODE;

-- What others may have left out.
INSERT INTO microscope_workspaces (id, user_id)
    SELECT workspace_id, min(user_id) FROM microscope_documents WHERE workspace_id IS NOT NULL GROUP BY workspace_id
    ON CONFLICT DO NOTHING;
UPDATE microscope_documents SET error = NULL WHERE status = 'COMPLETED' AND error IS NOT NULL;
UPDATE tasks SET finished_at = NULL
    WHERE finished_at IS NOT NULL AND status NOT IN ('COMPLETED', 'FAILED', 'SUPERSEDED');

-- At commit, too: when a graph is replaced, two nodes may exchange their sources.
ALTER TABLE graph_nodes
    DROP CONSTRAINT graph_nodes_user_id_orig_id_key,
    ADD CONSTRAINT graph_nodes_has_each_source_once UNIQUE (user_id, orig_id) DEFERRABLE INITIALLY DEFERRED;

-- The parts of a graph go with it, and name nothing that is not there.
ALTER TABLE graph_nodes
    ADD FOREIGN KEY (user_id) REFERENCES graphs ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    ADD FOREIGN KEY (user_id, cluster_id) REFERENCES graph_clusters DEFERRABLE INITIALLY DEFERRED,
    ADD CONSTRAINT graph_nodes_id_counts_from_0 CHECK (id >= 0);
ALTER TABLE graph_edges
    ADD FOREIGN KEY (user_id, source) REFERENCES graph_nodes ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    ADD FOREIGN KEY (user_id, target) REFERENCES graph_nodes ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    ADD CONSTRAINT graph_edges_connects_two_nodes CHECK (source <> target),
    ADD CONSTRAINT graph_edges_type_is_known CHECK (type IN ('hard', 'insight'));
-- For the deletion of a node, and for the neighbours of one: the primary key finds only those that it is the source of.
CREATE INDEX ON graph_edges (user_id, target);
ALTER TABLE graph_clusters
    ADD FOREIGN KEY (user_id) REFERENCES graphs ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    ADD CONSTRAINT graph_clusters_size_is_a_count CHECK (size >= 0);
ALTER TABLE graph_subclusters
    ADD FOREIGN KEY (user_id) REFERENCES graphs ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    ADD FOREIGN KEY (user_id, cluster_id) REFERENCES graph_clusters DEFERRABLE INITIALLY DEFERRED,
    ADD FOREIGN KEY (user_id, representative_node_id) REFERENCES graph_nodes DEFERRABLE INITIALLY DEFERRED,
    ADD CONSTRAINT graph_subclusters_has_nodes CHECK (size > 0);
ALTER TABLE node_embeddings
    ADD FOREIGN KEY (user_id, node_id) REFERENCES graph_nodes ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE graphs
    ADD CONSTRAINT graphs_has_counts CHECK (node_count >= 0 AND edge_count >= 0 AND cluster_count >= 0);

-- A document belongs to whom its workspace belongs to.
ALTER TABLE microscope_workspaces
    ADD CONSTRAINT microscope_workspaces_has_one_owner UNIQUE (id, user_id);
ALTER TABLE microscope_documents
    ADD FOREIGN KEY (workspace_id, user_id) REFERENCES microscope_workspaces (id, user_id)
        ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    ADD CONSTRAINT microscope_documents_chunks_are_counted CHECK (chunks_count >= 0),
    ADD CONSTRAINT microscope_documents_completed_without_error CHECK (status <> 'COMPLETED' OR error IS NULL);
ALTER TABLE microscope_graphs
    ADD FOREIGN KEY (document_id) REFERENCES microscope_documents ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;

-- Rows that a worker makes for tasks nobody registered say so. Of the rows there are, only those that still wait were
-- made by somebody else than a worker.
ALTER TABLE tasks
    ADD COLUMN registered boolean NOT NULL DEFAULT false,
    ADD COLUMN s3_keys jsonb NOT NULL DEFAULT '[]',
    ADD CONSTRAINT tasks_attempts_are_counted CHECK (attempts >= 0),
    ADD CONSTRAINT tasks_progress_is_a_percentage CHECK (progress_percent BETWEEN 0 AND 100),
    ADD CONSTRAINT tasks_finished_when_ended
        CHECK (finished_at IS NULL OR status IN ('COMPLETED', 'FAILED', 'SUPERSEDED'));
UPDATE tasks SET registered = true WHERE status = 'PENDING';
ALTER TABLE tasks ALTER COLUMN registered SET DEFAULT true;
CREATE INDEX ON tasks (user_id);

-- Users whose data was removed: results that come late do not bring it back.
CREATE TABLE forgotten_users (
    user_id      text PRIMARY KEY,
    forgotten_at timestamptz NOT NULL DEFAULT now()
);

-- What a user has, to be found when they are to be forgotten.
CREATE INDEX ON microscope_workspaces (user_id);
CREATE INDEX ON microscope_documents (user_id);
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Add the constraints, columns and table."""
    db.execute_sql(STATEMENTS)
