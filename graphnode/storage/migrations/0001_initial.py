"""The first schema: graphs, summaries, microscope, tasks, notifications and devices."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

STATEMENTS = """
SET LOCAL lock_timeout = '5s';

CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE graphs (
    user_id          text PRIMARY KEY,
    status           text NOT NULL
        CHECK (status IN ('NOT_CREATED', 'CREATING', 'CREATED', 'UPDATING', 'UPDATED')),
    status_before    text
        CHECK (status_before IN ('NOT_CREATED', 'CREATING', 'CREATED', 'UPDATING', 'UPDATED')),
    node_count       integer NOT NULL DEFAULT 0,
    edge_count       integer NOT NULL DEFAULT 0,
    cluster_count    integer NOT NULL DEFAULT 0,
    generated_at     timestamptz,
    source_timestamp timestamptz,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    metadata         jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE graph_nodes (
    user_id            text NOT NULL,
    id                 integer NOT NULL,
    orig_id            text NOT NULL,
    cluster_id         text,
    cluster_name       text,
    cluster_confidence double precision,
    source_type        text,
    num_messages       integer,
    keywords           jsonb NOT NULL DEFAULT '[]',
    timestamp          timestamptz,
    metadata           jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (user_id, id),
    UNIQUE (user_id, orig_id)
);

CREATE TABLE graph_edges (
    user_id       text NOT NULL,
    source        integer NOT NULL,
    target        integer NOT NULL,
    weight        double precision,
    type          text NOT NULL,
    intra_cluster boolean NOT NULL,
    PRIMARY KEY (user_id, source, target)
);

CREATE TABLE graph_clusters (
    user_id     text NOT NULL,
    id          text NOT NULL,
    name        text,
    description text,
    size        integer NOT NULL DEFAULT 0,
    themes      jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (user_id, id)
);

CREATE TABLE graph_subclusters (
    user_id                text NOT NULL,
    id                     text NOT NULL,
    cluster_id             text,
    node_ids               jsonb NOT NULL DEFAULT '[]',
    representative_node_id integer,
    size                   integer NOT NULL DEFAULT 0,
    density                double precision,
    top_keywords           jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (user_id, id)
);

-- No fixed dimension: a features file has one width, and the next model may have another.
CREATE TABLE node_embeddings (
    user_id   text NOT NULL,
    node_id   integer NOT NULL,
    embedding vector NOT NULL,
    PRIMARY KEY (user_id, node_id)
);

CREATE TABLE graph_summaries (
    user_id          text PRIMARY KEY,
    overview         jsonb NOT NULL,
    clusters         jsonb NOT NULL,
    patterns         jsonb NOT NULL,
    connections      jsonb NOT NULL,
    recommendations  jsonb NOT NULL,
    detail_level     text,
    generated_at     timestamptz,
    source_timestamp timestamptz
);

CREATE TABLE microscope_workspaces (
    id           text PRIMARY KEY,
    user_id      text NOT NULL,
    name         text,
    completed_at timestamptz
);

CREATE TABLE microscope_documents (
    id                   text PRIMARY KEY,
    workspace_id         text,
    user_id              text NOT NULL,
    status               text NOT NULL
        CHECK (status IN ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED')),
    block_status         text CHECK (block_status IN ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED')),
    non_block_status     text CHECK (non_block_status IN ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED')),
    source_id            text,
    chunks_count         integer,
    schema_name          text,
    ingest_stats         jsonb,
    standardized_s3_key  text,
    block_graph_s3_key   text,
    images_s3_prefix     text,
    error                text
);
CREATE INDEX ON microscope_documents (workspace_id);

CREATE TABLE microscope_graphs (
    document_id text NOT NULL,
    view        text NOT NULL CHECK (view IN ('non_block', 'block')),
    graph       jsonb NOT NULL,
    PRIMARY KEY (document_id, view)
);

CREATE TABLE tasks (
    task_id          text NOT NULL,
    task_type        text NOT NULL,
    user_id          text NOT NULL,
    status           text NOT NULL
        CHECK (status IN ('PENDING', 'PROGRESS', 'COMPLETED', 'FAILED', 'SUPERSEDED')),
    attempts         integer NOT NULL DEFAULT 0,
    error            text,
    warnings         jsonb,
    current_stage    text,
    progress_percent double precision,
    eta_seconds      double precision,
    progress_at      timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    finished_at      timestamptz,
    PRIMARY KEY (task_id, task_type)
);

-- `event` names what is told: a second row for the same event is impossible.
CREATE TABLE notifications (
    id            text PRIMARY KEY,
    user_id       text NOT NULL,
    type          text NOT NULL,
    payload       jsonb NOT NULL,
    event         text NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    push_status   text NOT NULL
        CHECK (push_status IN ('PENDING', 'SENDING', 'SENT', 'SKIPPED', 'FAILED')),
    push_attempts integer NOT NULL DEFAULT 0,
    push_error    text,
    claimed_at    timestamptz,
    pushed_at     timestamptz
);
CREATE INDEX ON notifications (user_id, id);
CREATE INDEX ON notifications (user_id) WHERE push_status = 'PENDING';

-- How often a message has failed. SQS counts deliveries; one that a stop or an outage gave back is no failure.
CREATE TABLE message_failures (
    message_id text PRIMARY KEY,
    failures   integer NOT NULL,
    reason     text NOT NULL,
    error      text NOT NULL,
    failed_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE device_tokens (
    token        text PRIMARY KEY,
    user_id      text NOT NULL,
    platform     text,
    last_seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON device_tokens (user_id);
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Create the tables."""
    db.execute_sql(STATEMENTS)
