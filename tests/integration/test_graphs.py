"""Graphs, replaced as a whole and changed in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import pytest

from graphnode.errors import InvalidDocument, RefusedByDatabase
from graphnode.rules.features import pack
from graphnode.rules.rows import (
    ClusterRow,
    EdgeRow,
    GraphChanges,
    GraphRows,
    NodeRow,
    SubclusterRow,
)
from graphnode.storage import graph_merges, graphs
from graphnode.storage.database import close_database, database, open_database, user_transaction
from graphnode.storage.graphs import (
    ClusterRecord,
    EdgeRecord,
    EmbeddingRecord,
    GraphCounts,
    GraphRecord,
    NodeRecord,
    PartRecord,
    SubclusterRecord,
)
from graphnode.storage.schema import migrate

Row = TypeVar("Row", bound=NamedTuple)

MORNING = datetime(2026, 5, 24, 6, tzinfo=UTC)
NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)
EVENING = datetime(2026, 5, 24, 18, tzinfo=UTC)

TEA = NodeRow(
    id=0,
    orig_id="conv-tea",
    cluster_id="c1",
    cluster_name="Tee & Kaffee",
    cluster_confidence=0.9,
    source_type="chat",
    num_messages=12,
    keywords=[{"term": "お茶", "score": 0.8}],
    timestamp=NOON,
    metadata={"path": "C:\\tea\tpot"},
    title="Tee\tund Kaffee",
    label="Tee",
    summary="Was man morgens trinkt.",
    created_at=MORNING,
    updated_at=NOON,
)
COFFEE = TEA._replace(id=1, orig_id="conv-coffee", keywords=[], timestamp=None, metadata={}, source_type=None)
GRAPHS = TEA._replace(id=2, orig_id="note-graphs", cluster_id="c2", cluster_name="Graphes", source_type="markdown")
MILK = TEA._replace(id=3, orig_id="conv-milk")
DRINKS = ClusterRow(id="c1", name="Tee & Kaffee", description="Was man trinkt", size=2, themes=["warm"])
MATHS = ClusterRow(id="c2", name="Graphes", description=None, size=1, themes=[])
HOT = SubclusterRow(
    id="s1",
    cluster_id="c1",
    node_ids=[0, 1],
    representative_node_id=0,
    size=2,
    density=0.5,
    top_keywords=["heiß"],
    internal_edges=1,
    cohesion_score=0.25,
)
TEA_COFFEE = EdgeRow(source=0, target=1, weight=0.75, type="hard", intra_cluster=True, relation="gehört zu")
COFFEE_GRAPHS = EdgeRow(source=1, target=2, weight=None, type="insight", intra_cluster=False)
GRAPH = GraphRows(
    nodes=[TEA, COFFEE, GRAPHS],
    edges=[TEA_COFFEE, COFFEE_GRAPHS],
    clusters=[DRINKS, MATHS],
    subclusters=[HOT],
    generated_at=NOON,
    metadata={"language": "de"},
)
NO_CHANGES = GraphChanges(nodes=[], edges=[], clusters=[], emptied_clusters=[], subclusters=[], emptied_subclusters=[])


def without_values(node: NodeRow) -> NodeRow:
    """A node of a batch that gives no values."""
    return NodeRow(node.id, node.orig_id, None, None, None, None, None, [], None, {})


def rows(table: type[PartRecord], row: type[Row], user_id: str = "ada") -> list[Row]:
    fields = [table._meta.fields[name] for name in row._fields]
    query = table.select(*fields).where(table.user_id == user_id).order_by(*fields[:2])
    return [row._make(values) for values in query.tuples().iterator()]


def graph_row() -> GraphRecord:
    return GraphRecord.get_by_id("ada")


def undated(*nodes: NodeRow) -> list[NodeRow]:
    """Nodes of a document that gives no times."""
    return [node._replace(created_at=None, updated_at=None) for node in nodes]


def node_times() -> dict[str, tuple[datetime | None, datetime | None]]:
    return {node.orig_id: (node.created_at, node.updated_at) for node in rows(NodeRecord, NodeRow)}


def edge_times() -> dict[tuple[int, int], tuple[datetime | None, datetime | None]]:
    return {(edge.source, edge.target): (edge.created_at, edge.updated_at) for edge in EdgeRecord.select()}


def replace(graph: GraphRows) -> datetime:
    """Replace Ada's graph; the time of the transaction."""
    with user_transaction("ada"):
        graphs.replace_graph("ada", graph, source_timestamp=NOON)
    return content_time()


def content_time() -> datetime:
    found = graph_row().content_updated_at
    assert isinstance(found, datetime)
    return found


@pytest.fixture
def stored_graph(storage: None) -> None:
    """Ada has the graph above, with two embeddings."""
    graphs.replace_graph("ada", GRAPH, source_timestamp=NOON)
    graphs.store_embeddings("ada", [(0, pack([1.0, 0.0])), (1, pack([0.0, 1.0]))])


@pytest.mark.usefixtures("storage")
class TestReplaceGraph:
    @pytest.mark.usefixtures("stored_graph")
    def test_stores_every_row(self) -> None:
        assert rows(NodeRecord, NodeRow) == GRAPH.nodes
        assert rows(EdgeRecord, EdgeRow) == GRAPH.edges
        assert rows(ClusterRecord, ClusterRow) == GRAPH.clusters
        assert rows(SubclusterRecord, SubclusterRow) == GRAPH.subclusters

    @pytest.mark.usefixtures("stored_graph")
    def test_writes_the_row_of_the_graph(self) -> None:
        graph = graph_row()
        assert (graph.status, graph.status_before) == ("CREATED", None)
        assert (graph.node_count, graph.edge_count, graph.cluster_count) == (3, 2, 2)
        assert (graph.generated_at, graph.source_timestamp, graph.metadata) == (NOON, NOON, {"language": "de"})

    @pytest.mark.usefixtures("stored_graph")
    def test_leaves_nothing_of_the_earlier_graph(self) -> None:
        GraphRecord.update(status="CREATING", status_before="UPDATED").execute()
        smaller = GraphRows([GRAPHS._replace(id=0)], [], [MATHS], [], None, {})

        graphs.replace_graph("ada", smaller, source_timestamp=EVENING)

        assert rows(NodeRecord, NodeRow) == smaller.nodes
        assert rows(ClusterRecord, ClusterRow) == [MATHS]
        assert rows(EdgeRecord, EdgeRow) == []
        assert rows(SubclusterRecord, SubclusterRow) == []
        assert EmbeddingRecord.select().count() == 0
        graph = graph_row()
        assert (graph.status, graph.status_before, graph.node_count) == ("CREATED", None, 1)
        assert (graph.generated_at, graph.source_timestamp, graph.metadata) == (None, EVENING, {})

    @pytest.mark.usefixtures("stored_graph")
    def test_leaves_other_users_graphs_alone(self) -> None:
        graphs.replace_graph("grace", GraphRows([], [], [], [], None, {}), source_timestamp=NOON)

        assert graphs.graph_counts("ada") == (3, 2, 2)
        assert EmbeddingRecord.select().where(EmbeddingRecord.user_id == "ada").count() == 2


@pytest.mark.usefixtures("storage")
class TestNewerSourceTimestamp:
    def test_a_user_without_a_graph_has_none(self) -> None:
        assert graphs.newer_source_timestamp("ada", NOON) is None

    @pytest.mark.usefixtures("stored_graph")
    def test_is_the_stored_one_if_that_is_newer(self) -> None:
        assert graphs.newer_source_timestamp("ada", NOON - timedelta(microseconds=1)) == NOON
        assert graphs.newer_source_timestamp("ada", NOON) is None

    @pytest.mark.usefixtures("stored_graph")
    @pytest.mark.parametrize(("ahead", "counts"), [(timedelta(minutes=4), True), (timedelta(minutes=6), False)])
    def test_a_stored_one_in_the_future_loses(self, ahead: timedelta, counts: bool) -> None:
        stored = datetime.now(UTC) + ahead
        GraphRecord.update(source_timestamp=stored).execute()

        assert graphs.newer_source_timestamp("ada", NOON) == (stored if counts else None)


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize("most_changed", [0.0, 2.0], ids=["rewritten", "only differences"])
@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(GRAPH, id="the same"),
        pytest.param(GRAPH._replace(nodes=[], edges=[], clusters=[], subclusters=[]), id="an empty one"),
        pytest.param(
            GRAPH._replace(nodes=[TEA._replace(orig_id=COFFEE.orig_id), COFFEE._replace(orig_id=TEA.orig_id), GRAPHS]),
            id="two nodes exchange their sources",
        ),
        pytest.param(
            GraphRows([GRAPHS], [], [MATHS], [], generated_at=None, metadata={}),
            id="nodes, edges and a cluster go",
        ),
        pytest.param(
            GRAPH._replace(
                nodes=[TEA, COFFEE, GRAPHS, TEA._replace(id=9, orig_id="new", cluster_id="c3")],
                edges=[TEA_COFFEE._replace(weight=0.1), EdgeRow(9, 0, 0.5, "insight", False)],
                clusters=[DRINKS._replace(name="Drinks"), MATHS, ClusterRow("c3", None, None, 1, [])],
                subclusters=[HOT._replace(id="s2", node_ids=[1], representative_node_id=1, size=1)],
            ),
            id="some of it is new, some has other values",
        ),
        pytest.param(GRAPH._replace(nodes=[TEA._replace(metadata={"x": True}), COFFEE, GRAPHS]), id="other JSON"),
    ],
)
def test_what_is_stored_is_the_new_graph_whichever_way_it_is_written(
    graph: GraphRows, most_changed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MOST_CHANGED", most_changed)
    first = GRAPH._replace(nodes=[TEA._replace(metadata={"x": 1}), COFFEE, GRAPHS])
    for rows_ in (first, graph):
        with user_transaction("ada"):
            graphs.replace_graph("ada", rows_, source_timestamp=NOON)

    assert rows(NodeRecord, NodeRow) == graph.nodes
    assert sorted(rows(EdgeRecord, EdgeRow)) == sorted(graph.edges)
    assert rows(ClusterRecord, ClusterRow) == graph.clusters
    assert rows(SubclusterRecord, SubclusterRow) == graph.subclusters
    assert graphs.graph_counts("ada") == (len(graph.nodes), len(graph.edges), len(graph.clusters))


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize("most_changed", [0.0, 2.0], ids=["rewritten", "only differences"])
class TestTimesOfANewGraph:
    @pytest.fixture(autouse=True)
    def way(self, most_changed: float, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(graphs, "MOST_CHANGED", most_changed)

    def test_nodes_keep_theirs_whatever_number_they_have_and_change_theirs_with_their_values(self) -> None:
        first = replace(GRAPH._replace(nodes=undated(TEA, COFFEE, GRAPHS)))
        renumbered = [GRAPHS._replace(id=0), TEA._replace(id=2, title="Tea"), COFFEE, MILK._replace(id=9)]
        second = replace(GRAPH._replace(nodes=undated(*renumbered), edges=[], subclusters=[]))

        assert node_times() == {
            "note-graphs": (first, second),
            "conv-tea": (first, second),
            "conv-coffee": (first, first),
            "conv-milk": (second, second),
        }

    def test_a_node_of_an_earlier_release_gets_no_time_at_which_it_was_made(self) -> None:
        replace(GRAPH._replace(nodes=undated(TEA, COFFEE, GRAPHS)))
        NodeRecord.update(created_at=None).where(NodeRecord.id == TEA.id).execute()
        second = replace(GRAPH._replace(nodes=undated(TEA._replace(title="Tea"), COFFEE, GRAPHS)))

        assert node_times()["conv-tea"] == (None, second)

    def test_nodes_have_those_of_the_document(self) -> None:
        replace(GRAPH)
        second = replace(GRAPH._replace(nodes=[TEA._replace(updated_at=EVENING), *undated(COFFEE, GRAPHS)]))

        assert second > EVENING
        assert node_times() == {
            "conv-tea": (MORNING, EVENING),
            "conv-coffee": (MORNING, NOON),
            "note-graphs": (MORNING, NOON),
        }

    def test_what_is_not_there_anymore_is_forgotten(self) -> None:
        first = replace(GRAPH._replace(nodes=undated(TEA, COFFEE, GRAPHS)))
        replace(GRAPH._replace(nodes=undated(TEA, COFFEE), edges=[]))
        third = replace(GRAPH._replace(nodes=undated(TEA, COFFEE, GRAPHS)))

        assert node_times()["conv-tea"] == (first, first)
        assert node_times()["note-graphs"] == (third, third)

    def test_edges_that_are_written_have_the_current_one(self) -> None:
        replace(GRAPH._replace(edges=[COFFEE_GRAPHS]))
        second = replace(GRAPH)

        assert edge_times()[0, 1] == (second, second)

    def test_the_contents_is_the_current_one_if_any_row_is_another(self) -> None:
        others = [
            GRAPH._replace(nodes=[TEA._replace(title="Tea"), COFFEE, GRAPHS]),
            GRAPH._replace(edges=[TEA_COFFEE]),
            GRAPH._replace(clusters=[DRINKS._replace(description="To drink"), MATHS]),
            GRAPH._replace(subclusters=[]),
        ]
        for other in others:
            assert replace(GRAPH) == replace(GRAPH) < replace(other)


def test_rows_of_an_earlier_release_have_no_times_and_those_that_it_writes_have(
    empty_database_url: str, migrate_to_before: Callable[[str], None]
) -> None:
    """The migrations add columns without a value, and a default for new rows."""
    open_database(empty_database_url)
    migrate_to_before("0015_times_and_names")
    insert = """
        INSERT INTO graphs (user_id, status, source_timestamp, updated_at) VALUES ('{0}', 'CREATED', {1}, {2});
        INSERT INTO graph_nodes (user_id, id, orig_id) VALUES ('{0}', 0, 'a'), ('{0}', 1, 'b');
        INSERT INTO graph_edges (user_id, source, target, type, intra_cluster) VALUES ('{0}', 0, 1, 'hard', true);
        INSERT INTO microscope_workspaces (id, user_id) VALUES ('{0}', '{0}');
        INSERT INTO microscope_documents (id, user_id, status) VALUES ('{0}', '{0}', 'PENDING')
        """
    database.execute_sql(insert.format("ada", f"'{NOON}'", f"'{EVENING}'"))
    database.execute_sql(insert.format("ahead", "now() + interval '1 year'", f"'{EVENING}'"))
    database.execute_sql(insert.format("only-added-to", "NULL", f"'{EVENING}'"))
    migrate()
    database.execute_sql(insert.format("new", "NULL", "now()"))

    assert {row.user_id: row.content_updated_at for row in GraphRecord.select()} == {
        "ada": NOON,
        "ahead": EVENING,
        "only-added-to": None,
        "new": None,
    }
    for table in ("graph_nodes", "graph_edges", "microscope_workspaces", "microscope_documents"):
        with_times = f"SELECT DISTINCT user_id, num_nonnulls(created_at, updated_at) FROM {table}"  # noqa: S608
        assert set(database.execute_sql(with_times)) == {("ada", 0), ("ahead", 0), ("only-added-to", 0), ("new", 2)}
    close_database()


def test_a_large_graph_after_small_ones_looks_each_node_up_by_its_id(empty_database_url: str) -> None:
    """With plans from the time of small tables, the check of each edge would read all nodes."""
    open_database(empty_database_url)
    migrate()
    nodes = [TEA._replace(id=number, orig_id=f"conv-{number}") for number in range(1500)]
    edges = [EdgeRow(number, (number + step) % 1500, 0.5, "hard", True) for number in range(1500) for step in (1, 2, 3)]
    large = GraphRows(nodes, edges, [DRINKS], [], generated_at=None, metadata={})
    for number in range(10):
        with user_transaction(f"user-{number}"):
            graphs.replace_graph(f"user-{number}", GRAPH, source_timestamp=NOON)
    with user_transaction("ada"):
        graphs.replace_graph("ada", large, source_timestamp=NOON)

    read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'graph_nodes_has_each_source_once'"
    database.execute_sql("SELECT pg_stat_force_next_flush()")
    (rows_read,) = database.execute_sql(read).fetchone()
    close_database()
    assert rows_read < 10 * len(edges)


@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/New_York"])
def test_a_graph_with_times_at_the_ends_of_the_calendar_can_be_replaced_in_any_zone(
    database_url: str, zone: str
) -> None:
    open_database(f"{database_url}?options=-c%20timezone%3D{zone}")
    ends = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)]
    nodes = [TEA._replace(timestamp=ends[0]), COFFEE._replace(timestamp=ends[1]), GRAPHS]
    for _ in range(2):
        with user_transaction("ada"):
            graphs.replace_graph("ada", GRAPH._replace(nodes=nodes), source_timestamp=NOON)
    close_database()


@pytest.mark.usefixtures("stored_graph")
def test_a_graph_that_cannot_be_replaced_stays_whole() -> None:
    def replace_and_fail() -> None:
        with user_transaction("ada"):
            graphs.replace_graph("ada", GraphRows([], [], [], [], None, {}), source_timestamp=EVENING)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replace_and_fail()

    assert rows(NodeRecord, NodeRow) == GRAPH.nodes
    assert rows(EdgeRecord, EdgeRow) == GRAPH.edges
    assert graph_row().source_timestamp == NOON


@pytest.mark.usefixtures("storage")
class TestStoreEmbeddings:
    def test_streams_them(self) -> None:
        embeddings = ((node_id, pack((node_id / 2, -1.0))) for node_id in range(3))

        with user_transaction("ada"):
            graphs.replace_graph("ada", GRAPH, source_timestamp=NOON)
            assert graphs.store_embeddings("ada", embeddings) == 3
            stored = {row.node_id: list(row.embedding) for row in EmbeddingRecord.select()}

        assert stored == {0: [0.0, -1.0], 1: [0.5, -1.0], 2: [1.0, -1.0]}

    @pytest.mark.parametrize(
        "embeddings",
        [
            pytest.param([(0, [1.0]), (0, [2.0])], id="a node twice"),
            pytest.param([(0, [1.0]), (1, [])], id="an empty one"),
            pytest.param([(0, [1.0]), (1, [float("nan")])], id="not a number"),
            pytest.param([(0, [1.0]), (1, [float("inf")])], id="not finite"),
            pytest.param([(0, [1.0]), (1, [0.5] * 16_001)], id="too wide"),
        ],
    )
    def test_what_pgvector_refuses_costs_the_embeddings_alone(self, embeddings: list[tuple[int, list[float]]]) -> None:
        with user_transaction("grace"):
            graphs.replace_graph("grace", GRAPH, source_timestamp=NOON)
            with pytest.raises(RefusedByDatabase, match="embeddings"):
                graphs.store_embeddings("grace", [(node_id, pack(numbers)) for node_id, numbers in embeddings])

        assert graphs.graph_counts("grace") == (3, 2, 2)
        assert EmbeddingRecord.select().count() == 0

    def test_a_failing_source_costs_the_embeddings_alone(self) -> None:
        def broken() -> Iterator[tuple[int, bytes]]:
            yield 0, pack([1.0])
            raise InvalidDocument("embeddings[1]: not a number")

        with user_transaction("grace"):
            graphs.replace_graph("grace", GRAPH, source_timestamp=NOON)
            with pytest.raises(InvalidDocument, match=r"embeddings\[1\]"):
                graphs.store_embeddings("grace", broken())

        assert graphs.graph_counts("grace") == (3, 2, 2)
        assert EmbeddingRecord.select().count() == 0


@pytest.mark.usefixtures("storage")
class TestApplyChanges:
    def test_makes_a_graph_for_a_user_who_has_none(self) -> None:
        changes = NO_CHANGES._replace(nodes=[TEA], clusters=[DRINKS])

        assert graph_merges.apply_changes("ada", changes) == GraphCounts(nodes=1, edges=0, clusters=1)

        assert rows(NodeRecord, NodeRow) == [TEA]
        graph = graph_row()
        assert (graph.status, graph.node_count, graph.source_timestamp) == ("UPDATED", 1, None)

    @pytest.mark.usefixtures("stored_graph")
    def test_adds_what_is_new(self) -> None:
        milk = MILK._replace(cluster_id="c3", cluster_name=None)
        edge = EdgeRow(source=3, target=0, weight=0.5, type="insight", intra_cluster=False)
        dairy = ClusterRow(id="c3", name=None, description=None, size=99, themes=[])

        counts = graph_merges.apply_changes("ada", NO_CHANGES._replace(nodes=[milk], edges=[edge], clusters=[dairy]))

        assert counts == GraphCounts(nodes=4, edges=3, clusters=3)
        assert rows(NodeRecord, NodeRow) == [*GRAPH.nodes, milk]
        assert rows(EdgeRecord, EdgeRow) == [*GRAPH.edges, edge]
        assert rows(ClusterRecord, ClusterRow) == [*GRAPH.clusters, dairy._replace(size=1)]
        graph = graph_row()
        assert (graph.status, graph.node_count, graph.edge_count, graph.cluster_count) == ("UPDATED", 4, 3, 3)
        assert (graph.source_timestamp, graph.generated_at, graph.metadata) == (NOON, NOON, {"language": "de"})

    @pytest.mark.usefixtures("stored_graph")
    def test_new_values_replace_stored_ones(self) -> None:
        moved = TEA._replace(
            cluster_id="c2", cluster_name="Graphes", num_messages=13, keywords=["Tee"], metadata={"new": True}
        )
        firmer = TEA_COFFEE._replace(weight=0.9, type="insight", intra_cluster=False)
        renamed = MATHS._replace(name="Graph theory", themes=["trees"])

        graph_merges.apply_changes("ada", NO_CHANGES._replace(nodes=[moved], edges=[firmer], clusters=[renamed]))

        assert rows(NodeRecord, NodeRow) == [moved, COFFEE, GRAPHS]
        assert rows(EdgeRecord, EdgeRow) == [firmer, COFFEE_GRAPHS]
        assert rows(ClusterRecord, ClusterRow) == [DRINKS._replace(size=1), renamed._replace(size=2)]

    @pytest.mark.usefixtures("stored_graph")
    def test_missing_values_keep_the_stored_values(self) -> None:
        nothing = ClusterRow(id="c1", name="", description=None, size=0, themes=[])

        graph_merges.apply_changes(
            "ada",
            NO_CHANGES._replace(
                nodes=[without_values(TEA)], edges=[TEA_COFFEE._replace(weight=None)], clusters=[nothing]
            ),
        )

        assert rows(NodeRecord, NodeRow) == GRAPH.nodes
        assert rows(EdgeRecord, EdgeRow) == GRAPH.edges
        assert rows(ClusterRecord, ClusterRow) == GRAPH.clusters

    @pytest.mark.usefixtures("stored_graph")
    def test_a_node_that_moves_takes_neither_name_nor_confidence_of_its_old_cluster_along(self) -> None:
        moved = without_values(TEA)._replace(cluster_id="c3", updated_at=NOON)
        nameless = ClusterRow(id="c3", name=None, description=None, size=1, themes=[])

        graph_merges.apply_changes("ada", NO_CHANGES._replace(nodes=[moved], clusters=[nameless]))

        assert rows(NodeRecord, NodeRow)[0] == TEA._replace(cluster_id="c3", cluster_name=None, cluster_confidence=None)

    @pytest.mark.usefixtures("stored_graph")
    @pytest.mark.parametrize(
        "changes",
        [
            NO_CHANGES,
            NO_CHANGES._replace(nodes=[without_values(TEA), COFFEE], edges=[TEA_COFFEE, COFFEE_GRAPHS]),
            NO_CHANGES._replace(nodes=[TEA._replace(created_at=None, updated_at=NOON)], clusters=[DRINKS]),
            NO_CHANGES._replace(edges=[TEA_COFFEE._replace(weight=None, relation=None)], emptied_clusters=["c9"]),
        ],
        ids=["none", "nodes and edges", "a cluster and a time", "what is not there"],
    )
    def test_what_changes_nothing_leaves_every_time_as_it_is(self, changes: GraphChanges) -> None:
        before = content_time(), node_times(), edge_times(), graph_row().updated_at

        graph_merges.apply_changes("ada", changes)

        assert (content_time(), node_times(), edge_times()) == before[:3]
        assert graph_row().updated_at > before[3]

    @pytest.mark.usefixtures("stored_graph")
    @pytest.mark.parametrize(
        "changes",
        [
            NO_CHANGES._replace(nodes=[MILK]),
            NO_CHANGES._replace(nodes=[without_values(TEA)._replace(num_messages=13)]),
            NO_CHANGES._replace(nodes=[without_values(TEA)._replace(updated_at=EVENING)]),
            NO_CHANGES._replace(edges=[TEA_COFFEE._replace(weight=0.5)]),
            NO_CHANGES._replace(edges=[COFFEE_GRAPHS._replace(relation="explains")]),
            NO_CHANGES._replace(subclusters=[HOT._replace(density=0.75)]),
            NO_CHANGES._replace(emptied_subclusters=["s1"]),
            NO_CHANGES._replace(clusters=[ClusterRow("c9", None, None, 0, [])]),
            NO_CHANGES._replace(nodes=[GRAPHS._replace(cluster_id="c1")], emptied_clusters=["c2"]),
        ],
        ids=lambda changes: ", ".join(name for name, part in changes._asdict().items() if part),
    )
    def test_any_change_moves_the_time_of_the_content(self, changes: GraphChanges) -> None:
        before = content_time()

        graph_merges.apply_changes("ada", changes)

        assert content_time() > before

    @pytest.mark.usefixtures("stored_graph")
    def test_only_rows_with_new_values_were_updated_now(self) -> None:
        edges_before = edge_times()
        milk, tea, coffee = undated(MILK, TEA._replace(num_messages=13), COFFEE)
        firmer = TEA_COFFEE._replace(weight=0.9)

        with user_transaction("ada"):
            graph_merges.apply_changes(
                "ada", NO_CHANGES._replace(nodes=[milk, tea, coffee], edges=[firmer, COFFEE_GRAPHS])
            )

        now = content_time()
        assert node_times() == {
            "conv-milk": (now, now),
            "conv-tea": (MORNING, now),
            "conv-coffee": (MORNING, NOON),
            "note-graphs": (MORNING, NOON),
        }
        assert edge_times() == {(0, 1): (edges_before[0, 1][0], now), (1, 2): edges_before[1, 2]}

    def test_a_batch_without_content_makes_a_graph_whose_content_never_changed(self) -> None:
        graph_merges.apply_changes("ada", NO_CHANGES)

        assert graph_row().content_updated_at is None

    @pytest.mark.usefixtures("stored_graph")
    def test_a_node_that_stays_keeps_name_and_confidence_of_its_cluster(self) -> None:
        graph_merges.apply_changes("ada", NO_CHANGES._replace(nodes=[without_values(TEA)._replace(cluster_id="c1")]))

        assert rows(NodeRecord, NodeRow) == GRAPH.nodes

    @pytest.mark.usefixtures("stored_graph")
    def test_emptied_clusters_and_subclusters_go(self) -> None:
        moved = without_values(GRAPHS)._replace(cluster_id="c1")
        changes = NO_CHANGES._replace(nodes=[moved], emptied_clusters=["c2"], emptied_subclusters=["s1"])

        assert graph_merges.apply_changes("ada", changes).clusters == 1

        assert rows(ClusterRecord, ClusterRow) == [DRINKS._replace(size=3)]
        assert rows(SubclusterRecord, SubclusterRow) == []

    @pytest.mark.usefixtures("stored_graph")
    def test_a_subcluster_that_lost_members_has_exactly_its_new_values(self) -> None:
        smaller = HOT._replace(node_ids=[1], representative_node_id=None, size=1, density=None)

        graph_merges.apply_changes("ada", NO_CHANGES._replace(subclusters=[smaller]))

        assert rows(SubclusterRecord, SubclusterRow) == [smaller]

    @pytest.mark.usefixtures("stored_graph")
    def test_changes_more_rows_than_one_statement_takes(self) -> None:
        count = graphs.WRITTEN_AT_ONCE + 1
        many = [TEA._replace(id=number, orig_id=f"conv-{number}") for number in range(10, 10 + count)]

        assert graph_merges.apply_changes("ada", NO_CHANGES._replace(nodes=many)).nodes == 3 + count
        assert ClusterRecord.get(ClusterRecord.id == "c1").size == 2 + count

    @pytest.mark.usefixtures("stored_graph")
    def test_leaves_other_users_graphs_alone(self) -> None:
        graph_merges.apply_changes(
            "grace", NO_CHANGES._replace(nodes=[GRAPHS], clusters=[MATHS], emptied_clusters=["c1"])
        )

        assert rows(NodeRecord, NodeRow) == GRAPH.nodes
        assert rows(ClusterRecord, ClusterRow) == GRAPH.clusters
        assert rows(NodeRecord, NodeRow, "grace") == [GRAPHS]


@pytest.mark.usefixtures("stored_graph")
class TestLookingUp:
    def test_counts_what_is_stored(self) -> None:
        assert graphs.graph_counts("ada") == GraphCounts(nodes=3, edges=2, clusters=2)
        assert graphs.graph_counts("grace") == GraphCounts(nodes=0, edges=0, clusters=0)

    def test_counts_nodes_by_type_and_format_of_source(self) -> None:
        values = {"source_type": "file", "metadata": {"ai_raw_source_type": "docx", "pages": 3}}
        NodeRecord.update(**values).where(NodeRecord.id == 2).execute()

        assert graphs.sources("ada") == {("chat", None): 1, (None, None): 1, ("file", "docx"): 1}
        assert graphs.sources("grace") == {}

    def test_knows_nodes_by_original_id(self) -> None:
        assert graphs.node_ids("ada") == {"conv-tea": 0, "conv-coffee": 1, "note-graphs": 2}
        assert graphs.node_ids("grace") == {}
