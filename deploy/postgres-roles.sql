-- The roles of a deployment. They cannot log in: users that log in are members of one of them.
-- An administrator runs this once in the database, before the first migration; running it again is safe.
--
--   psql -d graphnode -f deploy/postgres-roles.sql
--   psql -d graphnode -c "CREATE ROLE worker LOGIN PASSWORD '…' CONNECTION LIMIT 100 IN ROLE graphnode_worker"
--   psql -d graphnode -c "CREATE ROLE migrator LOGIN PASSWORD '…' IN ROLE graphnode_owner"
--   psql -d graphnode -c "ALTER ROLE migrator SET role = graphnode_owner"
--
-- Then run `graphnode migrate` and deploy/postgres-grants.sql as the owner.

DO $$
DECLARE
    role text;
    other text;
BEGIN
    FOREACH role IN ARRAY ARRAY['graphnode_owner', 'graphnode_worker', 'graphnode_api', 'graphnode_operator'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- it exists already
        END;
    END LOOP;
    -- Nobody else: before PostgreSQL 15 anyone may create tables in `public`, and in any version anyone may connect and
    -- create temporary tables.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO graphnode_owner, graphnode_worker, graphnode_api, graphnode_operator',
                   current_database());
    -- PostgreSQL can refuse nobody what PUBLIC may do.
    FOR other IN SELECT datname FROM pg_database
        WHERE datallowconn AND datname <> current_database() AND has_database_privilege('graphnode_api', oid, 'CONNECT')
    LOOP
        RAISE WARNING 'These roles may also connect to database %: unless others need that, run REVOKE CONNECT ON DATABASE % FROM PUBLIC',
            other, quote_ident(other);
    END LOOP;
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO graphnode_owner;
GRANT USAGE ON SCHEMA public TO graphnode_worker, graphnode_api, graphnode_operator;

-- Large objects are in no table, so no right on a table bounds them. A managed server may refuse this, with a warning.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;

-- Here, because the owner may lack the right to create it.
CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
