"""What an add-node result reads of a graph, and what it writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from graphnode.actors.add_node import merged
from graphnode.contract.decoding import decode_add_node_batch
from graphnode.contract.documents import AddNodeBatch
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
from graphnode.storage.database import database, user_transaction
from graphnode.storage.graphs import ClusterRecord, EdgeRecord, NodeRecord, PartRecord, SubclusterRecord
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
