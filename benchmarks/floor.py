"""The floor of a result's cost: a hand-written loop of boto3 and psycopg2 that only moves the data of the ordinary mix.

It receives ten results, reads their documents, writes each in one transaction under the user's lock, and deletes the
ten in one call. It has one thread, boto3's own clients, and no retry, time-out, validation, dead letter or log line.
What a worker needs beyond it is the price of its promises.
"""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import boto3.session
import msgspec
import psycopg2
from botocore.config import Config
from psycopg2 import extensions

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

#: Results that are handled before the measurement begins.
WARM_UP = 100

#: The first round trip of each transaction, and the last one.
BEGIN = """
BEGIN;
SELECT pg_advisory_xact_lock(hashtextextended(%(user)s, 0));
SELECT status FROM tasks WHERE task_id = %(task)s AND task_type = %(type)s
"""
END = """
INSERT INTO tasks (task_id, task_type, user_id, status, current_stage, progress_percent, eta_seconds)
VALUES (%(task)s, %(type)s, %(user)s, %(status)s, %(stage)s, %(percent)s, %(eta)s)
ON CONFLICT (task_id, task_type) DO UPDATE SET status = EXCLUDED.status, updated_at = now();
INSERT INTO notifications (id, user_id, type, payload, event, created_at, push_status, due_at)
VALUES (%(task)s, %(user)s, %(type)s, %(payload)s, %(task)s, now(), 'SKIPPED', NULL);
SELECT pg_notify('graphnode_notifications', %(task)s);
COMMIT
"""

SOURCES = "SELECT source_type, count(*) FROM graph_nodes WHERE user_id = %(user)s GROUP BY source_type"
SUMMARY = """
INSERT INTO graph_summaries (user_id, overview, clusters, patterns, connections, recommendations)
VALUES (%(user)s, %(overview)s, %(clusters)s, %(patterns)s, %(connections)s, %(recommendations)s)
ON CONFLICT (user_id) DO UPDATE SET (overview, clusters, patterns, connections, recommendations)
  = (EXCLUDED.overview, EXCLUDED.clusters, EXCLUDED.patterns, EXCLUDED.connections, EXCLUDED.recommendations)
"""

NEIGHBOURS = """
SELECT id, orig_id, cluster_id, (SELECT max(id) FROM graph_nodes WHERE user_id = %(user)s)
FROM graph_nodes WHERE user_id = %(user)s AND (id = ANY(%(ends)s) OR orig_id = ANY(%(sources)s))
"""
ADDED = """
WITH nodes AS (
    INSERT INTO graph_nodes (user_id, id, orig_id, cluster_id, cluster_name, num_messages)
    SELECT %(user)s, * FROM unnest(%(ids)s::int[], %(sources)s::text[], %(clusters)s::text[],
                                   %(names)s::text[], %(messages)s::int[])
    RETURNING cluster_id
), edges AS (
    INSERT INTO graph_edges (user_id, source, target, weight, type, intra_cluster)
    SELECT %(user)s, *, true FROM unnest(%(starts)s, %(ends)s, %(weights)s::float8[], %(types)s)
    ON CONFLICT (user_id, source, target) DO NOTHING RETURNING 1
), sizes AS (
    UPDATE graph_clusters SET size = size + added.count
    FROM (SELECT cluster_id, count(*) FROM nodes GROUP BY cluster_id) AS added
    WHERE user_id = %(user)s AND id = added.cluster_id
)
UPDATE graphs SET updated_at = now(), node_count = node_count + (SELECT count(*) FROM nodes),
                  edge_count = edge_count + (SELECT count(*) FROM edges)
WHERE user_id = %(user)s
"""

REPLACE = """
DELETE FROM node_embeddings WHERE user_id = %(user)s;
DELETE FROM graph_edges WHERE user_id = %(user)s;
DELETE FROM graph_subclusters WHERE user_id = %(user)s;
DELETE FROM graph_nodes WHERE user_id = %(user)s;
DELETE FROM graph_clusters WHERE user_id = %(user)s;
INSERT INTO graphs (user_id, status, node_count, edge_count, cluster_count, metadata)
VALUES (%(user)s, 'CREATED', %(nodes)s, %(edges)s, %(clusters)s, %(metadata)s)
ON CONFLICT (user_id) DO UPDATE SET (status, node_count, edge_count, cluster_count, metadata)
  = (EXCLUDED.status, EXCLUDED.node_count, EXCLUDED.edge_count, EXCLUDED.cluster_count, EXCLUDED.metadata)
"""
NODE_FIELDS = ("id", "orig_id", "cluster_id", "cluster_name", "cluster_confidence", "timestamp")
SUBCLUSTER_FIELDS = ("id", "cluster_id", "representative_node_id", "size", "density")
COPIES = {
    "graph_clusters": "user_id, id, name, description, themes",
    "graph_nodes": f"user_id, {', '.join(NODE_FIELDS)}, keywords, metadata",
    "graph_edges": "user_id, source, target, weight, type, intra_cluster",
    "graph_subclusters": f"user_id, {', '.join(SUBCLUSTER_FIELDS)}, node_ids, top_keywords",
}

DOCUMENT = """
INSERT INTO microscope_workspaces (id, user_id) VALUES (%(workspace)s, %(user)s) ON CONFLICT DO NOTHING;
INSERT INTO microscope_documents (id, workspace_id, user_id, status, chunks_count)
VALUES (%(task)s, %(workspace)s, %(user)s, 'COMPLETED', %(chunks)s);
INSERT INTO microscope_graphs (document_id, view, graph)
VALUES (%(task)s, 'non_block', %(non_block)s), (%(task)s, 'block', %(block)s)
"""

Fetch = Callable[[str], Any]


def handle(environment: Mapping[str, str], *, results: int) -> float:
    """Handle this many results after WARM_UP others, all of the mix; the CPU seconds of each.

    Parameters:
      environment: the variables that a worker has.
    """
    session = boto3.session.Session(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    config = Config(s3={"addressing_style": "path"}, proxies={})
    where = {"endpoint_url": environment["AWS_ENDPOINT_URL"], "region_name": environment["AWS_REGION"]}
    sqs, s3 = (session.client(name, config=config, **where) for name in ("sqs", "s3"))  # type: ignore[call-overload]
    queue_url, bucket = environment["SQS_RESULT_QUEUE_URL"], environment["S3_PAYLOAD_BUCKET"]

    def fetch(key: str) -> Any:
        return msgspec.json.decode(s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    handled, began = 0, 0.0
    with closing(psycopg2.connect(environment["DATABASE_URL"])) as database, database.cursor() as cursor:
        database.autocommit = True
        while handled < WARM_UP + results:
            if handled <= WARM_UP:
                counted_from, began = handled, time.thread_time()
            messages: list[MessageTypeDef] = sqs.receive_message(
                QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1, VisibilityTimeout=60
            ).get("Messages", [])
            for message in messages:
                apply(cursor, msgspec.json.decode(message["Body"]), fetch)
            if messages:
                entries = [{"Id": str(at), "ReceiptHandle": each["ReceiptHandle"]} for at, each in enumerate(messages)]
                sqs.delete_message_batch(QueueUrl=queue_url, Entries=entries)
            handled += len(messages)
        return (time.thread_time() - began) / (handled - counted_from)


def apply(cursor: extensions.cursor, envelope: dict[str, Any], fetch: Fetch) -> None:
    """Write one result in one transaction."""
    payload = envelope["payload"]
    keys = [key for name, key in payload.items() if name.lower().endswith(("s3key", "s3_key"))]
    documents = [fetch(key) for key in keys]
    known = {"task": envelope["taskId"], "type": envelope["taskType"], "user": payload["userId"]}
    cursor.execute(BEGIN, known)
    match envelope["taskType"]:
        case "GRAPH_SUMMARY_RESULT":
            cursor.execute(SOURCES, known)
            names = ("overview", "clusters", "patterns", "connections", "recommendations")
            cursor.execute(SUMMARY, known | {name: _json(documents[0].get(name)) for name in names})
        case "ADD_NODE_RESULT":
            add_nodes(cursor, payload["userId"], documents[0]["results"])
        case "GRAPH_GENERATION_RESULT":
            replace_graph(cursor, payload["userId"], documents[0])
        case "MICROSCOPE_INGEST_RESULT":
            non_block, block = documents
            views = {"non_block": _json(non_block), "block": _json(block["block_graph"])}
            cursor.execute(DOCUMENT, known | views | {"workspace": payload["groupId"], "chunks": len(non_block)})
    about = {
        "status": payload.get("status", "PROGRESS"),
        "stage": payload.get("currentStage"),
        "percent": payload.get("progressPercent"),
        "eta": payload.get("etaSeconds"),
        "payload": _json({"taskId": envelope["taskId"]}),
    }
    cursor.execute(END, known | about)


def add_nodes(cursor: extensions.cursor, user: str, results: list[dict[str, Any]]) -> None:
    """Add new nodes and their edges to stored nodes, and change the counts by the difference."""
    nodes = [node for result in results for node in result["nodes"]]
    edges = [edge for result in results for edge in result["edges"]]
    sources, ends = [node["origId"] for node in nodes], [edge["target"] for edge in edges]
    cursor.execute(NEIGHBOURS, {"user": user, "ends": ends, "sources": sources})
    stored = cursor.fetchall()
    ids = {orig_id: number for number, orig_id, *_ in stored}
    new = {node["origId"]: node for node in nodes if node["origId"] not in ids}
    ids |= dict(zip(new, itertools.count(stored[0][3] + 1)))
    added = {
        "user": user,
        "ids": [ids[source] for source in new],
        "sources": list(new),
        "clusters": [node["clusterId"] for node in new.values()],
        "names": [node["clusterName"] for node in new.values()],
        "messages": [node["numMessages"] for node in new.values()],
        "starts": [ids[edge["source"]] for edge in edges],
        "ends": ends,
        "weights": [edge["weight"] for edge in edges],
        "types": [edge["type"] for edge in edges],
    }
    cursor.execute(ADDED, added)


def replace_graph(cursor: extensions.cursor, user: str, graph: dict[str, Any]) -> None:
    """Replace a user's graph by COPY."""
    clusters = graph["metadata"]["clusters"]
    counts = {"nodes": len(graph["nodes"]), "edges": len(graph["edges"]), "clusters": len(clusters)}
    cursor.execute(REPLACE, {"user": user, "metadata": _json(graph["metadata"]), **counts})
    rows: dict[str, Iterable[tuple[Any, ...]]] = {
        "graph_clusters": (
            (user, name, each["name"], each["description"], _json(each["key_themes"]))
            for name, each in clusters.items()
        ),
        "graph_nodes": (
            (user, *map(node.get, NODE_FIELDS), _json(node["keywords"]), _json(node["metadata"]))
            for node in graph["nodes"]
        ),
        "graph_edges": (
            (user, edge["source"], edge["target"], edge["weight"], "hard", edge["is_intra_cluster"])
            for edge in graph["edges"]
        ),
        "graph_subclusters": (
            (user, *map(each.get, SUBCLUSTER_FIELDS), _json(each["node_ids"]), _json(each["top_keywords"]))
            for each in graph["subclusters"]
        ),
    }
    for table, columns in COPIES.items():
        lines = "".join("\t".join(map(str, row)).replace("\\", "\\\\") + "\n" for row in rows[table])
        cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN", io.StringIO(lines))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
