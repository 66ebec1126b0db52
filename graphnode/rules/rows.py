"""The rows that rules make and storage writes: one tuple for each table, with the table's columns as fields.

There is no user_id: all rows of one decision belong to one user, and storage adds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from graphnode.contract.values import MAX_INTEGER


class NodeRow(NamedTuple):
    """A row of `graph_nodes`."""

    id: int
    orig_id: str
    cluster_id: str | None
    cluster_name: str | None
    cluster_confidence: float | None
    source_type: str | None
    num_messages: int | None
    keywords: list[Any] | Raw
    """As JSON text, keys in order, from a graph document: their objects would take ten times its memory."""
    timestamp: datetime | None
    metadata: dict[str, Any]
    title: str | None = None
    label: str | None = None
    summary: str | None = None
    created_at: datetime | None = None
    """When its source was made. Rules leave out what no document says, and storage adds when the row was."""
    updated_at: datetime | None = None
    """When its source was last changed, likewise."""

    @property
    def listed_keywords(self) -> list[Any]:
        """The keywords as objects."""
        return msgspec.json.decode(self.keywords, type=list[Any]) if isinstance(self.keywords, Raw) else self.keywords


class EdgeRow(NamedTuple):
    """A row of `graph_edges`; `type` is `hard` or `insight`. PostgreSQL adds its times."""

    source: int
    target: int
    weight: float | None
    type: str
    intra_cluster: bool
    relation: str | None = None


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
    internal_edges: int | None = None
    cohesion_score: float | None = None


class GraphRows(NamedTuple):
    """The rows of one user's whole graph."""

    nodes: list[NodeRow]
    edges: list[EdgeRow]
    clusters: list[ClusterRow]
    subclusters: list[SubclusterRow]
    generated_at: datetime | None
    metadata: dict[str, Any]


class StoredNode(NamedTuple):
    """The part of a stored node that an add-node merge needs."""

    id: int
    cluster_id: str | None
    num_messages: int | None = None


class MergeTarget(NamedTuple):
    """The part of a user's graph that an add-node merge needs. Empty for a user without a graph.

    It may have more of the graph. Each cluster of a node that the batch names is in it.
    """

    nodes: dict[str, StoredNode]
    """By original ID."""
    edges: dict[tuple[int, int], str]
    """Type by (source, target), as stored."""
    clusters: dict[str, ClusterRow]
    subclusters: list[SubclusterRow]
    other_clusters: int = 0
    """Number of the graph's clusters that are not in `clusters`."""
    new_ids: Sequence[int] = range(MAX_INTEGER + 1)
    """Free integer IDs, in the order in which new nodes take them; enough for the batch."""


class GraphChanges(NamedTuple):
    """The changes of an add-node merge. Storage applies them, and counts what they add and remove."""

    nodes: list[NodeRow]
    """New nodes, and stored nodes with new values: the primary key tells which."""
    edges: list[EdgeRow]
    """To update if (source, target) is stored, else to insert."""
    clusters: list[ClusterRow]
    """New clusters."""
    emptied_clusters: list[str]
    subclusters: list[SubclusterRow]
    """Stored subclusters that lost members to another cluster, with their new values."""
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
