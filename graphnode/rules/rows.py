"""The rows that rules decide on and storage writes: one tuple a table, its fields named as the table's columns.

The user is not a field: every row of one decision belongs to the same user, whom storage adds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple


class NodeRow(NamedTuple):
    """A row of `graph_nodes`."""

    id: int
    orig_id: str
    cluster_id: str | None
    cluster_name: str | None
    cluster_confidence: float | None
    source_type: str | None
    num_messages: int | None
    keywords: list[Any]
    timestamp: datetime | None
    metadata: dict[str, Any]


class EdgeRow(NamedTuple):
    """A row of `graph_edges`; `type` is `hard` or `insight`."""

    source: int
    target: int
    weight: float | None
    type: str
    intra_cluster: bool


class ClusterRow(NamedTuple):
    """A row of `graph_clusters`; `size` is the number of its nodes."""

    id: str
    name: str | None
    description: str | None
    size: int
    themes: list[str]


class SubclusterRow(NamedTuple):
    """A row of `graph_subclusters`."""

    id: str
    cluster_id: str | None
    node_ids: list[int]
    representative_node_id: int | None
    size: int
    density: float | None
    top_keywords: list[Any]


class GraphRows(NamedTuple):
    """A whole graph, as one user's rows."""

    nodes: list[NodeRow]
    edges: list[EdgeRow]
    clusters: list[ClusterRow]
    subclusters: list[SubclusterRow]
    generated_at: datetime | None
    metadata: dict[str, Any]


class StoredNode(NamedTuple):
    """What an add-node merge must know of a node that is stored."""

    id: int
    cluster_id: str | None


class MergeTarget(NamedTuple):
    """What an add-node merge must know of the user's graph. A user without a graph has an empty one."""

    nodes: dict[str, StoredNode]
    """By original ID."""
    edges: dict[tuple[int, int], str]
    """Type by (source, target), as stored."""
    clusters: dict[str, ClusterRow]
    subclusters: list[SubclusterRow]


class GraphChanges(NamedTuple):
    """What an add-node merge changes. Storage applies it, recounts the graph and sets the clusters' sizes."""

    nodes: list[NodeRow]
    """New ones, and stored ones with their new values; the primary key decides which."""
    edges: list[EdgeRow]
    """To insert, or to update where (source, target) is stored."""
    clusters: list[ClusterRow]
    """New ones, and stored ones with new values."""
    emptied_clusters: list[str]
    subclusters: list[SubclusterRow]
    """Stored ones that lost members (moved to another cluster), with their new values."""
    emptied_subclusters: list[str]


class SummaryRow(NamedTuple):
    """A row of `graph_summaries`. The first five are JSON as the API server reads it."""

    overview: dict[str, Any]
    clusters: list[dict[str, Any]]
    patterns: list[dict[str, Any]]
    connections: list[dict[str, Any]]
    recommendations: list[dict[str, Any]]
    detail_level: str | None
    generated_at: datetime | None
