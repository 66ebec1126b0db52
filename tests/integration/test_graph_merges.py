"""What an add-node result reads of a graph, and what it writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from graphnode.actors.add_node import merged
from graphnode.contract.decoding import decode_add_node_batch
from graphnode.contract.documents import AddNodeBatch
from graphnode.contract.original_ids import file_id
from graphnode.contract.values import MAX_INTEGER
from graphnode.rules.batch_merge import merge_batch
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
from graphnode.storage import graph_merges, graphs
from graphnode.storage.database import close_database, database, open_database, user_transaction
from graphnode.storage.graph_merges import LONGER_NAMES
from graphnode.storage.graphs import ClusterRecord, EdgeRecord, NodeRecord, PartRecord, SubclusterRecord
from graphnode.storage.schema import migrate
from tests.chaos.model.tables import faults

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)
ULID = "01KT1AJS0YPC4C3805641TKH5E"

pytestmark = pytest.mark.usefixtures("storage")

#: Original IDs as any version stored them, with files by longer names.
STORED_IDS = ("a", "b", "c", "d", "7", "uf-x", "uf-x_report.pdf", "pdf_uf-x_old", "uf-y_", f"pdf_{ULID}", f"{ULID}_n_m")

#: IDs in a batch: stored ones, other spellings of them, new ones, and none.
BATCH_IDS = (*STORED_IDS, "src0_a", "ada_b", "ada_src1_uf-x_new.pdf", "doc_uf-y", ULID, "new", "src0_new", "newer", "")

#: What edges call nodes: IDs, integers, digits.
ENDS = (*BATCH_IDS, "0", "3", "12", 0, 2, 5, 9, 99, -1, 2**31, 2**80)

CLUSTERS = ("c1", "c2", "c3", "c4")


def node_row(node_id: int, orig_id: str, cluster_id: str | None = None) -> NodeRow:
    return NodeRow(node_id, orig_id, cluster_id, cluster_id and cluster_id.upper(), None, "chat", 3, [], NOON, {})


def graph_rows(
    nodes: list[NodeRow], edges: Iterable[EdgeRow] = (), subclusters: Iterable[SubclusterRow] = ()
) -> GraphRows:
    sizes = Counter(node.cluster_id for node in nodes if node.cluster_id)
    clusters = [ClusterRow(cluster_id, cluster_id.upper(), None, size, []) for cluster_id, size in sizes.items()]
    return GraphRows(nodes, list(edges), clusters, list(subclusters), None, {})


@st.composite
def graphs_of_any_shape(draw: st.DrawFn) -> GraphRows:
    ids = draw(st.lists(st.integers(0, 12), unique=True, max_size=9))
    orig_ids = draw(st.permutations(STORED_IDS))
    nodes = [
        node_row(node_id, orig_id, draw(st.sampled_from((None, *CLUSTERS))))
        for node_id, orig_id in zip(ids, orig_ids, strict=False)
    ]
    pairs = [(source, target) for source in ids for target in ids if source < target]
    connected = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    edges = [
        EdgeRow(*(pair if draw(st.booleans()) else pair[::-1]), 0.5, draw(st.sampled_from(("hard", "insight"))), False)
        for pair in connected
    ]
    of_subclusters = (None, *sorted({node.cluster_id for node in nodes if node.cluster_id}))
    subclusters = [
        SubclusterRow(f"s{number}", draw(st.sampled_from(of_subclusters)), members, members[0], len(members), 0.5, [])
        for number, members in enumerate(
            draw(st.lists(st.lists(st.sampled_from(ids), unique=True, min_size=1), max_size=4)) if ids else []
        )
    ]
    return graph_rows(nodes, edges, subclusters)


cluster_ids = st.sampled_from((None, "", *CLUSTERS, "c5", 6))
batches = st.lists(
    st.fixed_dictionaries(
        {
            "nodes": st.lists(
                st.fixed_dictionaries({"origId": st.sampled_from(BATCH_IDS), "clusterId": cluster_ids}), max_size=4
            ),
            "edges": st.lists(
                st.fixed_dictionaries({"source": st.sampled_from(ENDS), "target": st.sampled_from(ENDS)}), max_size=6
            ),
            "assignedCluster": st.none() | st.fixed_dictionaries({"clusterId": cluster_ids, "name": st.just("Given")}),
            "skipped": st.booleans(),
        }
    ),
    max_size=3,
)


def batch_of(items: list[dict[str, Any]]) -> AddNodeBatch:
    return decode_add_node_batch(json.dumps({"results": items}).encode())


def add(*items: dict[str, Any]) -> GraphChanges:
    """Merge a batch into Ada's graph, as its actor does."""
    with user_transaction("ada"):
        _, changes, _ = merged("ada", batch_of(list(items)))
        graph_merges.apply_changes("ada", changes)
    return changes


def replace(graph: GraphRows) -> None:
    with user_transaction("ada"):
        graphs.replace_graph("ada", graph, source_timestamp=NOON)


def whole_graph() -> MergeTarget:
    """All of Ada's graph."""

    def rows(table: type[PartRecord], *names: str) -> list[tuple[Any, ...]]:
        query = table.select(*graphs.fields_of(table, names)).where(table.user_id == "ada")
        return list(query.tuples().iterator())

    nodes = {orig_id: StoredNode(*node) for orig_id, *node in rows(NodeRecord, "orig_id", *StoredNode._fields)}
    return MergeTarget(
        nodes=nodes,
        edges={(source, target): kind for source, target, kind in rows(EdgeRecord, "source", "target", "type")},
        clusters={row[0]: ClusterRow(*row) for row in rows(ClusterRecord, *ClusterRow._fields)},
        subclusters=[SubclusterRow(*row) for row in rows(SubclusterRecord, *SubclusterRow._fields)],
        new_ids=range(1 + max((node.id for node in nodes.values()), default=-1), MAX_INTEGER),
    )


def in_order(changes: GraphChanges) -> list[list[str]]:
    return [sorted(map(repr, rows)) for rows in changes]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs_of_any_shape(), batch=batches)
@example(
    graph=graph_rows([node_row(0, "a", "c1"), node_row(1, "b", "c2")]),
    batch=[{"nodes": [{"origId": "a", "clusterId": "c2"}, {"origId": "new", "clusterId": "c1"}]}],
)
def test_a_merge_with_its_neighbourhood_is_the_merge_with_the_whole_graph(
    graph: GraphRows, batch: list[dict[str, Any]]
) -> None:
    replace(graph)
    expected, warnings = merge_batch(whole_graph(), batch_of(batch), user_id="ada")

    with user_transaction("ada"):
        _, changes, left_out = merged("ada", batch_of(batch))
        counts = graph_merges.apply_changes("ada", changes)

    assert in_order(changes) == in_order(expected)
    assert left_out == warnings
    assert counts == graphs.graph_counts("ada")
    assert not {"counts that are not the counts", "clusters of another size than their nodes"} & set(
        faults(database.execute_sql)
    )


def test_new_nodes_get_the_smallest_free_integers_when_there_is_no_larger_one() -> None:
    replace(graph_rows([node_row(0, "a"), node_row(2, "b"), node_row(MAX_INTEGER - 1, "c")]))

    changes = add({"nodes": [{"origId": f"n{number}"} for number in range(4)]})

    assert [node.id for node in changes.nodes] == [MAX_INTEGER, 1, 3, 4]


@pytest.mark.parametrize(
    ("item", "most"),
    [
        ({"nodes": [{"origId": "new", "clusterId": "c1"}], "edges": [{"source": "new", "target": "a"}]}, 3),
        ({"nodes": [{"origId": "a", "clusterId": "new"}], "edges": [{"source": "a", "target": "b"}]}, 4),
    ],
    ids=["a new node", "a node that moves"],
)
def test_round_trips_are_few(item: dict[str, Any], most: int) -> None:
    subclusters = [SubclusterRow("s1", "c1", [0, 1], 0, 2, None, [])]
    replace(graph_rows([node_row(0, "a", "c1"), node_row(1, "b", "c1")], subclusters=subclusters))
    with user_transaction("ada"), patch.object(database, "execute_sql", wraps=database.execute_sql) as round_trips:
        _, changes, _ = merged("ada", batch_of([item]))
        graph_merges.apply_changes("ada", changes)

    assert round_trips.call_count == most


PARTS_OF_NAMES = ("uf-x", "uf-", "uf-a-1", ULID, ULID[1:], f"8{ULID[1:]}", "pdf", "é", "", "a\n", "x.pdf")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.lists(st.sampled_from(PARTS_OF_NAMES), max_size=4).map("_".join))
def test_postgresql_finds_the_id_of_a_file_in_a_name_as_the_worker_does(name: str) -> None:
    found = f"SELECT coalesce({', '.join(['substring(%s, %s)'] * len(LONGER_NAMES))})"
    values = [value for pattern in LONGER_NAMES for value in (name, pattern)]

    ((stored_for,),) = database.execute_sql(found, values)

    assert (stored_for or name) == file_id(name)


#: A graph in which every node is connected with the next, and every tenth is in a cluster with its nine followers.
LARGE = 3000


def large_graph() -> GraphRows:
    nodes = [node_row(number, f"n{number}", f"c{number // 10}") for number in range(LARGE)]
    edges = [EdgeRow(number, number + 1, 0.5, "hard", True) for number in range(LARGE - 1)]
    hub = [EdgeRow(0, number, 0.5, "hard", True) for number in range(2, LARGE)]
    return graph_rows(nodes, edges + hub)


#: Rows of nodes and edges that this session has read since its statistics were last flushed.
ROWS_READ = """
SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname IN ('graph_nodes', 'graph_edges')
"""

NEW_NODE = {"origId": "new", "clusterId": "c7"}
TO_STORED_NODES = [{"source": "new", "target": "n5"}, {"source": "new", "target": "n0"}]
BETWEEN_STORED_NODES = [{"source": "n7", "target": "n0"}, {"source": 8, "target": "9"}]
MOVED_NODE = {"origId": "n20", "clusterId": "c7"}


@pytest.mark.parametrize("analyzed", ["never", "when there were few rows", "now"])
@pytest.mark.parametrize(
    ("items", "most"),
    [
        ([{"nodes": [NEW_NODE], "edges": TO_STORED_NODES}], 12),
        ([{"edges": BETWEEN_STORED_NODES}], 20),
        ([{"nodes": [NEW_NODE, MOVED_NODE], "edges": TO_STORED_NODES + BETWEEN_STORED_NODES}], 40),
    ],
    ids=["a new node", "edges between stored nodes", "a node that moves"],
)
def test_an_add_node_result_reads_few_rows_of_a_large_graph_whatever_the_statistics_say(
    empty_database_url: str, items: list[dict[str, Any]], most: int, analyzed: str
) -> None:
    open_database(empty_database_url)
    migrate()
    graph = large_graph()
    if analyzed == "when there were few rows":
        replace(graph_rows([node_row(0, "n0", "c1"), node_row(1, "n1", "c2")], [EdgeRow(0, 1, 0.5, "hard", False)]))
        database.execute_sql("ANALYZE")
    replace(graph)
    if analyzed == "now":
        database.execute_sql("ANALYZE")

    database.execute_sql("SELECT pg_stat_force_next_flush()")
    with user_transaction("ada"):
        _, changes, _ = merged("ada", batch_of(items))
        graph_merges.apply_changes("ada", changes)
        database.execute_sql("SET CONSTRAINTS ALL IMMEDIATE")
        ((rows_read,),) = database.execute_sql(ROWS_READ)

    close_database()
    assert rows_read <= most
