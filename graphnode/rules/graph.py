"""Turns a graph document into the rows that replace a user's graph, without contradictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from graphnode.contract.documents import GraphCluster, GraphDocument, GraphEdge, GraphNode, GraphSubcluster
from graphnode.contract.original_ids import file_name, original_id
from graphnode.contract.repairs import Warnings
from graphnode.contract.values import as_keywords, finite, text_id, time_of
from graphnode.rules.difference import is_same
from graphnode.rules.rows import ClusterRow, EdgeRow, GraphRows, NodeRow, SubclusterRow
from graphnode.rules.source_types import source_of

#: The most keywords of a node or subcluster, and themes of a cluster, that are stored.
MOST_LISTED = 1000

#: The most clusters of a graph. The AI server makes some dozen; each further one costs the database and the app time.
MOST_CLUSTERS = 10_000

#: The most bytes of a node's metadata, as JSON. A stored row of more would fill the memory beside the new one.
MOST_METADATA_BYTES = 256 * 1024

NO_KEYWORDS = msgspec.Raw(b"[]")

T = TypeVar("T")


class ClusterLimit:
    """Admits clusters up to the limit, in the order in which they are named.

    Parameters:
      known: the clusters that the graph has already.
      warnings: counts the nodes whose cluster is not admitted.
      others: number of further clusters of the graph, which no node will name.
    """

    def __init__(self, known: Iterable[str], warnings: Counter[str], *, others: int = 0) -> None:
        self._admitted = set(known)
        self._warnings = warnings
        self._most = MOST_CLUSTERS - others

    def admitted(self, cluster_id: str | None) -> str | None:
        """The ID of a node's cluster; None if it has none, or if that is one too many."""
        if cluster_id is None or cluster_id in self._admitted:
            return cluster_id
        if len(self._admitted) >= self._most:
            self._warnings[f"nodes of clusters over {MOST_CLUSTERS}"] += 1
            return None
        self._admitted.add(cluster_id)
        return cluster_id


def clean_graph(document: GraphDocument) -> tuple[GraphRows, Warnings]:
    """The rows of a graph, and counts of what was left out or repaired.

    - A node with the ID or original ID of an earlier node is left out.
    - An edge is left out if it names an unknown node, connects a node to itself, or connects two nodes that an earlier
      edge connects, in either direction.
    - Clusters come from the metadata and from the nodes. A cluster without nodes is left out.
    - A node of a further cluster than `MOST_CLUSTERS` is stored without one.
    - A subcluster loses unknown members. Without members, or in an unknown cluster, it is left out.
    - Metadata of a node over `MOST_METADATA_BYTES` is left out.
    - Of the keywords of a node or subcluster, and the themes of a cluster, the first `MOST_LISTED` are kept.
    - Sizes are counted here: those in the document are not trusted.
    """
    warnings: Counter[str] = Counter()
    nodes = _nodes(document.nodes, document.clusters, warnings)
    cluster_of = {node.id: node.cluster_id for node in nodes}
    clusters = _clusters(nodes, document.clusters, warnings)
    rows = GraphRows(
        nodes=nodes,
        edges=_edges(document.edges, cluster_of, warnings),
        clusters=clusters,
        subclusters=_subclusters(document.subclusters, cluster_of, {cluster.id for cluster in clusters}, warnings),
        generated_at=time_of(document.metadata.get("generated_at"), warnings),
        metadata=document.metadata,
    )
    return rows, dict(warnings)


def with_times(nodes: Iterable[NodeRow], stored: Iterable[NodeRow], *, now: datetime) -> list[NodeRow]:
    """The nodes with the document's times; else those of the stored node of the same source; else now.

    A stored node's time of an earlier release may be None. A node with other values than the stored one was changed
    now.
    """
    before = {node.orig_id: node for node in stored}
    return [_with_times(node, before.get(node.orig_id), now) for node in nodes]


def _with_times(node: NodeRow, stored: NodeRow | None, now: datetime) -> NodeRow:
    if stored is None:
        return node._replace(created_at=node.created_at or now, updated_at=node.updated_at or now)
    kept = node._replace(
        created_at=node.created_at or stored.created_at, updated_at=node.updated_at or stored.updated_at
    )
    return kept if node.updated_at or is_same(kept, stored) else kept._replace(updated_at=now)


def _nodes(nodes: list[GraphNode], clusters: dict[str, GraphCluster], warnings: Counter[str]) -> list[NodeRow]:
    rows: list[NodeRow] = []
    ids: set[int] = set()
    orig_ids: set[str] = set()
    limit = ClusterLimit((), warnings)
    for node in nodes:
        orig_id = original_id(node.orig_id)
        if node.id in ids:
            warnings["nodes with a repeated ID"] += 1
            continue
        if orig_id in orig_ids:
            warnings["nodes with a repeated original ID"] += 1
            continue
        ids.add(node.id)
        orig_ids.add(orig_id)
        rows.append(_node(node, orig_id, clusters, limit, warnings))
    return rows


def _node(
    node: GraphNode, orig_id: str, clusters: dict[str, GraphCluster], limit: ClusterLimit, warnings: Counter[str]
) -> NodeRow:
    cluster_id = limit.admitted(text_id(node.cluster_id))
    described = clusters.get(cluster_id) if cluster_id is not None else None
    source = source_of(node.source_type, file_name(node.orig_id))
    created_at = time_of(node.create_time, warnings)
    updated_at = time_of(node.update_time, warnings)
    return NodeRow(
        id=node.id,
        orig_id=orig_id,
        cluster_id=cluster_id,
        cluster_name=node.cluster_name or (described and described.name) or None,
        cluster_confidence=finite(node.cluster_confidence, warnings),
        source_type=source.type,
        num_messages=node.num_messages if node.num_sections is None else node.num_sections,
        keywords=_keywords(node, warnings),
        timestamp=time_of(node.timestamp, warnings) or updated_at or created_at,
        metadata=source.described_in(_metadata(node, warnings)),
        title=node.title or None,
        label=node.label or None,
        summary=node.summary or None,
        created_at=created_at,
        updated_at=updated_at,
    )


def _metadata(node: GraphNode, warnings: Counter[str]) -> dict[str, Any]:
    if node.metadata and len(msgspec.json.encode(node.metadata)) > MOST_METADATA_BYTES:
        warnings[f"metadata over {MOST_METADATA_BYTES} bytes"] += 1
        return {}
    return node.metadata


def _keywords(node: GraphNode, warnings: Counter[str]) -> msgspec.Raw:
    """The JSON of the node's keywords."""
    keywords = _first(node.keywords or node.top_keywords, "keywords", warnings)
    if not keywords:
        return NO_KEYWORDS
    return msgspec.Raw(msgspec.json.encode(as_keywords(keywords), order="sorted"))


def _first(listed: list[T], name: str, warnings: Counter[str]) -> list[T]:
    """The first of what a part of the graph lists; the others are counted."""
    if len(listed) > MOST_LISTED:
        warnings[f"{name} over {MOST_LISTED}"] += len(listed) - MOST_LISTED
        return listed[:MOST_LISTED]
    return listed


def _edges(edges: list[GraphEdge], cluster_of: dict[int, str | None], warnings: Counter[str]) -> list[EdgeRow]:
    rows: list[EdgeRow] = []
    connected: set[int] = set()
    for edge in edges:
        source, target = edge.source, edge.target
        if source not in cluster_of or target not in cluster_of:
            warnings["edges to unknown nodes"] += 1
            continue
        if source == target:
            warnings["self-loops"] += 1
            continue
        # Both IDs in one integer: the garbage collector would need more time for so many tuples than all the rest.
        pair = source << 32 | target if source < target else target << 32 | source
        if pair in connected:
            warnings["repeated edges"] += 1
            continue
        connected.add(pair)
        intra_cluster = edge.is_intra_cluster
        if intra_cluster is None:
            intra_cluster = cluster_of[source] is not None and cluster_of[source] == cluster_of[target]
        kind = "hard" if edge.confidence == "high" else "insight"
        rows.append(EdgeRow(source, target, finite(edge.weight, warnings), kind, intra_cluster, edge.relation or None))
    return rows


def _clusters(nodes: list[NodeRow], described: dict[str, GraphCluster], warnings: Counter[str]) -> list[ClusterRow]:
    sizes: Counter[str] = Counter()
    names: dict[str, str] = {}
    for node in nodes:
        if node.cluster_id is not None:
            sizes[node.cluster_id] += 1
            if node.cluster_name is not None:
                names.setdefault(node.cluster_id, node.cluster_name)
    rows: list[ClusterRow] = []
    for cluster_id in {**described, **sizes}:
        if not sizes[cluster_id]:
            warnings["clusters without nodes"] += 1
            continue
        cluster = described.get(cluster_id) or GraphCluster()
        name, themes = cluster.name or names.get(cluster_id), _first(cluster.key_themes, "themes", warnings)
        rows.append(ClusterRow(cluster_id, name, cluster.description or None, sizes[cluster_id], themes))
    return rows


def _subclusters(
    subclusters: list[GraphSubcluster],
    cluster_of: dict[int, str | None],
    clusters: set[str],
    warnings: Counter[str],
) -> list[SubclusterRow]:
    rows: dict[str, SubclusterRow] = {}
    for subcluster in subclusters:
        subcluster_id, cluster_id = str(subcluster.id), text_id(subcluster.cluster_id)
        # Unknown ones are only counted: they may be as many as the document has room for.
        given = (node_id for node_id in subcluster.node_ids if node_id is not None and node_id in cluster_of)
        known = list(dict.fromkeys(given))
        if subcluster_id in rows:
            warnings["repeated subclusters"] += 1
        elif cluster_id is not None and cluster_id not in clusters:
            warnings["subclusters of unknown clusters"] += 1
        elif not known:
            warnings["subclusters without nodes"] += 1
        else:
            if unknown := sum(node_id not in cluster_of for node_id in subcluster.node_ids):
                warnings["subcluster members that do not exist"] += unknown
            representative = subcluster.representative_node_id
            if representative is not None and representative not in known:
                representative = known[0]
            rows[subcluster_id] = SubclusterRow(
                id=subcluster_id,
                cluster_id=cluster_id,
                node_ids=known,
                representative_node_id=representative,
                size=len(known),
                density=finite(subcluster.density, warnings),
                top_keywords=_first(subcluster.top_keywords, "keywords", warnings),
                internal_edges=subcluster.internal_edges,
                cohesion_score=finite(subcluster.cohesion_score, warnings),
            )
    return list(rows.values())
