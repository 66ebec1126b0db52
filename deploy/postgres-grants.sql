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

-- The API server: it reads what users see, makes requests (`graphnode.requests`) and stores devices. What a result says of a
-- task, graph, document or workspace is not its to write.
GRANT SELECT ON tasks, graphs, microscope_workspaces, microscope_documents TO graphnode_api;
GRANT INSERT (task_id, task_type, user_id, status, attempts, error, reason, s3_keys, registered, created_at, updated_at, finished_at, swept_at),
    UPDATE (status, error, reason, s3_keys, created_at, updated_at, finished_at, published_at, swept_at) ON tasks TO graphnode_api;
GRANT INSERT (user_id, status, status_before, updated_at),
    UPDATE (status, status_before, updated_at) ON graphs TO graphnode_api;
GRANT INSERT (id, user_id, name, created_at, updated_at),
    UPDATE (name, completed_at, updated_at) ON microscope_workspaces TO graphnode_api;
GRANT INSERT (id, workspace_id, user_id, status, block_status, non_block_status, error, file_name, node_id, node_type, input_s3_key, created_at, updated_at),
    UPDATE (workspace_id, status, block_status, non_block_status, error, file_name, node_id, node_type, input_s3_key, updated_at) ON microscope_documents TO graphnode_api;
GRANT SELECT ON graph_nodes, graph_edges, graph_clusters, graph_subclusters, node_embeddings, graph_summaries, microscope_graphs TO graphnode_api;
GRANT SELECT, INSERT ON notifications TO graphnode_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON device_tokens TO graphnode_api;

-- Operators who run `graphnode task`, `status`, `show`, `dlq`, `forget`, `prune` and `console`. Run `graphnode doctor` as
-- the worker: it checks the worker's rights.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO graphnode_operator;
GRANT DELETE ON graphs, graph_summaries, microscope_documents, microscope_workspaces, notifications, device_tokens, tasks,
    task_attempts, deleted_letters TO graphnode_operator;
GRANT INSERT, UPDATE ON deleted_letters, forgotten_users TO graphnode_operator;
-- What an operator did stays: who, when and which action cannot be changed.
GRANT INSERT, UPDATE (subject, because, user_id, state, outcome, news_at, ended_at) ON audit TO graphnode_operator;

COMMIT;

-- The API server opens tasks and documents, and ends those that it could not publish; only a worker completes them. One
-- policy lets everybody do what their rights allow, the others take from the API server's. One table at a time, and not
-- for long: workers wait meanwhile.

BEGIN;
SET LOCAL lock_timeout = '5s';
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS as_granted ON tasks;
DROP POLICY IF EXISTS api_opens ON tasks;
DROP POLICY IF EXISTS api_publishes ON tasks;
CREATE POLICY as_granted ON tasks USING (true);
CREATE POLICY api_opens ON tasks AS RESTRICTIVE FOR INSERT TO graphnode_api
    WITH CHECK (status = 'PENDING' AND registered);
CREATE POLICY api_publishes ON tasks AS RESTRICTIVE FOR UPDATE TO graphnode_api
    USING (status = 'PENDING' OR reason = 'NOT_PUBLISHED')
    WITH CHECK (status = 'PENDING' OR (status = 'FAILED' AND reason = 'NOT_PUBLISHED'));
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '5s';
ALTER TABLE microscope_documents ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS as_granted ON microscope_documents;
DROP POLICY IF EXISTS api_opens ON microscope_documents;
CREATE POLICY as_granted ON microscope_documents USING (true);
CREATE POLICY api_opens ON microscope_documents AS RESTRICTIVE FOR INSERT TO graphnode_api
    WITH CHECK (status IN ('PENDING', 'PROCESSING'));
-- No policy: those see only the new row, and a document that is COMPLETED may stay so.
CREATE OR REPLACE FUNCTION graphnode_refuse_completion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_has_role(current_user, 'graphnode_api', 'USAGE') AND NOT pg_has_role(current_user, 'graphnode_worker', 'USAGE') THEN
        RAISE EXCEPTION 'only a worker completes documents' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS only_a_worker_completes ON microscope_documents;
CREATE TRIGGER only_a_worker_completes BEFORE UPDATE OF status ON microscope_documents
    FOR EACH ROW WHEN (NEW.status = 'COMPLETED' AND OLD.status <> 'COMPLETED')
    EXECUTE FUNCTION graphnode_refuse_completion();
COMMIT;
