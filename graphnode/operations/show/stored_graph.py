"""A user's graph and newest notifications, read from PostgreSQL in one snapshot."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from graphnode.errors import NothingStored
from graphnode.storage.database import snapshot
from graphnode.storage.graphs import ClusterRecord, EdgeRecord, EmbeddingRecord, GraphRecord, NodeRecord, PartRecord
from graphnode.storage.notifications import NotificationRecord
from graphnode.text import printable

#: Keywords that describe a cluster.
CLUSTER_KEYWORDS = 5

#: Newest notifications that are shown.
NOTIFICATIONS = 5


class Node(NamedTuple):
    """A node. `title` is its source's name, or the source's ID if it has none."""

    id: int
    orig_id: str
    title: str
    cluster_id: str | None
    source_type: str | None
    num_messages: int | None
    timestamp: datetime | None
    keywords: list[str]


class Edge(NamedTuple):
    """An edge between two nodes, given by their IDs."""

    source: int
    target: int
    weight: float | None


class Cluster(NamedTuple):
    """A cluster. Its keywords are the strongest keywords of its nodes, the strongest first."""

    id: str
    name: str
    size: int
    keywords: list[str]


class StoredNotification(NamedTuple):
    created_at: datetime
    type: str
    push_status: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class StoredGraph:
    """A user's graph.

    Parameters:
      status: as the contract names it. None: the user has no row in `graphs`.
      clusters: the largest first.
      embeddings: by node ID; a node may be missing.
    """

    user_id: str
    status: str | None
    updated_at: datetime | None
    clusters: list[Cluster]
    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    embeddings: dict[int, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Overview:
    """What the terminal shows of a user. `graph` has no edges and no embeddings here."""

    graph: StoredGraph
    node_count: int
    edge_count: int
    without_cluster: int
    notifications: list[StoredNotification]


def read_overview(user_id: str) -> Overview:
    """Counts, clusters and newest notifications of a user.

    Raises:
      NothingStored: The user has neither a graph nor a notification.
    """
    with snapshot():
        graph = _read_graph(user_id)
        newest = (
            NotificationRecord.select(
                NotificationRecord.created_at,
                NotificationRecord.type,
                NotificationRecord.push_status,
                NotificationRecord.payload,
            )
            .where(NotificationRecord.user_id == user_id)
            .order_by(NotificationRecord.id.desc())
            .limit(NOTIFICATIONS)
        )
        notifications = [StoredNotification(*row) for row in newest.tuples().iterator()]
        edges = EdgeRecord.select().where(EdgeRecord.user_id == user_id).count()
    if graph.status is None and not notifications:
        raise NothingStored(f"Nothing is stored for user {user_id!r}: neither a graph nor a notification.")
    return Overview(
        graph=graph,
        node_count=len(graph.nodes),
        edge_count=edges,
        without_cluster=sum(node.cluster_id is None for node in graph.nodes),
        notifications=notifications,
    )


def read_graph(user_id: str) -> StoredGraph:
    """A user's graph with everything that a picture needs.

    Raises:
      NothingStored: The user has no graph, or the graph has no nodes.
    """
    with snapshot():
        graph = _read_graph(user_id)
        if graph.status is None:
            raise NothingStored(f"User {user_id!r} has no graph: there is nothing to draw.")
        if not graph.nodes:
            raise NothingStored(f"The graph of user {user_id!r} has no nodes ({graph.status}): nothing to draw.")
        graph.edges.extend(Edge(*row) for row in _rows(EdgeRecord, user_id, Edge._fields))
        graph.embeddings.update(_rows(EmbeddingRecord, user_id, ("node_id", "embedding")))
    return graph


def _read_graph(user_id: str) -> StoredGraph:
    row = GraphRecord.get_or_none(GraphRecord.user_id == user_id)
    nodes = [
        _node(*values)
        for values in _rows(
            NodeRecord,
            user_id,
            (
                "id",
                "orig_id",
                "title",
                "metadata",
                "cluster_id",
                "source_type",
                "num_messages",
                "timestamp",
                "keywords",
            ),
        )
    ]
    keywords = _cluster_keywords(nodes)
    sizes = Counter(node.cluster_id for node in nodes)
    clusters = [
        Cluster(key, printable(name or key) or "?", sizes[key], keywords.get(key) or _terms(themes)[:CLUSTER_KEYWORDS])
        for key, name, themes in _rows(ClusterRecord, user_id, ("id", "name", "themes"))
    ]
    return StoredGraph(
        user_id=printable(user_id),
        status=row.status if row else None,
        updated_at=row.updated_at if row else None,
        clusters=sorted(clusters, key=lambda cluster: (-cluster.size, cluster.id)),
        nodes=nodes,
    )


def _rows(table: type[PartRecord], user_id: str, columns: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """These columns of a user's rows, in the order of the primary key."""
    fields = [table._meta.fields[name] for name in columns]
    query = table.select(*fields).where(table.user_id == user_id).order_by(*table._meta.get_primary_keys())
    rows: Iterable[tuple[Any, ...]] = query.tuples().iterator()
    return rows


def _node(
    id: int,  # noqa: A002
    orig_id: str,
    title: str | None,
    metadata: dict[str, Any],
    cluster_id: str | None,
    source_type: str | None,
    num_messages: int | None,
    timestamp: datetime | None,
    keywords: list[Any],
) -> Node:
    named = title or metadata.get("title")
    shown_id = printable(orig_id)
    return Node(
        id=id,
        orig_id=shown_id,
        title=(printable(named) if isinstance(named, str) else "") or shown_id,
        cluster_id=cluster_id,
        source_type=source_type and printable(source_type),
        num_messages=num_messages,
        timestamp=timestamp,
        keywords=_terms(keywords),
    )


def _terms(keywords: list[Any]) -> list[str]:
    """The distinct words of a keyword list, whose items are `{term, score}` objects or plain words."""
    terms = [keyword.get("term") if isinstance(keyword, dict) else keyword for keyword in keywords]
    return list(dict.fromkeys(word for term in terms if isinstance(term, str) and (word := printable(term))))


def _cluster_keywords(nodes: list[Node]) -> dict[str | None, list[str]]:
    """The strongest keywords of each cluster's nodes. A node's first keyword counts most."""
    scores: dict[str | None, Counter[str]] = defaultdict(Counter)
    for node in nodes:
        for rank, keyword in enumerate(node.keywords):
            scores[node.cluster_id][keyword] += 12 // (rank + 2)
    return {
        cluster: sorted(words, key=lambda word: (-words[word], word))[:CLUSTER_KEYWORDS]
        for cluster, words in scores.items()
    }
