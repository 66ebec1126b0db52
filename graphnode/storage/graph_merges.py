"""Reads the part of a graph that an add-node merge needs, and writes what the merge changes: never the whole graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import count, islice
from operator import or_
from typing import Any

from peewee import (
    CTE,
    SQL,
    Case,
    Cast,
    NodeList,
    Select,
    fn,
)

from graphnode.contract.values import MAX_INTEGER
from graphnode.rules.batch_merge import Named, Touched
from graphnode.rules.rows import ClusterRow, EdgeRow, GraphChanges, MergeTarget, NodeRow, StoredNode, SubclusterRow
from graphnode.steps import is_step
from graphnode.storage.database import database
from graphnode.storage.graphs import (
    USER,
    WRITTEN_AT_ONCE,
    ClusterRecord,
    EdgeRecord,
    GraphCounts,
    GraphRecord,
    GraphStatus,
    NodeRecord,
    PartRecord,
    SubclusterRecord,
    fields_of,
    pairs_given,
    upsert,
)
from graphnode.storage.statements import Statement, given, run

#: The parts of changes that have rows to write.
WRITTEN = ("nodes", "edges", "clusters", "subclusters")

#: The longer names by which earlier versions stored files; the group is the file's ID.
LONGER_NAMES = (
    "^(uf-[A-Za-z0-9-]+|[0-7][0-9A-Za-z]{25})_",
    "^[A-Za-z0-9]+_(uf-[A-Za-z0-9-]+|[0-7][0-9A-Za-z]{25})(?:_|$)",
)


def _rows(source: CTE | type[PartRecord], *columns: Any) -> Any:
    """All rows of a source as JSON: one statement returns several kinds of rows."""
    return Select([source], [fn.COALESCE(fn.json_agg(fn.json_build_array(*columns)), SQL("'[]'::json"))])


def _columns(source: CTE, names: Sequence[str]) -> Iterator[Any]:
    return (getattr(source.c, name) for name in names)


def _read_named() -> Statement:
    """The nodes that a batch names, its clusters and theirs, the largest node ID, and the number of clusters."""
    of_user = NodeRecord.user_id == USER
    # One look-up for each name: for all together, PostgreSQL may read the user's nodes if it expects few.
    name = Select(columns=[fn.unnest(Cast(given("names"), "text[]")).alias("name")]).alias("name")
    by_name = Select([name], [NodeRecord.select(NodeRecord.id).where(of_user, NodeRecord.orig_id == name.c.name)])
    # The file's ID in a longer name, or NULL: as in the index `graph_nodes_of_file`.
    file_id = fn.COALESCE(*(fn.SUBSTRING(NodeRecord.orig_id, pattern) for pattern in LONGER_NAMES))
    by_file = NodeRecord.select(NodeRecord.id).where(of_user, file_id.is_null(False), file_id == fn.ANY(given("names")))
    by_id = Select(columns=[fn.unnest(Cast(given("node_ids"), "integer[]"))])
    found = (
        NodeRecord.select(*fields_of(NodeRecord, ("orig_id", *StoredNode._fields)))
        .where(of_user, NodeRecord.id == fn.ANY(fn.ARRAY(by_name | by_file | by_id)))
        .cte("found")
    )
    cluster_ids = Select([found], [found.c.cluster_id]) | Select(
        columns=[fn.unnest(Cast(given("cluster_ids"), "text[]"))]
    )
    clusters = (
        ClusterRecord.select(*fields_of(ClusterRecord, ClusterRow._fields))
        .where(ClusterRecord.user_id == USER, ClusterRecord.id == fn.ANY(fn.ARRAY(cluster_ids)))
        .cte("clusters")
    )
    largest_id = NodeRecord.select(NodeRecord.id).where(of_user).order_by(NodeRecord.id.desc()).limit(1)
    cluster_count = GraphRecord.select(GraphRecord.cluster_count).where(GraphRecord.user_id == USER)
    return Statement(
        Select(
            columns=[
                _rows(found, *_columns(found, ("orig_id", *StoredNode._fields))),
                _rows(clusters, *_columns(clusters, ClusterRow._fields)),
                largest_id,
                cluster_count,
            ]
        )
        .with_cte(found, clusters)
        .bind(database)
    )


def _read_touched() -> Statement:
    """The edges of pairs of nodes and of nodes that move, the nodes at their ends, and subclusters that may shrink."""
    edges = EdgeRecord.select(EdgeRecord.source, EdgeRecord.target, EdgeRecord.type)
    of_user = EdgeRecord.user_id == USER
    moved = fn.ANY(given("moved"))
    # One look-up for each pair, whatever PostgreSQL's statistics say. NULL: there is no such edge.
    pair = pairs_given("source", "target").alias("pair")
    kind = EdgeRecord.select(EdgeRecord.type).where(
        of_user, EdgeRecord.source == pair.c.source, EdgeRecord.target == pair.c.target
    )
    found = (
        Select([pair], [pair.c.source, pair.c.target, kind.alias("type")])
        | edges.where(of_user, EdgeRecord.source == moved)
        | edges.where(of_user, EdgeRecord.target == moved)
    ).cte("found")
    ends = Select([found], [found.c.source]) | Select([found], [found.c.target])
    nodes = (
        NodeRecord.select(*fields_of(NodeRecord, ("orig_id", *StoredNode._fields)))
        .where(NodeRecord.user_id == USER, NodeRecord.id == fn.ANY(fn.ARRAY(ends)))
        .cte("nodes")
    )
    members = Cast(given("members"), "jsonb[]")
    subclusters = (
        SubclusterRecord.select(*fields_of(SubclusterRecord, SubclusterRow._fields))
        .where(
            SubclusterRecord.user_id == USER,
            # Nothing is read if no node moves.
            fn.CARDINALITY(members) > 0,
            (SubclusterRecord.cluster_id == fn.ANY(given("left")))
            | NodeList((SubclusterRecord.node_ids, SQL("@>"), fn.ANY(members))),
        )
        .cte("subclusters")
    )
    return Statement(
        Select(
            columns=[
                _rows(found, *_columns(found, ("source", "target", "type"))),
                _rows(nodes, *_columns(nodes, ("orig_id", *StoredNode._fields))),
                _rows(subclusters, *_columns(subclusters, SubclusterRow._fields)),
            ]
        )
        .with_cte(found, nodes, subclusters)
        .bind(database)
    )


#: Whether a returned row was inserted: PostgreSQL marks an updated one with its transaction.
IS_NEW = SQL("xmax = 0")


def _write() -> Statement:
    """Write the parts of changes.

    It returns the clusters of nodes, as they were and of the rows that were written; numbers of new edges, new clusters
    and deleted clusters; and whether another row was written.
    """
    before = (
        NodeRecord.select(NodeRecord.id, NodeRecord.cluster_id)
        .where(NodeRecord.user_id == USER, NodeRecord.id == fn.ANY(given("ids")))
        .cte("before")
    )
    nodes = (
        upsert(NodeRecord, NodeRow, "nodes", keep_if_missing=True)
        .returning(NodeRecord.id, NodeRecord.cluster_id)
        .cte("nodes")
    )
    is_new = IS_NEW.alias("is_new")
    edges = upsert(EdgeRecord, EdgeRow, "edges", keep_if_missing=True).returning(is_new).cte("edges")
    clusters = upsert(ClusterRecord, ClusterRow, "clusters", keep_if_missing=True).returning(is_new).cte("clusters")
    subclusters = upsert(SubclusterRecord, SubclusterRow, "subclusters").returning(is_new).cte("subclusters")
    gone_clusters, gone_subclusters = (
        table.delete().where(table.user_id == USER, key == fn.ANY(given(name))).returning(key).cte(name)
        for table, key, name in (
            (ClusterRecord, ClusterRecord.id, "emptied_clusters"),
            (SubclusterRecord, SubclusterRecord.id, "emptied_subclusters"),
        )
    )
    parts = (before, nodes, edges, clusters, subclusters, gone_clusters, gone_subclusters)
    other_parts = (edges, clusters, subclusters, gone_subclusters)
    query = Select(
        columns=[
            _rows(before, before.c.id, before.c.cluster_id),
            _rows(nodes, nodes.c.id, nodes.c.cluster_id),
            _count(edges).where(edges.c.is_new),
            _count(clusters).where(clusters.c.is_new),
            _count(gone_clusters),
            reduce(or_, (fn.EXISTS(Select([part], [SQL("1")])) for part in other_parts)),
        ]
    )
    return Statement(query.with_cte(*parts).bind(database))


def _count(part: CTE) -> Any:
    return Select([part], [fn.COUNT(SQL("*"))])


def _move_sizes() -> Statement:
    """Add to the sizes of clusters."""
    added = Select(
        columns=[
            fn.unnest(Cast(given("cluster_ids"), "text[]")).alias("id"),
            fn.unnest(Cast(given("added"), "integer[]")).alias("size"),
        ]
    ).alias("added")
    return Statement(
        ClusterRecord.update(size=ClusterRecord.size + added.c.size)
        .from_(added)
        .where(
            ClusterRecord.user_id == USER,
            ClusterRecord.id == added.c.id,
            # Else PostgreSQL may read all the user's clusters.
            ClusterRecord.id == fn.ANY(given("cluster_ids")),
        )
    )


def _move_counts() -> Statement:
    """Add to the counts in the graph's row, and return them."""
    content_time = Case(None, [(given("is_changed"), fn.now())], GraphRecord.content_updated_at)
    return Statement(
        GraphRecord.update(
            status=GraphStatus.UPDATED,
            status_before=None,
            node_count=GraphRecord.node_count + given("nodes"),
            edge_count=GraphRecord.edge_count + given("edges"),
            cluster_count=GraphRecord.cluster_count + given("clusters"),
            updated_at=fn.now(),
            content_updated_at=content_time,
        )
        .where(GraphRecord.user_id == USER)
        .returning(GraphRecord.node_count, GraphRecord.edge_count, GraphRecord.cluster_count)
    )


MAKE_GRAPH = Statement(
    GraphRecord.insert(user_id=USER, status=GraphStatus.UPDATED, updated_at=fn.now()).on_conflict(
        action="IGNORE", conflict_target=[GraphRecord.user_id]
    )
)
READ_NAMED = _read_named()
READ_TOUCHED = _read_touched()
WRITE = _write()
MOVE_SIZES = _move_sizes()
MOVE_COUNTS = _move_counts()


@is_step("graph")
def load_named(user_id: str, named: Named) -> MergeTarget:
    """The nodes and clusters of the user's graph that a batch names, and the clusters of these nodes."""
    values = {"names": list(named.names), "node_ids": list(named.node_ids), "cluster_ids": list(named.cluster_ids)}
    nodes, clusters, largest_id, cluster_count = READ_NAMED(user_id=user_id, **values).fetchone()
    new_ids: Sequence[int] = range(0 if largest_id is None else largest_id + 1, MAX_INTEGER + 1)
    if len(new_ids) < named.nodes:
        new_ids = [*new_ids, *_free_ids(user_id, named.nodes)]
    return MergeTarget(
        nodes=_stored_nodes(nodes),
        edges={},
        clusters={row[0]: ClusterRow._make(row) for row in clusters},
        subclusters=[],
        other_clusters=(cluster_count or 0) - len(clusters),
        new_ids=new_ids,
    )


@is_step("graph")
def load_touched(user_id: str, stored: MergeTarget, touched: Touched) -> MergeTarget:
    """`stored` with what a merge touches beside it: edges, the nodes at their ends, and subclusters."""
    edges, nodes, subclusters = READ_TOUCHED(
        user_id=user_id,
        source=[end for pair in touched.pairs for end in pair],
        target=[end for pair in touched.pairs for end in reversed(pair)],
        moved=touched.moved,
        members=[str(node_id) for node_id in touched.moved],
        left=touched.left,
    ).fetchone()
    return stored._replace(
        nodes=stored.nodes | _stored_nodes(nodes),
        edges={(source, target): kind for source, target, kind in edges if kind},
        subclusters=list(map(SubclusterRow._make, subclusters)),
    )


@is_step("graph")
def apply_changes(user_id: str, changes: GraphChanges) -> GraphCounts:
    """Change the user's graph, or create one; its status is UPDATED.

    A missing value (None, "", [] or {}) of a node, edge or cluster leaves the stored value as it is. An exception: a
    node that moves loses the name and confidence of its old cluster. Sizes and counts move by what comes and goes.
    Changes that change nothing leave the times of rows, and that of the content, as they are.

    Returns the new size of the graph.
    """
    sizes: Counter[str | None] = Counter()
    added: Counter[str] = Counter()
    is_changed = False
    for part in parts_of(changes):
        rows = {name: [row._asdict() for row in getattr(part, name)] for name in WRITTEN}
        emptied = {"emptied_clusters": part.emptied_clusters, "emptied_subclusters": part.emptied_subclusters}
        before, nodes, new_edges, new_clusters, gone_clusters, is_other_changed = run(
            MAKE_GRAPH.bind(user_id=user_id),
            WRITE.bind(user_id=user_id, ids=[node.id for node in part.nodes], **rows, **emptied),
        ).fetchone()
        cluster_before = dict(before)
        sizes.subtract(cluster_before[node_id] for node_id, _ in nodes if node_id in cluster_before)
        sizes.update(cluster_id for _, cluster_id in nodes)
        new_nodes = sum(node_id not in cluster_before for node_id, _ in nodes)
        added.update(nodes=new_nodes, edges=new_edges, clusters=new_clusters - gone_clusters)
        is_changed = is_changed or bool(nodes or gone_clusters or is_other_changed)
    changed_sizes = {cluster_id: size for cluster_id, size in sizes.items() if cluster_id is not None and size}
    counts = run(
        MOVE_SIZES.bind(user_id=user_id, cluster_ids=list(changed_sizes), added=list(changed_sizes.values())),
        MOVE_COUNTS.bind(user_id=user_id, is_changed=is_changed, **added),
    ).fetchone()
    return GraphCounts(*counts)


def parts_of(changes: GraphChanges) -> Iterator[GraphChanges]:
    """The changes in parts of `WRITTEN_AT_ONCE`, at least one."""
    for start in range(0, max(1, *(len(rows) for rows in changes)), WRITTEN_AT_ONCE):
        yield GraphChanges._make(rows[start : start + WRITTEN_AT_ONCE] for rows in changes)


def _stored_nodes(rows: Iterable[tuple[Any, ...]]) -> dict[str, StoredNode]:
    return {orig_id: StoredNode(*node) for orig_id, *node in rows}


def _free_ids(user_id: str, most: int) -> list[int]:
    """The smallest integer IDs that no node of the user has. It reads all of them."""
    ids = NodeRecord.select(NodeRecord.id).where(NodeRecord.user_id == user_id).tuples().iterator()
    taken = {node_id for (node_id,) in ids}
    return list(islice((number for number in count() if number not in taken), most))
