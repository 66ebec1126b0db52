"""Merges an add-node batch into a user's graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from graphnode.contract.documents import MAX_ID_LENGTH, AddNodeBatch, AddNodeItem, AddNodeNode, AssignedCluster
from graphnode.contract.original_ids import file_id, file_name, original_id
from graphnode.contract.repairs import Warnings
from graphnode.contract.values import MAX_INTEGER, finite, text_id, time_of
from graphnode.errors import WrongOwner
from graphnode.rules.graph import ClusterLimit
from graphnode.rules.rows import (
    ClusterRow,
    EdgeRow,
    GraphChanges,
    MergeTarget,
    NodeRow,
    SubclusterRow,
)
from graphnode.rules.source_types import Source, source_of
from graphnode.text import excerpt

#: The types of an edge. Any other text counts as no type.
EDGE_TYPES = ("hard", "insight")

#: Type and weight of a new edge for which the batch gives none.
USUAL_TYPE = "hard"
USUAL_WEIGHT = 1.0

#: The digits of the largest integer ID.
MAX_DIGITS = 10


class Named(NamedTuple):
    """What a batch names, by which storage finds the part of the graph that it needs."""

    names: set[str]
    """Each spelling of a node's name that may be a stored original ID, or the ID of a stored file."""
    node_ids: set[int]
    """Integer IDs at the ends of edges."""
    cluster_ids: set[str]
    nodes: int
    """The most nodes that may be new."""


class Touched(NamedTuple):
    """What a merge touches beside the nodes and clusters that the batch names."""

    pairs: list[tuple[int, int]]
    """The ends of the batch's edges between stored nodes. Such an edge may be stored, in either direction."""
    moved: list[int]
    """The stored nodes that move to another cluster."""
    left: list[str]
    """The clusters that they leave."""


def named_in(batch: AddNodeBatch, *, user_id: str) -> Named:
    """What the batch names: as `merge_batch` does, it leaves out items that are skipped."""
    named = Named(set(), set(), set(), sum(len(item.nodes) for item in batch.results or []))
    for item in batch.results or []:
        if not item.skipped:
            named.names.update(_original_id(node, user_id) for node in item.nodes)
            given = [node.cluster_id for node in item.nodes]
            given += [item.assigned_cluster.cluster_id] if item.assigned_cluster else []
            named.cluster_ids.update(filter(None, map(text_id, given)))
            for end in (end for edge in item.edges for end in (edge.source, edge.target)):
                if isinstance(end, str):
                    named.names.update((end, original_id(end, user_id=user_id)))
                if (number := _integer(end)) is not None:
                    named.node_ids.add(number)
    return named


def touched_by(changes: GraphChanges, stored: MergeTarget) -> Touched:
    """What changes touch, if they were made for a graph that has the nodes and clusters that the batch names alone."""
    before = {node.id: node.cluster_id for node in stored.nodes.values()}
    moved = [row.id for row in changes.nodes if row.id in before and row.cluster_id not in (None, before[row.id])]
    return Touched(
        pairs=[(edge.source, edge.target) for edge in changes.edges if edge.source in before and edge.target in before],
        moved=moved,
        left=list(dict.fromkeys(filter(None, (before[node_id] for node_id in moved)))),
    )


def merge_batch(stored: MergeTarget, batch: AddNodeBatch, *, user_id: str) -> tuple[GraphChanges, Warnings]:
    """What a batch changes in a user's graph, and counts of what was left out.

    - A stored node keeps its integer ID and may move to another cluster. A new node gets the next integer, in the
      batch's order. In the row of a stored node, None, [] and {} mean: keep the stored value. Its number of messages
      never shrinks. A file that is stored under a longer name is stored under its ID from now on.
    - A cluster that is not stored is new. A cluster that loses its last node is emptied, and so are its subclusters.
      A node that moved leaves the subclusters of other clusters.
    - An edge names a node by any ID that its item, or else the batch, gives the node, or else by a stored one.
    - A stored edge keeps its direction, and its type and weight unless the batch gives them; a new one is `hard` with
      weight 1. An edge to an unknown node, from a node to itself, or repeated in the batch is left out.
    - A stored edge of a node that moved is intra-cluster if both ends are now in one cluster.
    - A node of a new cluster over `MOST_CLUSTERS` stays where it is.
    - Items that are skipped change nothing. What an item has beside an error is used, and the error counted.

    Parameters:
      stored: the user's graph before the merge, or the part of it that the batch names and the merge touches.
      batch: the AI server's batch.
      user_id: whose graph it is; the batch's IDs may start with it.

    Raises WrongOwner if the batch names another user.
    """
    if batch.user_id and batch.user_id != user_id:
        raise WrongOwner(
            f"the add-node batch is of user {excerpt(batch.user_id)}, the result of {excerpt(user_id)}",
            log="the add-node batch is of another user than the result",
        )
    warnings: Counter[str] = Counter()
    stored = _by_file_id(stored)
    items = _usable(batch.results or [], warnings)
    names = _cluster_names(stored, items)
    nodes = _nodes(stored, items, names, user_id, warnings)
    cluster_of = _clusters_after(stored, nodes.values())
    moved = {node.id for node in stored.nodes.values() if cluster_of[node.id] != node.cluster_id}
    emptied = _emptied_clusters(stored, nodes.values(), moved, cluster_of)
    subclusters, emptied_subclusters = _subclusters(stored, moved, cluster_of, set(emptied))
    edges = _edges(stored, items, nodes, user_id, warnings)
    changes = GraphChanges(
        nodes=list(nodes.values()),
        edges=[*edges.values(), *_edges_of_moved_nodes(stored, moved, cluster_of, edges)],
        clusters=_new_clusters(stored, items, nodes.values(), names, cluster_of),
        emptied_clusters=emptied,
        subclusters=subclusters,
        emptied_subclusters=emptied_subclusters,
    )
    return changes, dict(warnings)


def _by_file_id(stored: MergeTarget) -> MergeTarget:
    """The graph with each file under its ID, too: earlier versions stored some under their longer names.

    Of several nodes of one file, the one that has its ID counts, else the oldest.
    """
    nodes = dict(stored.nodes)
    for orig_id, node in sorted(stored.nodes.items(), key=lambda named: named[1].id):
        nodes.setdefault(file_id(orig_id), node)
    return stored._replace(nodes=nodes)


def _usable(items: list[AddNodeItem], warnings: Counter[str]) -> list[AddNodeItem]:
    if errors := sum(bool(item.error) for item in items):
        warnings["sources with an error"] += errors
    return [item for item in items if not item.skipped]


def _cluster_names(stored: MergeTarget, items: list[AddNodeItem]) -> dict[str, str]:
    """Names by cluster ID: the stored name, else that of the assigned cluster, else that of its nodes."""
    names = {cluster.id: cluster.name for cluster in stored.clusters.values() if cluster.name}
    assigned = [item.assigned_cluster for item in items if item.assigned_cluster]
    given = [(cluster.cluster_id, cluster.name) for cluster in assigned]
    given += [(node.cluster_id, node.cluster_name) for item in items for node in item.nodes]
    for raw_id, name in given:
        cluster_id = text_id(raw_id)
        if cluster_id is not None and name:
            names.setdefault(cluster_id, name)
    return names


def _nodes(
    stored: MergeTarget,
    items: list[AddNodeItem],
    names: Mapping[str, str],
    user_id: str,
    warnings: Counter[str],
) -> dict[str, NodeRow]:
    """The batch's nodes by original ID. Of a repeated node, later values replace earlier ones."""
    rows: dict[str, NodeRow] = {}
    ids = {orig_id: node.id for orig_id, node in stored.nodes.items()}
    new_ids = iter(stored.new_ids)
    limit = ClusterLimit(stored.clusters, warnings, others=stored.other_clusters)
    for item in items:
        for node in item.nodes:
            orig_id = _original_id(node, user_id)
            if not orig_id:
                warnings["nodes without an ID"] += 1
                continue
            if len(orig_id) > MAX_ID_LENGTH:
                warnings["nodes with an ID that is too long"] += 1
                continue
            if orig_id not in ids:
                ids[orig_id] = next(new_ids)
            source = _source(item, node, user_id)
            row = _node(node, item, ids[orig_id], orig_id, source, names, limit, warnings)
            if before := stored.nodes.get(orig_id):
                # The graph knows the source better: an item tells chats, notes and files apart, but no Notion page.
                row = row._replace(source_type=None, metadata={})
                row = row._replace(num_messages=_most(row.num_messages, before.num_messages))
            rows[orig_id] = _updated(row, rows[orig_id]) if orig_id in rows else row
    return rows


def _original_id(node: AddNodeNode, user_id: str) -> str:
    """The node's original ID; empty if it has no ID."""
    return original_id(node.orig_id or node.id or "", user_id=user_id)


def _most(*counts: int | None) -> int | None:
    return max((count for count in counts if count is not None), default=None)


def _node(
    node: AddNodeNode,
    item: AddNodeItem,
    node_id: int,
    orig_id: str,
    source: Source,
    names: Mapping[str, str],
    limit: ClusterLimit,
    warnings: Counter[str],
) -> NodeRow:
    assigned = item.assigned_cluster or AssignedCluster()
    assigned_id = text_id(assigned.cluster_id)
    cluster_id = limit.admitted(text_id(node.cluster_id) or assigned_id)
    created_at = time_of(node.created_at, warnings)
    updated_at = time_of(node.updated_at, warnings)
    return NodeRow(
        id=node_id,
        orig_id=orig_id,
        cluster_id=cluster_id,
        cluster_name=names.get(cluster_id) if cluster_id else None,
        cluster_confidence=finite(assigned.confidence, warnings) if cluster_id and cluster_id == assigned_id else None,
        source_type=source.type,
        num_messages=node.num_messages if node.num_sections is None else node.num_sections,
        keywords=[],
        timestamp=time_of(node.timestamp, warnings) or updated_at or created_at,
        metadata=source.described_in({}),
        title=node.title or None,
        label=node.label or None,
        summary=node.summary or None,
        created_at=created_at,
        updated_at=updated_at,
    )


def _source(item: AddNodeItem, node: AddNodeNode, user_id: str) -> Source:
    """The source of an item's node: its type follows from the ID that the item has, else from the node's name."""
    ids = {"chat": item.conversation_id, "markdown": item.note_id, "file": item.file_id}
    given = next((kind for kind, given_id in ids.items() if given_id), None)
    return source_of(given, file_name(node.orig_id or node.id or "", user_id=user_id))


def _updated(row: NodeRow, earlier: NodeRow) -> NodeRow:
    """The earlier row of a repeated node with the values of the later; with another cluster, the old name goes too."""
    if row.cluster_id not in (None, earlier.cluster_id):
        earlier = earlier._replace(cluster_name=None, cluster_confidence=None)
    row = row._replace(num_messages=_most(row.num_messages, earlier.num_messages))
    return NodeRow._make(old if new in (None, [], {}) else new for new, old in zip(row, earlier, strict=True))


def _clusters_after(stored: MergeTarget, nodes: Iterable[NodeRow]) -> dict[int, str | None]:
    """The cluster of each node after the merge."""
    cluster_of = {node.id: node.cluster_id for node in stored.nodes.values()}
    for node in nodes:
        cluster_of[node.id] = node.cluster_id or cluster_of.get(node.id)
    return cluster_of


def _new_clusters(
    stored: MergeTarget,
    items: list[AddNodeItem],
    nodes: Iterable[NodeRow],
    names: Mapping[str, str],
    cluster_of: Mapping[int, str | None],
) -> list[ClusterRow]:
    """The clusters with nodes that are not stored. The first item that describes a cluster counts."""
    described: dict[str | None, AssignedCluster] = {}
    for item in items:
        if assigned := item.assigned_cluster:
            described.setdefault(text_id(assigned.cluster_id), assigned)
    rows = []
    for cluster_id, size in Counter(cluster_of[node.id] for node in nodes).items():
        if cluster_id is not None and cluster_id not in stored.clusters:
            cluster = described.get(cluster_id) or AssignedCluster()
            name, description = names.get(cluster_id), cluster.reasoning or None
            rows.append(ClusterRow(cluster_id, name, description, size, cluster.themes))
    return rows


def _emptied_clusters(
    stored: MergeTarget, nodes: Iterable[NodeRow], moved: set[int], cluster_of: Mapping[int, str | None]
) -> list[str]:
    before = {node.id: node.cluster_id for node in stored.nodes.values()}
    left = Counter(before[node_id] for node_id in moved)
    joined = {cluster_of[node.id] for node in nodes if node.id in moved or node.id not in before}
    return [
        cluster_id
        for cluster_id, cluster in stored.clusters.items()
        if cluster_id not in joined and 0 < left[cluster_id] >= cluster.size
    ]


def _subclusters(
    stored: MergeTarget, moved: set[int], cluster_of: Mapping[int, str | None], emptied_clusters: Set[str]
) -> tuple[list[SubclusterRow], list[str]]:
    """The subclusters that lost members, and the IDs of those that lost all members or their cluster."""
    changed: list[SubclusterRow] = []
    emptied: list[str] = []
    for subcluster in stored.subclusters:
        members = [
            node_id
            for node_id in subcluster.node_ids
            if node_id not in moved or cluster_of[node_id] == subcluster.cluster_id
        ]
        if not members or subcluster.cluster_id in emptied_clusters:
            emptied.append(subcluster.id)
        elif len(members) < len(subcluster.node_ids):
            representative = subcluster.representative_node_id
            if representative is not None and representative not in members:
                representative = members[0]
            changed.append(
                subcluster._replace(node_ids=members, representative_node_id=representative, size=len(members))
            )
    return changed, emptied


def _edges(
    stored: MergeTarget,
    items: list[AddNodeItem],
    nodes: Mapping[str, NodeRow],
    user_id: str,
    warnings: Counter[str],
) -> dict[tuple[int, int], EdgeRow]:
    """The batch's edges by (source, target)."""
    stored_ids = {node.id for node in stored.nodes.values()}
    stored_names = {orig_id: node.id for orig_id, node in stored.nodes.items()}
    names_in_items = [_names(item, nodes, user_id) for item in items]
    names_in_batch: dict[str, int] = {}
    for names in reversed(names_in_items):
        names_in_batch |= names
    rows: dict[tuple[int, int], EdgeRow] = {}
    for item, names in zip(items, names_in_items, strict=True):
        ids = (names, names_in_batch, stored_names)
        for edge in item.edges:
            source = _end(edge.source, ids, stored_ids, user_id)
            target = _end(edge.target, ids, stored_ids, user_id)
            if source is None or target is None:
                warnings["edges to unknown nodes"] += 1
                continue
            if source == target:
                warnings["self-loops"] += 1
                continue
            if (target, source) in stored.edges:
                source, target = target, source
            if (source, target) in rows or (target, source) in rows:
                warnings["repeated edges"] += 1
                continue
            stored_type = stored.edges.get((source, target))
            kind = edge.type if edge.type in EDGE_TYPES else stored_type or USUAL_TYPE
            weight = finite(edge.weight, warnings)
            if weight is None and stored_type is None:
                weight = USUAL_WEIGHT
            rows[source, target] = EdgeRow(source, target, weight, kind, edge.intra_cluster, edge.relation or None)
    return rows


def _names(item: AddNodeItem, nodes: Mapping[str, NodeRow], user_id: str) -> dict[str, int]:
    """The integer IDs of an item's nodes, by each ID that the item gives them. Of a repeated one, the first counts."""
    names: dict[str, int] = {}
    for node in item.nodes:
        if row := nodes.get(_original_id(node, user_id)):
            for name in filter(None, (node.id, node.orig_id)):
                names.setdefault(name, row.id)
                names.setdefault(original_id(name, user_id=user_id), row.id)
    return names


def _edges_of_moved_nodes(
    stored: MergeTarget,
    moved: set[int],
    cluster_of: Mapping[int, str | None],
    given: Mapping[tuple[int, int], EdgeRow],
) -> list[EdgeRow]:
    """The stored edges of moved nodes, with `intra_cluster` set again. Edges in the batch set it themselves."""
    return [
        EdgeRow(source, target, None, kind, cluster_of[source] is not None and cluster_of[source] == cluster_of[target])
        for (source, target), kind in stored.edges.items()
        if (source in moved or target in moved) and (source, target) not in given
    ]


def _end(name: str | int, ids: Iterable[Mapping[str, int]], stored_ids: Set[int], user_id: str) -> int | None:
    """The integer ID of the node that an edge names; None if there is no such node.

    Parameters:
      ids: integer IDs by name; what comes first counts.
    """
    if isinstance(name, str):
        for known in ids:
            for spelling in (name, original_id(name, user_id=user_id)):
                if spelling in known:
                    return known[spelling]
    number = _integer(name)
    return number if number in stored_ids else None


def _integer(name: str | int) -> int | None:
    """The integer ID that an edge may name; None if no stored node can have it."""
    if isinstance(name, str):
        if not (name.isascii() and name.isdecimal() and len(name) <= MAX_DIGITS):
            return None
        name = int(name)
    return name if 0 <= name <= MAX_INTEGER else None
