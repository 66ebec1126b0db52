-- The roles of a deployment, none of which can log in: whoever logs in is made a member of one.
-- An administrator runs it once in the database, before the first migration; to run it again does no harm.
--
--   psql -d graphnode -f deploy/postgres-roles.sql
--   psql -d graphnode -c "CREATE ROLE worker LOGIN PASSWORD '…' CONNECTION LIMIT 100 IN ROLE graphnode_worker"
--   psql -d graphnode -c "CREATE ROLE migrator LOGIN PASSWORD '…' IN ROLE graphnode_owner"
--   psql -d graphnode -c "ALTER ROLE migrator SET role = graphnode_owner"
--
-- Then `graphnode migrate` as the owner, and deploy/postgres-grants.sql.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['graphnode_owner', 'graphnode_worker', 'graphnode_api', 'graphnode_operator'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- it is there already
        END;
    END LOOP;
    -- Nobody else: before PostgreSQL 15 anyone may create tables in `public`, and anyone may connect and make
    -- temporary ones in any version.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO graphnode_owner, graphnode_worker, graphnode_api, graphnode_operator',
                   current_database());
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO graphnode_owner;
GRANT USAGE ON SCHEMA public TO graphnode_worker, graphnode_api, graphnode_operator;

-- The owner need not be allowed to create it.
CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
