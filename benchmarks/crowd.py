"""Fills a database with users: each has a graph of 20 nodes and 60 edges, every hundredth has embeddings.

PostgreSQL generates the rows while the tables have no indexes and no constraints. These are made afterwards, as the
migrations define them. The foreign keys are NOT VALID: PostgreSQL checks them for new rows only.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2

from benchmarks.output import tell

#: The nodes and edges of a user.
NODES, EDGES = 20, 60

#: Bytes on disk for each node, including its edges and the other rows of its user; measured, rounded.
BYTES_A_NODE = 1_000

#: The users. The IDs of new users fall between theirs, as in production.
USERS = """
CREATE UNLOGGED TABLE crowd AS
SELECT n, 'user-' || lpad(n::text, 8, '0') || '-crowd' AS user_id FROM generate_series(1, %s) n
"""

#: The rows of each table.
ROWS = {
    "graphs": """
        INSERT INTO graphs (user_id, status, node_count, edge_count, cluster_count, source_timestamp)
        SELECT user_id, 'CREATED', 20, 60, 1, now() FROM crowd""",
    "graph_clusters": """
        INSERT INTO graph_clusters (user_id, id, name, size) SELECT user_id, 'cluster_0', 'Cluster 0', 20 FROM crowd""",
    "graph_nodes": """
        INSERT INTO graph_nodes (user_id, id, orig_id, cluster_id, cluster_name, cluster_confidence, source_type,
            num_messages, keywords, timestamp, metadata)
        SELECT user_id, id, orig_id, 'cluster_0', 'Cluster 0', 0.5, 'chat', 7,
            '[{"term": "word1", "score": 0.9}, {"term": "word2", "score": 0.8}, {"term": "word3", "score": 0.7},
              {"term": "word4", "score": 0.6}, {"term": "word5", "score": 0.5}]',
            '2026-05-24T08:02:08Z', '{"title": "word1 word2 word3 word4 word5 word6"}'
        FROM crowd,
            (SELECT id, 'conv-' || lpad(id::text, 8, '0') AS orig_id FROM generate_series(0, 19) id OFFSET 0) nodes""",
    "graph_edges": """
        INSERT INTO graph_edges (user_id, source, target, weight, type, intra_cluster)
        SELECT user_id, source, target, 0.123456, 'insight', true
        FROM crowd,
            (SELECT source, (source + step) % 20 AS target
             FROM generate_series(0, 19) source, generate_series(1, 3) step ORDER BY 1, 2) edges""",
    "node_embeddings": """
        INSERT INTO node_embeddings (user_id, node_id, embedding)
        SELECT user_id, id, embedding
        FROM crowd,
            (SELECT id, array_agg(random())::vector AS embedding
             FROM generate_series(0, 19) id, generate_series(1, 384) GROUP BY id) nodes
        WHERE n % 100 = 0""",
    "graph_subclusters": "INSERT INTO graph_subclusters (user_id, id) SELECT 'nobody', 'none' WHERE false",
}

#: The tables that each of two sessions fills. Both have about the same work.
HALVES = (("graph_nodes", "graphs", "graph_clusters", "graph_subclusters"), ("graph_edges", "node_embeddings"))

#: Queries for the statements that drop constraints and indexes, and for those that make them again.
FOREIGN_KEYS = """
SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
       format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s NOT VALID',
              conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE conrelid = ANY(%s::text[]::regclass[]) AND contype = 'f'
"""
INDEXES = """
SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
       format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE conrelid = ANY(%s::text[]::regclass[]) AND contype IN ('p', 'u')
UNION ALL
SELECT format('DROP INDEX %%I', indexname), indexdef FROM pg_indexes
WHERE tablename = ANY(%s) AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = indexname)
"""

#: The resources of a session that makes indexes.
FOR_INDEXES = "SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 1"


def fill(url: str, *, users: int) -> None:
    """Fill a database that has the newest schema and no graphs. A million users need about 18 GB."""
    foreign_keys = run(url, (FOREIGN_KEYS, [list(ROWS)]))
    indexes = {table: run(url, (INDEXES, [[table], [table]])) for table in ROWS}
    run(url, *(drop for drop, _ in foreign_keys), *(drop for made in indexes.values() for drop, _ in made))
    run(url, (USERS, [users]))
    # PostgreSQL writes no WAL for rows that go into a table which the same transaction has truncated.
    at_once("rows", url, ([f"BEGIN; TRUNCATE {table}; {ROWS[table]}; COMMIT" for table in half] for half in HALVES))
    at_once("indexes", url, ([FOR_INDEXES, *(made for table in half for _, made in indexes[table])] for half in HALVES))
    run(url, "DROP TABLE crowd", *(made for _, made in foreign_keys))
    at_once("statistics", url, ([f"VACUUM ANALYZE {table}" for table in half] for half in HALVES))


def at_once(what: str, url: str, halves: Iterable[list[str]]) -> None:
    """Run each list of statements in its own session at the same time, and print the seconds."""
    began = time.monotonic()
    with ThreadPoolExecutor() as sessions:
        list(sessions.map(lambda statements: run(url, *statements), halves))
    tell(f"{what}: {time.monotonic() - began:.0f} s")


def run(url: str, *statements: str | tuple[str, list[Any]]) -> list[tuple[Any, ...]]:
    """Run statements in one session, and commit each; the rows of the last one."""
    with closing(psycopg2.connect(url)) as database:
        database.autocommit = True
        with database.cursor() as cursor:
            for statement in statements:
                cursor.execute(*([statement] if isinstance(statement, str) else statement))
            return cursor.fetchall() if cursor.description else []
