-- The rights of each role: only what it needs. The owner runs this after each `graphnode migrate`.
--
--   psql "options='-c role=graphnode_owner' dbname=graphnode" -f deploy/postgres-grants.sql
--
-- Foreign keys check and delete rows with the owner's rights.

BEGIN;

-- Rights that an earlier version has granted.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM graphnode_worker, graphnode_api, graphnode_operator;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM graphnode_worker, graphnode_api, graphnode_operator;

-- `graphnode worker`.
GRANT SELECT ON schema_migration TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE ON graphs TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON graph_nodes TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON graph_edges TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON graph_clusters TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON graph_subclusters TO graphnode_worker;
GRANT SELECT, INSERT, DELETE ON node_embeddings TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE ON graph_summaries TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE ON microscope_workspaces TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE ON microscope_documents TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE ON microscope_graphs TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE ON tasks TO graphnode_worker;
GRANT SELECT, INSERT, DELETE ON task_attempts TO graphnode_worker;
-- Workers of 0.1 count failures here; those of 0.2 do not use it.
GRANT SELECT, INSERT, UPDATE, DELETE ON message_failures TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE ON notifications TO graphnode_worker;
GRANT SELECT, DELETE ON device_tokens TO graphnode_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO graphnode_worker;
GRANT SELECT ON forgotten_users TO graphnode_worker;

-- The API server: it reads what users see, makes requests (`graphnode.requests`) and stores devices.
GRANT SELECT, INSERT, UPDATE ON tasks, graphs, microscope_workspaces, microscope_documents TO graphnode_api;
GRANT SELECT ON graph_nodes, graph_edges, graph_clusters, graph_subclusters, node_embeddings, graph_summaries, microscope_graphs TO graphnode_api;
GRANT SELECT, INSERT ON notifications TO graphnode_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON device_tokens TO graphnode_api;

-- Operators who run `graphnode task`, `status`, `show`, `dlq`, `forget` and `prune`. Run `graphnode doctor` as the worker:
-- it checks the worker's rights.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO graphnode_operator;
GRANT DELETE ON graphs, graph_summaries, microscope_documents, microscope_workspaces, notifications, device_tokens, tasks,
    task_attempts, deleted_letters TO graphnode_operator;
GRANT INSERT, UPDATE ON deleted_letters, forgotten_users TO graphnode_operator;

COMMIT;
