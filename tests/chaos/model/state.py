"""The model's messages and rows. The fields of a row are named as the columns of its table."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, NamedTuple

#: Stands in the place of a part that is malformed: no field and no array has it as a value or element of its type.
MALFORMED: list[Any] = [[]]


class Message(NamedTuple):
    """A message of the AI server: its envelope, the time when SQS accepted it, and its documents in S3."""

    body: dict[str, Any]
    sent_at: datetime
    documents: dict[str, Any]

    @property
    def id(self) -> str:
        """SQS's message ID. A message with the same body is the same message, delivered again."""
        return hashlib.sha256(json.dumps(self.body).encode()).hexdigest()[:16]


class Graph(NamedTuple):
    """A row of `graphs`."""

    user_id: str
    status: str
    status_before: str | None = None
    node_count: int = 0
    edge_count: int = 0
    cluster_count: int = 0
    generated_at: datetime | None = None
    source_timestamp: datetime | None = None
    metadata: dict[str, Any] = {}
    has_content_time: bool = False


class Node(NamedTuple):
    """A row of `graph_nodes`. The times are those of documents; None is that of a transaction."""

    user_id: str
    id: int
    orig_id: str
    cluster_id: str | None = None
    cluster_name: str | None = None
    cluster_confidence: float | None = None
    source_type: str | None = None
    num_messages: int | None = None
    keywords: list[Any] = []
    timestamp: datetime | None = None
    metadata: dict[str, Any] = {}
    title: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Edge(NamedTuple):
    """A row of `graph_edges`."""

    user_id: str
    source: int
    target: int
    weight: float | None
    type: str
    intra_cluster: bool
    relation: str | None = None


class Cluster(NamedTuple):
    """A row of `graph_clusters`."""

    user_id: str
    id: str
    name: str | None
    description: str | None
    size: int
    themes: list[str]


class Subcluster(NamedTuple):
    """A row of `graph_subclusters`."""

    user_id: str
    id: str
    cluster_id: str
    node_ids: list[int]
    representative_node_id: int | None
    size: int
    density: float | None
    top_keywords: list[Any]
    internal_edges: int | None
    cohesion_score: float | None


class Embedding(NamedTuple):
    """A row of `node_embeddings`."""

    user_id: str
    node_id: int
    embedding: list[float]


class Summary(NamedTuple):
    """A row of `graph_summaries`, with the parts of its overview that the worker computes."""

    user_id: str
    summary_text: str
    totals: dict[str, int]
    file_counts: dict[str, int]
    detail_level: str | None
    generated_at: datetime | None
    source_timestamp: datetime


class Workspace(NamedTuple):
    """A row of `microscope_workspaces`."""

    id: str
    user_id: str
    name: str | None
    is_completed: bool = False


class Document(NamedTuple):
    """A row of `microscope_documents`."""

    id: str
    workspace_id: str | None
    user_id: str
    status: str
    block_status: str | None = None
    non_block_status: str | None = None
    source_id: str | None = None
    chunks_count: int | None = None
    schema_name: str | None = None
    ingest_stats: dict[str, Any] | None = None
    standardized_s3_key: str | None = None
    block_graph_s3_key: str | None = None
    images_s3_prefix: str | None = None
    error: str | None = None
    file_name: str | None = None
    input_s3_key: str | None = None
    node_id: str | None = None
    node_type: str | None = None


class View(NamedTuple):
    """A row of `microscope_graphs`, with the names of its nodes or the titles of its blocks."""

    document_id: str
    view: str
    names: list[str]


class Task(NamedTuple):
    """A row of `tasks`, with the warnings that the contract defines.

    `is_published` and `is_not_published` say what became of its request: both are false before that is known.
    """

    task_id: str
    task_type: str
    user_id: str
    status: str = "PENDING"
    attempts: int = 0
    error: str | None = None
    current_stage: str | None = None
    progress_percent: float | None = None
    eta_seconds: float | None = None
    progress_at: datetime | None = None
    registered: bool = False
    is_published: bool = False
    is_not_published: bool = False
    is_finished: bool = False
    dropped_edges: dict[str, int] = {}
    left_out: frozenset[str] = frozenset()
    kept_graph: bool = False
    is_ahead: bool = False
    malformed: int = 0


class Notification(NamedTuple):
    """A row of `notifications`, with the payload fields that the contract defines.

    `created_at` is the producer's time, and is None except for progress.
    """

    user_id: str
    type: str
    payload: dict[str, Any]
    push_status: str
    created_at: datetime | None


@dataclass
class State:
    """The rows of all tables, by key."""

    graphs: dict[str, Graph] = field(default_factory=dict)
    graph_nodes: dict[tuple[str, int], Node] = field(default_factory=dict)
    graph_edges: dict[tuple[str, int, int], Edge] = field(default_factory=dict)
    graph_clusters: dict[tuple[str, str], Cluster] = field(default_factory=dict)
    graph_subclusters: dict[tuple[str, str], Subcluster] = field(default_factory=dict)
    node_embeddings: dict[tuple[str, int], Embedding] = field(default_factory=dict)
    graph_summaries: dict[str, Summary] = field(default_factory=dict)
    microscope_workspaces: dict[str, Workspace] = field(default_factory=dict)
    microscope_documents: dict[str, Document] = field(default_factory=dict)
    microscope_graphs: dict[tuple[str, str], View] = field(default_factory=dict)
    tasks: dict[tuple[str, str], Task] = field(default_factory=dict)
    notifications: dict[object, Notification] = field(default_factory=dict)
    #: By user, what last changed the graph's content: CREATED or UPDATED. No table.
    last_changes: dict[str, str] = field(default_factory=dict)
    #: By user, how often a message has changed the graph's content. No table.
    content_changes: dict[str, int] = field(default_factory=dict)

    def copy(self) -> State:
        """A copy that shares the rows, which never change."""
        return State(*(getattr(self, table.name).copy() for table in fields(self)))

    def remove_graph(self, user_id: str) -> None:
        """Remove all parts of a user's graph."""
        parts: tuple[dict[Any, Any], ...] = (
            self.graph_nodes,
            self.graph_edges,
            self.graph_clusters,
            self.graph_subclusters,
            self.node_embeddings,
        )
        for part in parts:
            for key in [key for key in part if key[0] == user_id]:
                del part[key]

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of each table, sorted."""
        names = [table.name for table in fields(self) if table.name not in ("last_changes", "content_changes")]
        return {name: sorted(getattr(self, name).values(), key=repr) for name in names}
