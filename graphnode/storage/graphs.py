"""Knowledge graphs of users: replaced as a whole, or changed in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from struct import pack
from typing import Any, NamedTuple, TypeVar, cast

import psycopg2
from peewee import (
    EXCLUDED,
    SQL,
    BooleanField,
    Case,
    CompositeKey,
    DoubleField,
    Field,
    IntegerField,
    NodeList,
    TextField,
    Tuple,
    chunked,
    fn,
)
from pgvector.peewee import VectorField
from playhouse.postgres_ext import DateTimeTZField
from psycopg2.errors import ProgramLimitExceeded

from graphnode.errors import RefusedByDatabase, one_line
from graphnode.rules.difference import Difference, difference, with_json_as_text
from graphnode.rules.features import FLOAT_BYTES, NO_NODE
from graphnode.rules.graph import with_times
from graphnode.rules.rows import (
    ClusterRow,
    EdgeRow,
    GraphChanges,
    GraphRows,
    MergeTarget,
    NodeRow,
    StoredNode,
    SubclusterRow,
)
from graphnode.rules.source_types import RAW_FORMAT
from graphnode.steps import is_step
from graphnode.storage.database import NEWEST_BELIEVED, JsonField, Record, copy_binary, copy_rows, database

Row = TypeVar("Row", NodeRow, EdgeRow, ClusterRow, SubclusterRow)

#: The largest share of a graph that may differ from the stored one for writing only the differences.
MOST_CHANGED = 0.4

#: Columns of a node that describe its cluster. They are not kept when the node moves to another cluster.
CLUSTER_COLUMNS = ("cluster_name", "cluster_confidence")

#: Columns of a node that have a time, whether or not a document gives one.
TIME_COLUMNS = ("created_at", "updated_at")

#: Graphs with more edges get new query plans, which take a millisecond.
LARGE_GRAPH = 1000

#: The most rows of one INSERT in `apply_changes`.
INSERT_ROWS = 1000


class GraphStatus(StrEnum):
    """The statuses of a graph (the contract)."""

    NOT_CREATED = "NOT_CREATED"
    CREATING = "CREATING"
    CREATED = "CREATED"
    UPDATING = "UPDATING"
    UPDATED = "UPDATED"


class GraphRecord(Record):
    """The graph of a user. `status_before` is the status before the request that is in progress.

    `updated_at` moves when anything in the row does; `content_updated_at` when the graph itself has changed.
    """

    user_id = TextField(primary_key=True)
    status = TextField()
    status_before = TextField(null=True)
    node_count = IntegerField(default=0)
    edge_count = IntegerField(default=0)
    cluster_count = IntegerField(default=0)
    generated_at = DateTimeTZField(null=True)
    source_timestamp = DateTimeTZField(null=True)
    updated_at = DateTimeTZField()
    content_updated_at = DateTimeTZField(null=True)
    metadata = JsonField(default=dict)

    class Meta:
        table_name = "graphs"


class PartRecord(Record):
    """A part of a user's graph."""

    user_id = TextField()


class NodeRecord(PartRecord):
    """A node: a conversation, note or file of the user."""

    id = IntegerField()
    orig_id = TextField()
    cluster_id = TextField(null=True)
    cluster_name = TextField(null=True)
    cluster_confidence = DoubleField(null=True)
    source_type = TextField(null=True)
    num_messages = IntegerField(null=True)
    keywords = JsonField()
    timestamp = DateTimeTZField(null=True)
    metadata = JsonField()
    title = TextField(null=True)
    label = TextField(null=True)
    summary = TextField(null=True)
    created_at = DateTimeTZField(null=True)
    updated_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "graph_nodes"
        primary_key = CompositeKey("user_id", "id")


class EdgeRecord(PartRecord):
    """An edge between two nodes of a user. Its times are those of the row, which PostgreSQL writes by default."""

    source = IntegerField()
    target = IntegerField()
    weight = DoubleField(null=True)
    type = TextField()
    intra_cluster = BooleanField()
    relation = TextField(null=True)
    created_at = DateTimeTZField(null=True)
    updated_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "graph_edges"
        primary_key = CompositeKey("user_id", "source", "target")


class ClusterRecord(PartRecord):
    """A cluster of nodes."""

    id = TextField()
    name = TextField(null=True)
    description = TextField(null=True)
    size = IntegerField()
    themes = JsonField()

    class Meta:
        table_name = "graph_clusters"
        primary_key = CompositeKey("user_id", "id")


class SubclusterRecord(PartRecord):
    """A denser part of a cluster."""

    id = TextField()
    cluster_id = TextField(null=True)
    node_ids = JsonField()
    representative_node_id = IntegerField(null=True)
    size = IntegerField()
    density = DoubleField(null=True)
    top_keywords = JsonField()
    internal_edges = IntegerField(null=True)
    cohesion_score = DoubleField(null=True)

    class Meta:
        table_name = "graph_subclusters"
        primary_key = CompositeKey("user_id", "id")


class EmbeddingRecord(PartRecord):
    """A node's embedding."""

    node_id = IntegerField()
    embedding = VectorField()

    class Meta:
        table_name = "node_embeddings"
        primary_key = CompositeKey("user_id", "node_id")


class GraphCounts(NamedTuple):
    """The size of a user's graph."""

    nodes: int
    edges: int
    clusters: int


#: The parts of a graph. A table comes before the tables that it references.
PARTS: tuple[type[PartRecord], ...] = (EmbeddingRecord, EdgeRecord, SubclusterRecord, NodeRecord, ClusterRecord)


def newer_source_timestamp(user_id: str, timestamp: datetime) -> datetime | None:
    """When the AI server sent the stored graph, if that was later than `timestamp`. A time in the future is not."""
    sent_at = GraphRecord.source_timestamp
    found: datetime | None = (
        GraphRecord.select(sent_at)
        .where(GraphRecord.user_id == user_id, sent_at > timestamp, sent_at <= NEWEST_BELIEVED)
        .scalar()
    )
    return found


@is_step("graph")
def replace_graph(user_id: str, rows: GraphRows, *, source_timestamp: datetime) -> None:
    """Replace the user's graph; its embeddings are deleted, and its status is CREATED.

    Nodes get the times that `with_times` says. Edges that are written have the current time.

    Parameters:
      rows: the new graph. Every ID in it is unique.
      source_timestamp: when the AI server sent it.
    """
    now = _store_graph_row(
        user_id,
        GraphStatus.CREATED,
        GraphCounts(len(rows.nodes), len(rows.edges), len(rows.clusters)),
        {
            GraphRecord.generated_at: rows.generated_at,
            GraphRecord.source_timestamp: source_timestamp,
            GraphRecord.metadata: rows.metadata,
        },
    )
    stored = list(map(with_json_as_text, _stored(NodeRecord, NodeRow, user_id)))
    rows = rows._replace(nodes=with_times(rows.nodes, stored, now=now))
    if stored:
        nodes = difference(stored, rows.nodes)
        edges = difference(_stored(EdgeRecord, EdgeRow, user_id), rows.edges, key=2)
        clusters = difference(_stored(ClusterRecord, ClusterRow, user_id), rows.clusters)
        subclusters = difference(_stored(SubclusterRecord, SubclusterRow, user_id), rows.subclusters)
        if not any(part.share for part in (nodes, edges, clusters, subclusters)):
            _delete_all(EmbeddingRecord, user_id)
            return
    GraphRecord.update({GraphRecord.content_updated_at: fn.now()}).where(GraphRecord.user_id == user_id).execute()
    if stored and max(nodes.share, edges.share) <= MOST_CHANGED:
        _update(user_id, rows, nodes, edges, clusters)
    else:
        _rewrite(user_id, rows)


def _rewrite(user_id: str, rows: GraphRows) -> None:
    """Delete the stored graph and write the new one: for a first graph, or one that differs much."""
    _forget_plans(rows)
    for table in PARTS:
        _delete_all(table, user_id)
    _copy(ClusterRecord, ClusterRow._fields, user_id, rows.clusters)
    _copy(NodeRecord, NodeRow._fields, user_id, rows.nodes)
    _copy(EdgeRecord, EdgeRow._fields, user_id, rows.edges)
    _copy(SubclusterRecord, SubclusterRow._fields, user_id, rows.subclusters)
    _forget_plans(rows)


def _update(
    user_id: str,
    rows: GraphRows,
    nodes: Difference[NodeRow],
    edges: Difference[EdgeRow],
    clusters: Difference[ClusterRow],
) -> None:
    """Write only the differences: fewer foreign keys to check (two for each edge), and fewer dead rows."""
    _forget_plans(rows)
    _delete_all(EmbeddingRecord, user_id)
    _delete_all(SubclusterRecord, user_id)
    _upsert(ClusterRecord, ("id",), user_id, clusters.fresh)
    _upsert(NodeRecord, ("id",), user_id, nodes.fresh)
    database.execute_sql(
        """
        DELETE FROM graph_edges USING unnest(%s::int[], %s::int[]) AS stale (source, target)
        WHERE user_id = %s AND graph_edges.source = stale.source AND graph_edges.target = stale.target
        """,
        ([source for source, _ in edges.stale], [target for _, target in edges.stale], user_id),
    )
    nodes_now = {node.id for node in rows.nodes}
    _delete_parts(NodeRecord, user_id, [node_id for node_id in nodes.stale if node_id not in nodes_now])
    _copy(EdgeRecord, EdgeRow._fields, user_id, edges.fresh)
    _copy(SubclusterRecord, SubclusterRow._fields, user_id, rows.subclusters)
    clusters_now = {cluster.id for cluster in rows.clusters}
    _delete_parts(
        ClusterRecord, user_id, [cluster_id for cluster_id in clusters.stale if cluster_id not in clusters_now]
    )


def _forget_plans(rows: GraphRows) -> None:
    """Make PostgreSQL plan its foreign key checks again if the graph is large.

    A session keeps the plans that it made while the tables were small. With such a plan the check of each edge may read
    all nodes of the user, and 100,000 edges take minutes.
    """
    if len(rows.edges) > LARGE_GRAPH:
        database.execute_sql("DISCARD PLANS")


@is_step("embeddings")
def store_embeddings(user_id: str, rows: Iterable[tuple[int, bytes]]) -> int:
    """Store all embeddings of a user's nodes, or none; a failure does not undo the rest of the transaction.

    Parameters:
      rows: node ID, or NO_NODE for one that is left out, and embedding, packed as by `rules.features.pack`. They are
        consumed while they are written.

    Returns the number of embeddings.

    Raises:
      RefusedByDatabase: pgvector refuses an embedding, or a node has two.
      BaseException: Whatever `rows` raises, unchanged.
    """
    try:
        with database.atomic():
            owner = user_id.encode()
            # A vector's binary format: how many numbers, an unused field, and the numbers.
            values = (
                (owner, pack(">i", node_id), pack(">HH", len(numbers) // FLOAT_BYTES, 0) + numbers)
                for node_id, numbers in rows
                if node_id != NO_NODE
            )
            return copy_binary(EmbeddingRecord, ("user_id", "node_id", "embedding"), values)
    except (psycopg2.DataError, psycopg2.IntegrityError, ProgramLimitExceeded) as error:
        raise RefusedByDatabase(
            f"PostgreSQL refuses the embeddings: {one_line(error)}", log="PostgreSQL refuses the embeddings"
        ) from error


def embedding_width(user_id: str) -> int | None:
    """The dimension of the user's embeddings; None if there are no embeddings."""
    width: int | None = (
        EmbeddingRecord.select(fn.vector_dims(EmbeddingRecord.embedding))
        .where(EmbeddingRecord.user_id == user_id)
        .limit(1)
        .scalar()
    )
    return width


@is_step("graph")
def load_for_merge(user_id: str) -> MergeTarget:
    """The part of the user's graph that an add-node merge needs."""
    return MergeTarget(
        nodes={
            orig_id: StoredNode(*node)
            for orig_id, *node in _rows(NodeRecord, user_id, ("orig_id", *StoredNode._fields))
        },
        edges={
            (source, target): kind for source, target, kind in _rows(EdgeRecord, user_id, ("source", "target", "type"))
        },
        clusters={cluster.id: cluster for cluster in _stored(ClusterRecord, ClusterRow, user_id)},
        subclusters=list(_stored(SubclusterRecord, SubclusterRow, user_id)),
    )


@is_step("graph")
def apply_changes(user_id: str, changes: GraphChanges) -> GraphCounts:
    """Change the user's graph, or create one; its status is UPDATED.

    A missing value (None, "", [] or {}) of a node, edge or cluster leaves the stored value as it is. An exception: a
    node that moves loses the name and confidence of its old cluster. Sizes and counts are computed again. Changes that
    change nothing leave the times of rows, and that of the content, as they are.

    Returns the new size of the graph.
    """
    GraphRecord.insert(user_id=user_id, status=GraphStatus.UPDATED, updated_at=fn.now()).on_conflict(
        action="IGNORE", conflict_target=[GraphRecord.user_id]
    ).execute()
    changed = (
        _upsert(ClusterRecord, ("id",), user_id, changes.clusters, keep_if_missing=True)
        + _upsert(NodeRecord, ("id",), user_id, changes.nodes, keep_if_missing=True)
        + _upsert(EdgeRecord, ("source", "target"), user_id, changes.edges, keep_if_missing=True)
        + _upsert(SubclusterRecord, ("id",), user_id, changes.subclusters)
        + _delete_parts(SubclusterRecord, user_id, changes.emptied_subclusters)
        + _delete_parts(ClusterRecord, user_id, changes.emptied_clusters)
    )
    _count_clusters(user_id)
    counts = graph_counts(user_id)
    content: dict[Field[Any], Any] = {GraphRecord.content_updated_at: fn.now()} if changed else {}
    _store_graph_row(user_id, GraphStatus.UPDATED, counts, content)
    return counts


def graph_counts(user_id: str) -> GraphCounts:
    """The size of the user's graph, counted in its tables."""
    return GraphCounts(
        *(table.select().where(table.user_id == user_id).count() for table in (NodeRecord, EdgeRecord, ClusterRecord))
    )


def sources(user_id: str) -> dict[tuple[str | None, str | None], int]:
    """Number of the user's nodes by source type and raw format."""
    raw_format = fn.jsonb_extract_path_text(NodeRecord.metadata, RAW_FORMAT)
    query = (
        NodeRecord.select(NodeRecord.source_type, raw_format, fn.COUNT("*"))
        .where(NodeRecord.user_id == user_id)
        .group_by(NodeRecord.source_type, raw_format)
    )
    return {(source_type, name): nodes for source_type, name, nodes in query.tuples().iterator()}


def node_ids(user_id: str) -> dict[str, int]:
    """The user's node IDs by original ID."""
    return dict(_rows(NodeRecord, user_id, ("orig_id", "id")))


def _store_graph_row(user_id: str, status: GraphStatus, counts: GraphCounts, more: dict[Field[Any], Any]) -> datetime:
    """Write the graph's row; returns the time of the transaction."""
    row: dict[Field[Any], Any] = {
        GraphRecord.status: status,
        GraphRecord.status_before: None,
        GraphRecord.node_count: counts.nodes,
        GraphRecord.edge_count: counts.edges,
        GraphRecord.cluster_count: counts.clusters,
        GraphRecord.updated_at: fn.now(),
        **more,
    }
    new: dict[Field[Any], Any] = {GraphRecord.user_id: user_id}
    upsert = GraphRecord.insert(new | row).on_conflict(conflict_target=[GraphRecord.user_id], update=row)
    ((now,),) = upsert.returning(GraphRecord.updated_at).tuples().execute()
    return cast("datetime", now)


def _copy(table: type[PartRecord], columns: Sequence[str], user_id: str, rows: Iterable[tuple[object, ...]]) -> int:
    return copy_rows(table, ("user_id", *columns), ((user_id, *row) for row in rows))


def _upsert(
    table: type[PartRecord],
    key: Sequence[str],
    user_id: str,
    rows: Sequence[NodeRow | EdgeRow | ClusterRow | SubclusterRow],
    *,
    keep_if_missing: bool = False,
) -> int:
    """Insert rows; update those whose key is stored.

    Parameters:
      keep_if_missing: leave stored values where a row has none, and rows as they are that would not change.

    Returns how many rows were inserted and updated.
    """
    if not rows:
        return 0
    names = rows[0]._fields
    fields = _fields(table, names)
    new_value = _new_or_stored if keep_if_missing else _new
    new = {field: new_value(field) for field in fields if field.name not in key}
    changes = NodeList((Tuple(*new), SQL("IS DISTINCT FROM"), Tuple(*new.values())))
    updated_at = table._meta.fields.get("updated_at")
    written = 0
    for some in chunked(rows, INSERT_ROWS):
        values = [(user_id, *(map(_now_if_missing, names, row) if keep_if_missing else row)) for row in some]
        insert = table.insert_many(values, fields=[table.user_id, *fields])
        upsert = insert.on_conflict(
            conflict_target=["user_id", *key],
            update=new | ({updated_at: _new(updated_at)} if updated_at else {}),
            where=changes if keep_if_missing else None,
        )
        written += upsert.as_rowcount().execute()
    return written


def _now_if_missing(name: str, value: Any) -> Any:
    return fn.now() if value is None and name in TIME_COLUMNS else value


def _new(field: Field[Any]) -> Any:
    return getattr(EXCLUDED, field.column_name)


def _new_or_stored(field: Field[Any]) -> Any:
    value = _new(field)
    stored: Any = field
    match field:
        case TextField():
            value = fn.NULLIF(value, "")
        case JsonField():
            value = fn.NULLIF(fn.NULLIF(value, SQL("'[]'::jsonb")), SQL("'{}'::jsonb"))
        case DateTimeTZField() if field.name in TIME_COLUMNS:
            value = fn.NULLIF(value, fn.now())
    if field.model is NodeRecord and field.name in CLUSTER_COLUMNS:
        given_cluster = fn.NULLIF(EXCLUDED.cluster_id, "")
        stays = given_cluster.is_null() | (given_cluster == NodeRecord.cluster_id)
        stored = Case(None, [(stays, field)])
    return fn.COALESCE(value, stored)


def _delete_all(table: type[PartRecord], user_id: str) -> None:
    table.delete().where(table.user_id == user_id).execute()


def _delete_parts(table: type[PartRecord], user_id: str, ids: Sequence[str] | Sequence[int]) -> int:
    deleted: int = 0
    if ids:
        deleted = table.delete().where(table.user_id == user_id, table._meta.fields["id"].in_(ids)).execute()
    return deleted


def _count_clusters(user_id: str) -> None:
    database.execute_sql(
        """
        WITH sizes AS (
            SELECT cluster_id, count(*) AS size FROM graph_nodes WHERE user_id = %(user_id)s GROUP BY cluster_id
        )
        UPDATE graph_clusters
        SET size = COALESCE((SELECT sizes.size FROM sizes WHERE sizes.cluster_id = graph_clusters.id), 0)
        WHERE user_id = %(user_id)s
        """,
        {"user_id": user_id},
    )


def _stored(table: type[PartRecord], kind: type[Row], user_id: str) -> Iterator[Row]:
    return map(kind._make, _rows(table, user_id, kind._fields))


def _rows(table: type[PartRecord], user_id: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    query = table.select(*_fields(table, columns)).where(table.user_id == user_id)
    # psycopg2 has converted each value: peewee would look at each once more, which takes as long as reading it.
    rows: Iterator[tuple[Any, ...]] = iter(database.execute_sql(*query.sql()))
    return rows


def _fields(table: type[PartRecord], names: Sequence[str]) -> list[Field[Any]]:
    return [table._meta.fields[name] for name in names]
