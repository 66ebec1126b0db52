"""Knowledge graphs of users: replaced as a whole, or changed in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import zip_longest
from struct import pack
from typing import Any, NamedTuple, TypeVar

import psycopg2
from peewee import (
    EXCLUDED,
    SQL,
    BooleanField,
    Case,
    Cast,
    CompositeKey,
    DoubleField,
    Entity,
    Field,
    IntegerField,
    ModelInsert,
    NodeList,
    Select,
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
    GraphRows,
    NodeRow,
    SubclusterRow,
)
from graphnode.rules.source_types import RAW_FORMAT
from graphnode.steps import is_step
from graphnode.storage.database import NEWEST_BELIEVED, Bound, JsonField, Record, copy_binary, copy_rows, database
from graphnode.storage.statements import Statement, given, given_json, run

Row = TypeVar("Row", NodeRow, EdgeRow, ClusterRow, SubclusterRow)

#: The largest share of a graph that may differ from the stored one for writing only the differences.
MOST_CHANGED = 0.4

#: Columns of a node that describe its cluster. They are not kept when the node moves to another cluster.
CLUSTER_COLUMNS = ("cluster_name", "cluster_confidence")

#: Columns of a node that have a time, whether or not a document gives one.
TIME_COLUMNS = ("created_at", "updated_at")

#: Graphs with more edges get new query plans, which take a millisecond.
LARGE_GRAPH = 1000

#: The most rows of each part of a graph that one INSERT writes.
WRITTEN_AT_ONCE = 1000

USER = given("user_id")


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
    found = NEWER_SOURCE_TIMESTAMP(user_id=user_id, timestamp=timestamp).fetchone()
    return found[0] if found else None


@is_step("graph")
def replace_graph(user_id: str, rows: GraphRows, *, source_timestamp: datetime) -> None:
    """Replace the user's graph; its embeddings are deleted, and its status is CREATED.

    Nodes get the times that `with_times` says. Edges that are written have the current time.

    Parameters:
      rows: the new graph. Every ID in it is unique.
      source_timestamp: when the AI server sent it.
    """
    counts = GraphCounts(len(rows.nodes), len(rows.edges), len(rows.clusters))
    row = {"generated_at": rows.generated_at, "source_timestamp": source_timestamp, "metadata": rows.metadata}
    ((now,),) = STORE_GRAPH(user_id=user_id, **counts._asdict(), **row)
    stored = list(map(with_json_as_text, _stored(NodeRecord, NodeRow, user_id)))
    rows = rows._replace(nodes=with_times(rows.nodes, stored, now=now))
    if not stored or (nodes := difference(stored, rows.nodes)).share > MOST_CHANGED:
        _rewrite(user_id, rows)
        return
    edges = difference(_stored(EdgeRecord, EdgeRow, user_id), rows.edges, key=2)
    if edges.share > MOST_CHANGED:
        _rewrite(user_id, rows)
        return
    clusters = difference(_stored(ClusterRecord, ClusterRow, user_id), rows.clusters)
    subclusters = difference(_stored(SubclusterRecord, SubclusterRow, user_id), rows.subclusters)
    if any(part.share for part in (nodes, edges, clusters, subclusters)):
        _update(user_id, rows, nodes, edges, clusters)
    else:
        DELETE_ALL[EmbeddingRecord](user_id=user_id)


def _rewrite(user_id: str, rows: GraphRows) -> None:
    """Delete the stored graph and write the new one: for a first graph, or one that differs much."""
    run(
        *_plans_anew(rows),
        MOVE_CONTENT_TIME.bind(user_id=user_id),
        *(delete_all.bind(user_id=user_id) for delete_all in DELETE_ALL.values()),
    )
    _copy(ClusterRecord, ClusterRow._fields, user_id, rows.clusters)
    _copy(NodeRecord, NodeRow._fields, user_id, rows.nodes)
    _copy(EdgeRecord, EdgeRow._fields, user_id, rows.edges)
    _copy(SubclusterRecord, SubclusterRow._fields, user_id, rows.subclusters)


def _update(
    user_id: str,
    rows: GraphRows,
    nodes: Difference[NodeRow],
    edges: Difference[EdgeRow],
    clusters: Difference[ClusterRow],
) -> None:
    """Write only the differences: fewer foreign keys to check (two for each edge), and fewer dead rows."""
    nodes_now = {node.id for node in rows.nodes}
    clusters_now = {cluster.id for cluster in rows.clusters}
    statements = [
        *_plans_anew(rows),
        MOVE_CONTENT_TIME.bind(user_id=user_id),
        DELETE_ALL[EmbeddingRecord].bind(user_id=user_id),
        DELETE_ALL[SubclusterRecord].bind(user_id=user_id),
        DELETE_EDGES.bind(
            user_id=user_id,
            sources=[source for source, _ in edges.stale],
            targets=[target for _, target in edges.stale],
        ),
        DELETE_NODES.bind(user_id=user_id, ids=[node_id for node_id in nodes.stale if node_id not in nodes_now]),
        DELETE_CLUSTERS.bind(
            user_id=user_id, ids=[cluster_id for cluster_id in clusters.stale if cluster_id not in clusters_now]
        ),
    ]
    for some_nodes, some_clusters in zip_longest(
        chunked(nodes.fresh, WRITTEN_AT_ONCE), chunked(clusters.fresh, WRITTEN_AT_ONCE), fillvalue=()
    ):
        statements += [
            UPSERT_CLUSTERS.bind(user_id=user_id, rows=[cluster._asdict() for cluster in some_clusters]),
            UPSERT_NODES.bind(user_id=user_id, rows=[node._asdict() for node in some_nodes]),
        ]
        run(*statements)
        statements.clear()
    if statements:
        run(*statements)
    _copy(EdgeRecord, EdgeRow._fields, user_id, edges.fresh)
    _copy(SubclusterRecord, SubclusterRow._fields, user_id, rows.subclusters)


def _plans_anew(rows: GraphRows) -> list[Bound]:
    """Make PostgreSQL plan its foreign key checks again if the graph is large.

    A session keeps the plans that it made while the tables were small. With such a plan the check of each edge may read
    all nodes of the user, and 100,000 edges take minutes. The checks come at commit.
    """
    return [Bound("DISCARD PLANS", [])] if len(rows.edges) > LARGE_GRAPH else []


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
    found = EMBEDDING_WIDTH(user_id=user_id).fetchone()
    return found[0] if found else None


def graph_counts(user_id: str) -> GraphCounts:
    """The size of the user's graph, counted in its tables."""
    return GraphCounts(
        *(table.select().where(table.user_id == user_id).count() for table in (NodeRecord, EdgeRecord, ClusterRecord))
    )


def sources(user_id: str) -> dict[tuple[str | None, str | None], int]:
    """Number of the user's nodes by source type and raw format."""
    return {(source_type, name): nodes for source_type, name, nodes in SOURCES(user_id=user_id)}


def node_ids(user_id: str) -> dict[str, int]:
    """The user's node IDs by original ID."""
    query = NodeRecord.select(NodeRecord.orig_id, NodeRecord.id).where(NodeRecord.user_id == user_id)
    return dict(query.tuples().iterator())


def _copy(table: type[PartRecord], columns: Sequence[str], user_id: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        copy_rows(table, ("user_id", *columns), ((user_id, *row) for row in rows))


def upsert(table: type[PartRecord], kind: type[Row], name: str, *, keep_if_missing: bool = False) -> ModelInsert:
    """An upsert of rows.

    Parameters:
      kind: their type.
      name: what a call names the rows, each of which is an object.
      keep_if_missing: leave stored values where a row has none, and rows as they are that would not change. A new row
        without times has the current one, and a new cluster the size 0.
    """
    key: list[str] = [field.name for field in table._meta.get_primary_keys()]
    fields: list[Field[Any]] = fields_of(table, kind._fields)
    new_value = _new_or_stored if keep_if_missing else _new
    values: dict[Field[Any], Any] = {field: Entity("given", field.column_name) for field in fields}
    changes = {field: new_value(field) for field in fields if field.name not in key}
    if keep_if_missing:
        for field in fields:
            if field.name in TIME_COLUMNS:
                values[field] = fn.COALESCE(values[field], fn.now())
        if table is ClusterRecord:
            values[ClusterRecord.size] = 0
            del changes[ClusterRecord.size]
    differs = NodeList((Tuple(*changes), SQL("IS DISTINCT FROM"), Tuple(*changes.values())))
    if updated_at := table._meta.fields.get("updated_at"):
        changes[updated_at] = _new(updated_at)
    query = Select([rows_given(table, name)], [USER, *values.values()])
    return table.insert_from(query, [table.user_id, *fields]).on_conflict(
        conflict_target=key, update=changes, where=differs if keep_if_missing else None
    )


def pairs_given(*names: str) -> Select:
    """Rows of integers: the first of each list that a call gives, then the second of each, and so on."""
    return Select(columns=[fn.unnest(Cast(given(name), "integer[]")).alias(name) for name in names])


def rows_given(table: type[PartRecord], name: str) -> NodeList:
    """The rows that a call gives, as a source named `given`."""
    row = NodeList((SQL("NULL::"), Entity(table._meta.table_name)), glue="")
    return NodeList((fn.json_populate_recordset(row, Cast(given_json(name), "json")), SQL("AS given")))


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


def _stored(table: type[PartRecord], kind: type[Row], user_id: str) -> Iterator[Row]:
    return map(kind._make, READ_ALL[table](user_id=user_id))


def fields_of(table: type[PartRecord], names: Sequence[str]) -> list[Field[Any]]:
    return [table._meta.fields[name] for name in names]


def _store_graph() -> Statement:
    row: dict[Field[Any], Any] = {
        GraphRecord.status: GraphStatus.CREATED,
        GraphRecord.status_before: None,
        GraphRecord.node_count: given("nodes"),
        GraphRecord.edge_count: given("edges"),
        GraphRecord.cluster_count: given("clusters"),
        GraphRecord.generated_at: given("generated_at"),
        GraphRecord.source_timestamp: given("source_timestamp"),
        GraphRecord.metadata: given_json("metadata"),
        GraphRecord.updated_at: fn.now(),
    }
    return Statement(
        GraphRecord.insert({GraphRecord.user_id: USER, **row})
        .on_conflict(conflict_target=[GraphRecord.user_id], update=row)
        .returning(GraphRecord.updated_at)
    )


def _newer_source_timestamp() -> Statement:
    sent_at = GraphRecord.source_timestamp
    return Statement(
        GraphRecord.select(sent_at).where(
            GraphRecord.user_id == USER, sent_at > given("timestamp"), sent_at <= NEWEST_BELIEVED
        )
    )


def _sources() -> Statement:
    raw_format = fn.jsonb_extract_path_text(NodeRecord.metadata, RAW_FORMAT)
    return Statement(
        NodeRecord.select(NodeRecord.source_type, raw_format, fn.COUNT("*"))
        .where(NodeRecord.user_id == USER)
        .group_by(NodeRecord.source_type, raw_format)
    )


def _delete_parts(table: type[PartRecord]) -> Statement:
    return Statement(table.delete().where(table.user_id == USER, table._meta.fields["id"] == fn.ANY(given("ids"))))


NEWER_SOURCE_TIMESTAMP = _newer_source_timestamp()

EMBEDDING_WIDTH = Statement(
    EmbeddingRecord.select(fn.vector_dims(EmbeddingRecord.embedding)).where(EmbeddingRecord.user_id == USER).limit(1)
)

SOURCES = _sources()

#: Writes the graph's row as that of a graph that was sent as a whole; returns the time of the transaction.
STORE_GRAPH = _store_graph()

MOVE_CONTENT_TIME = Statement(
    GraphRecord.update({GraphRecord.content_updated_at: fn.now()}).where(GraphRecord.user_id == USER)
)

READ_ALL: dict[type[PartRecord], Statement] = {
    table: Statement(table.select(*fields_of(table, kind._fields)).where(table.user_id == USER))
    for table, kind in (
        (NodeRecord, NodeRow),
        (EdgeRecord, EdgeRow),
        (ClusterRecord, ClusterRow),
        (SubclusterRecord, SubclusterRow),
    )
}

DELETE_ALL = {table: Statement(table.delete().where(table.user_id == USER)) for table in PARTS}

DELETE_EDGES = Statement(
    EdgeRecord.delete().where(
        EdgeRecord.user_id == USER, Tuple(EdgeRecord.source, EdgeRecord.target).in_(pairs_given("sources", "targets"))
    )
)
DELETE_NODES = _delete_parts(NodeRecord)
DELETE_CLUSTERS = _delete_parts(ClusterRecord)

UPSERT_NODES = Statement(upsert(NodeRecord, NodeRow, "rows"))
UPSERT_CLUSTERS = Statement(upsert(ClusterRecord, ClusterRow, "rows"))
