"""Reads the real tables into rows of the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from tests.chaos.model import state
from tests.chaos.model.contract import DROPPED_EDGES, KEPT_GRAPH, REQUESTS

#: Rows by the name of the table.
Tables: TypeAlias = Mapping[str, list[tuple[Any, ...]]]

#: Runs a query; returns its rows.
Execute: TypeAlias = Callable[[str], Iterable[tuple[Any, ...]]]

#: The payload fields that the model predicts, by the type of the notification.
PAYLOAD_FIELDS = {
    **{f"{kind}_REQUESTED": ("taskId",) for kind in REQUESTS},
    **{f"{kind}_REQUEST_FAILED": ("taskId", "error") for kind in REQUESTS},
    "GRAPH_GENERATION_COMPLETED": ("taskId", "nodeCount"),
    "GRAPH_GENERATION_FAILED": ("taskId", "error"),
    "GRAPH_GENERATION_PROGRESS_UPDATED": ("taskId", "currentStage", "progressPercent", "etaSeconds"),
    "GRAPH_SUMMARY_COMPLETED": ("taskId",),
    "GRAPH_SUMMARY_FAILED": ("taskId", "error"),
    "ADD_CONVERSATION_COMPLETED": ("taskId", "nodeCount", "edgeCount"),
    "ADD_CONVERSATION_FAILED": ("taskId", "error"),
    "MICROSCOPE_DOCUMENT_COMPLETED": ("taskId", "sourceId", "chunksCount"),
    "MICROSCOPE_DOCUMENT_FAILED": ("taskId", "sourceId", "error"),
    "MICROSCOPE_WORKSPACE_COMPLETED": ("taskId", "groupId", "workspaceName", "completedCount", "failedCount"),
}


def embedding(user_id: str, node_id: int, text: str) -> state.Embedding:
    """A row of `node_embeddings`. pgvector writes a vector as JSON writes an array."""
    return state.Embedding(user_id, node_id, json.loads(text))


def summary(user_id: str, overview: dict[str, Any], *row: Any) -> state.Summary:
    """A row of `graph_summaries`, with the overview's text, its four totals, and its files by extension."""
    sources = ("total_conversations", "total_notes", "total_notions", "total_files")
    totals, files = {name: overview[name] for name in sources}, overview["file_counts_by_extension"]
    return state.Summary(user_id, overview["summary_text"], totals, files, *row)


def view(document_id: str, name: str, graph: Any) -> state.View:
    """A row of `microscope_graphs`, with the names of its nodes or the titles of its blocks."""
    if name == "block":
        return state.View(document_id, name, [block["title"] for block in graph["blocks"]])
    return state.View(document_id, name, [node["name"] for chunk in graph for node in chunk["nodes"]])


def task(*row: Any) -> state.Task:
    """A row of `tasks`, with the warnings that the contract defines: what was dropped or left out, and so on."""
    *columns, warnings = row
    warnings = warnings or {}
    dropped = {name: count for name, count in warnings.items() if name in DROPPED_EDGES}
    left_out = frozenset(name.split()[0] for name in warnings if " left out: " in name)
    is_ahead = any(name.startswith("timestamp ") for name in warnings)
    malformed = sum(count for name, count in warnings.items() if name.startswith("malformed "))
    return state.Task._make((*columns, dropped, left_out, KEPT_GRAPH in warnings, is_ahead, malformed))


def notification(user_id: str, type_: str, payload: dict[str, Any], push_status: str, at: Any) -> state.Notification:
    """A row of `notifications`, with the payload fields that the contract defines."""
    fields = {name: payload[name] for name in PAYLOAD_FIELDS[type_] if name in payload}
    is_progress = type_ == "GRAPH_GENERATION_PROGRESS_UPDATED"
    return state.Notification(user_id, type_, fields, push_status, at if is_progress else None)


#: A time of a document, all of which are old; that of a transaction is NULL.
DOCUMENTS_TIME = "CASE WHEN {0} < now() - interval '1 year' THEN {0} END"

#: The columns of each table that are read, and the function that makes a row of the model from them.
READ: dict[str, tuple[str, Callable[..., tuple[Any, ...]]]] = {
    "graphs": (", ".join(state.Graph._fields[:-1]) + ", content_updated_at IS NOT NULL", state.Graph),
    "graph_nodes": (
        ", ".join((*state.Node._fields[:-2], *(DOCUMENTS_TIME.format(name) for name in state.Node._fields[-2:]))),
        state.Node,
    ),
    "graph_edges": (", ".join(state.Edge._fields), state.Edge),
    "graph_clusters": (", ".join(state.Cluster._fields), state.Cluster),
    "graph_subclusters": (", ".join(state.Subcluster._fields), state.Subcluster),
    "node_embeddings": ("user_id, node_id, embedding::text", embedding),
    "graph_summaries": ("user_id, overview, detail_level, generated_at, source_timestamp", summary),
    "microscope_workspaces": ("id, user_id, name, completed_at IS NOT NULL", state.Workspace),
    "microscope_documents": (", ".join(state.Document._fields), state.Document),
    "microscope_graphs": ("document_id, view, graph", view),
    "tasks": (
        ", ".join(state.Task._fields[:-8])
        + ", published_at IS NOT NULL, reason IS NOT DISTINCT FROM 'NOT_PUBLISHED', finished_at IS NOT NULL, warnings",
        task,
    ),
    "notifications": ("user_id, type, payload, push_status, created_at", notification),
}


def read_tables(execute: Execute) -> Tables:
    """The rows of each table, in the model's order."""
    return {
        name: sorted((row(*map(in_utc, values)) for values in execute(query(name))), key=repr)
        for name, (_, row) in READ.items()
    }


def differences(found: Tables, expected: Tables) -> list[str]:
    """The rows that a table must not have, and those that it lacks, one a line."""
    lines = []
    for name, rows in expected.items():
        lines += [f"{name}: not expected: {row}" for row in found[name] if row not in rows]
        lines += [f"{name}: missing: {row}" for row in rows if row not in found[name]]
        if len(found[name]) != len(rows):
            lines.append(f"{name}: {len(found[name])} rows; expected: {len(rows)}")
    return lines


def query(table: str) -> str:
    """The query that reads a table."""
    return f"SELECT {READ[table][0]} FROM {table}"  # noqa: S608


def in_utc(value: Any) -> Any:
    """A time in UTC, whatever the session's time zone is; other values as they are."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


#: The JSON path of the nodes in the graph of a view.
NODES = "(CASE view WHEN 'block' THEN '$.blocks[*].micro_graph.nodes[*]' ELSE '$[*].nodes[*]' END)::jsonpath"

#: Invariants of the tables: each query finds the rows that break one.
FAULTS = {
    "counts that are not the counts": """
        SELECT user_id FROM graphs AS graph
        WHERE (node_count, edge_count, cluster_count) <> (
            (SELECT count(*) FROM graph_nodes WHERE user_id = graph.user_id),
            (SELECT count(*) FROM graph_edges WHERE user_id = graph.user_id),
            (SELECT count(*) FROM graph_clusters WHERE user_id = graph.user_id))""",
    "clusters of another size than their nodes": """
        SELECT user_id, id FROM graph_clusters AS cluster
        WHERE size = 0 OR size <> (
            SELECT count(*) FROM graph_nodes WHERE user_id = cluster.user_id AND cluster_id = cluster.id)""",
    "edges to missing nodes": """
        SELECT user_id, source, target FROM graph_edges AS edge
        WHERE 2 > (SELECT count(*) FROM graph_nodes WHERE user_id = edge.user_id AND id IN (source, target))""",
    "edges in both directions": """
        SELECT user_id, source, target FROM graph_edges AS edge
        WHERE EXISTS (
            SELECT FROM graph_edges WHERE user_id = edge.user_id AND source = edge.target AND target = edge.source)""",
    "nodes in missing clusters": """
        SELECT user_id, id FROM graph_nodes AS node
        WHERE cluster_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM graph_clusters WHERE user_id = node.user_id AND id = node.cluster_id)""",
    "subcluster members in another cluster": """
        SELECT user_id, id FROM graph_subclusters AS subcluster, jsonb_array_elements(node_ids) AS member
        WHERE NOT EXISTS (
            SELECT FROM graph_nodes AS node
            WHERE node.user_id = subcluster.user_id AND node.id = member::integer
                AND coalesce(node.cluster_id, subcluster.cluster_id) = subcluster.cluster_id)""",
    "embeddings without a node": """
        SELECT user_id, node_id FROM node_embeddings AS embedding
        WHERE NOT EXISTS (
            SELECT FROM graph_nodes WHERE user_id = embedding.user_id AND id = embedding.node_id)""",
    "nodes of views without an ID of their own": f"""
        SELECT document_id, view FROM microscope_graphs
        WHERE (SELECT count(*) FROM jsonb_path_query(graph, {NODES}))
            <> (SELECT count(DISTINCT node ->> 'id') FROM jsonb_path_query(graph, {NODES}) AS node)""",  # noqa: S608
    "blocks without ID, title or micro graph": """
        SELECT document_id FROM microscope_graphs, jsonb_path_query(graph, '$.blocks[*]') AS block
        WHERE view = 'block'
            AND num_nulls(block ->> 'block_id', block ->> 'title', block #>> '{micro_graph,nodes}') > 0""",
    "edges of micro graphs that begin nowhere": """
        SELECT document_id FROM microscope_graphs, jsonb_path_query(graph, '$.blocks[*].micro_graph.edges[*]') AS edge
        WHERE view = 'block' AND (edge ->> 'start' IS NULL OR edge ? 'source')""",
    "notifications without their time": """
        SELECT id FROM notifications
        WHERE (payload ->> 'timestamp')::timestamptz IS DISTINCT FROM created_at""",
    "notifications with a null": """
        SELECT id FROM notifications WHERE EXISTS (SELECT FROM jsonb_each(payload) WHERE value = 'null')""",
    "rows without times": """
        SELECT user_id, 'node' FROM graph_nodes WHERE num_nulls(created_at, updated_at) > 0
        UNION ALL SELECT user_id, 'edge' FROM graph_edges WHERE num_nulls(created_at, updated_at) > 0
        UNION ALL SELECT id, 'document' FROM microscope_documents WHERE num_nulls(created_at, updated_at) > 0
        UNION ALL SELECT id, 'workspace' FROM microscope_workspaces WHERE num_nulls(created_at, updated_at) > 0""",
    "rows that changed before they were made": """
        SELECT user_id, 'edge' FROM graph_edges WHERE updated_at < created_at
        UNION ALL SELECT id, 'document' FROM microscope_documents WHERE updated_at < created_at
        UNION ALL SELECT id, 'workspace' FROM microscope_workspaces WHERE updated_at < created_at
        UNION ALL SELECT user_id, 'content' FROM graphs WHERE updated_at < content_updated_at""",
    "parts of a graph without a graph": """
        SELECT user_id FROM graph_nodes WHERE user_id NOT IN (SELECT user_id FROM graphs)""",
}


def faults(execute: Execute) -> dict[str, list[Any]]:
    """The rows that break an invariant, by its name."""
    found = {name: list(execute(query)) for name, query in FAULTS.items()}
    return {name: rows for name, rows in found.items() if rows}
