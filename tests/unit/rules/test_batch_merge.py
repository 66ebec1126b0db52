from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.decoding import decode_add_node_batch
from graphnode.contract.documents import MAX_ID_LENGTH, AddNodeBatch
from graphnode.contract.values import MAX_INTEGER
from graphnode.errors import WrongOwner
from graphnode.rules.batch_merge import merge_batch
from graphnode.rules.graph import MOST_CLUSTERS
from graphnode.rules.rows import (
    ClusterRow,
    EdgeRow,
    GraphChanges,
    MergeTarget,
    NodeRow,
    StoredNode,
    SubclusterRow,
)

USER = "user_1"
NO_CHANGES = GraphChanges([], [], [], [], [], [])

#: Names that an edge may use: original IDs with and without prefixes, integers, digits, nonsense.
ends = st.sampled_from(
    ["a", "src0_a", f"{USER}_a", f"{USER}_src1_b", "b", "new", f"{USER}_new", "7", 7, "0", 0, 3, "99", 99, "", "?"]
)
cluster_ids = st.sampled_from([None, "", "c1", "c2", "c3", 4, "4"])
nodes = st.builds(
    lambda orig_id, cluster_id, messages: {"origId": orig_id, "clusterId": cluster_id, "numMessages": messages},
    st.sampled_from(["a", "b", "c", "new", "src0_new", "newer", f"{USER}_a", ""]),
    cluster_ids,
    st.none() | st.integers(0, 9),
)
edges = st.fixed_dictionaries({"source": ends, "target": ends})
batches = st.fixed_dictionaries(
    {
        "results": st.lists(
            st.fixed_dictionaries(
                {
                    "noteId": st.just("n"),
                    "nodes": st.lists(nodes, max_size=4),
                    "edges": st.lists(edges, max_size=6),
                    "assignedCluster": st.none() | st.fixed_dictionaries({"clusterId": cluster_ids}),
                    "skipped": st.booleans(),
                    "error": st.sampled_from([None, "", "boom"]),
                }
            ),
            max_size=4,
        )
    }
)


@pytest.fixture
def stored() -> MergeTarget:
    """Nodes a, b in cluster c1 and c in c2, with gaps in their integer IDs."""
    return small_graph()


def small_graph() -> MergeTarget:
    return MergeTarget(
        nodes={"a": StoredNode(0, "c1"), "b": StoredNode(3, "c1"), "c": StoredNode(7, "c2")},
        edges={(0, 3): "hard", (7, 0): "insight"},
        clusters={
            "c1": ClusterRow("c1", "Travel", "on the road", 2, ["trips"]),
            "c2": ClusterRow("c2", None, None, 1, []),
        },
        subclusters=[
            SubclusterRow("s1", "c1", [0, 3], 0, 2, 0.5, ["x"]),
            SubclusterRow("s2", "c2", [7], 7, 1, None, []),
        ],
        new_ids=range(8, 100),
    )


def batch_of(*results: dict[str, Any], user_id: str | None = None) -> AddNodeBatch:
    return decode_add_node_batch(json.dumps({"userId": user_id, "results": results}).encode())


def applied(stored: MergeTarget, changes: GraphChanges) -> MergeTarget:
    """The graph after the changes, as storage leaves it."""
    nodes = dict(stored.nodes)
    for row in changes.nodes:
        kept = nodes.get(row.orig_id)
        cluster_id = row.cluster_id or (kept.cluster_id if kept else None)
        nodes[row.orig_id] = StoredNode(row.id, cluster_id, row.num_messages)
    sizes = Counter(node.cluster_id for node in nodes.values())
    clusters = stored.clusters | {cluster.id: cluster for cluster in changes.clusters}
    subclusters = {subcluster.id: subcluster for subcluster in (*stored.subclusters, *changes.subclusters)}
    return MergeTarget(
        nodes=nodes,
        edges=stored.edges | {(edge.source, edge.target): edge.type for edge in changes.edges},
        clusters={
            cluster_id: cluster._replace(size=sizes[cluster_id])
            for cluster_id, cluster in clusters.items()
            if cluster_id not in changes.emptied_clusters
        },
        subclusters=[
            subcluster for subcluster in subclusters.values() if subcluster.id not in changes.emptied_subclusters
        ],
        new_ids=range(1 + max(node.id for node in nodes.values()), 100),
    )


@given(batches)
def test_a_merged_graph_is_sound(batch: dict[str, Any]) -> None:
    stored = small_graph()

    changes, warnings = merge_batch(stored, batch_of(*batch["results"]), user_id=USER)
    after = applied(stored, changes)

    ids = [node.id for node in after.nodes.values()]
    assert len(set(ids)) == len(ids)
    assert all(after.nodes[orig_id].id == node.id for orig_id, node in stored.nodes.items())
    assert all(source != target and {source, target} <= set(ids) for source, target in after.edges)
    assert not {(target, source) for source, target in after.edges} & after.edges.keys()
    inhabited = {node.cluster_id for node in after.nodes.values()} - {None}
    assert set(after.clusters) == inhabited
    assert all(row.size == after.clusters[row.id].size for row in changes.clusters)
    cluster_of = {node.id: node.cluster_id for node in after.nodes.values()}
    for subcluster in after.subclusters:
        assert subcluster.size == len(subcluster.node_ids) > 0
        assert {cluster_of[node_id] for node_id in subcluster.node_ids} == {subcluster.cluster_id}
        assert subcluster.representative_node_id in subcluster.node_ids
    assert all(warnings.values())


@given(batches)
def test_a_second_merge_of_a_batch_changes_nothing(batch: dict[str, Any]) -> None:
    stored = small_graph()
    once = applied(stored, merge_batch(stored, batch_of(*batch["results"]), user_id=USER)[0])

    twice, _ = merge_batch(once, batch_of(*batch["results"]), user_id=USER)

    assert {edge.source: edge for edge in twice.edges}.keys() <= {source for source, _ in once.edges}
    assert applied(once, twice) == once


def test_a_new_node_gets_the_next_integer_and_its_source_type(stored: MergeTarget) -> None:
    changes, warnings = merge_batch(
        stored,
        batch_of(
            {
                "conversationId": "n1",
                "nodes": [
                    {
                        "id": f"{USER}_src0_n1",
                        "origId": "src0_n1",
                        "clusterId": "c1",
                        "numMessages": 4,
                        "timestamp": None,
                        "createdAt": "2026-05-24T08:00:00",
                        "updatedAt": "2026-05-24T09:00:00",
                    }
                ],
                "assignedCluster": {"clusterId": "c1", "confidence": 0.8, "name": "Another name"},
            },
            {"noteId": "n2", "nodes": [{"id": f"{USER}_n2", "numSections": 2}]},
            {"fileId": "uf-3", "nodes": [{"origId": "pdf_uf-3_report"}]},
            {"nodes": [{"origId": "n4"}, {"origId": "uf-5_report.docx"}]},
        ),
        user_id=USER,
    )

    assert [(row.id, row.orig_id, row.source_type, row.num_messages) for row in changes.nodes] == [
        (8, "n1", "chat", 4),
        (9, "n2", "markdown", 2),
        (10, "uf-3", "file", None),
        (11, "n4", "chat", None),
        (12, "uf-5", "file", None),
    ]
    assert [row.metadata for row in changes.nodes] == [
        {},
        {},
        {"ai_raw_source_type": "pdf"},
        {},
        {"ai_raw_source_type": "docx"},
    ]
    assert changes.nodes[0].timestamp == datetime(2026, 5, 24, 9, tzinfo=UTC)
    assert changes.nodes[0][2:5] == ("c1", "Travel", 0.8)
    assert changes._replace(nodes=[]) == NO_CHANGES
    assert warnings == {}


def test_the_first_node_of_a_graph_is_number_zero() -> None:
    changes, _ = merge_batch(MergeTarget({}, {}, {}, []), batch_of({"nodes": [{"origId": "x"}]}), user_id=USER)

    assert [row.id for row in changes.nodes] == [0]


def test_a_stored_node_keeps_its_integer_and_values_missing_in_the_batch(stored: MergeTarget) -> None:
    changes, _ = merge_batch(
        stored, batch_of({"fileId": "a", "nodes": [{"id": f"{USER}_a", "numMessages": 9}]}), user_id=USER
    )

    assert changes.nodes == [NodeRow(0, "a", None, None, None, None, 9, [], None, {})]
    assert changes._replace(nodes=[]) == NO_CHANGES


def test_names_and_times_of_a_node_and_an_edge_are_the_batchs(stored: MergeTarget) -> None:
    names = {"title": "Ein Brot", "label": "Brot", "summary": "Wie man es backt."}
    node = {"origId": "a", **names, "createdAt": 1, "updatedAt": "1970-01-01T00:00:02Z"}
    unnamed = {"origId": "new", "title": "", "createdAt": 0}
    edge = {"source": "a", "target": "new", "relation": "explains"}

    changes, warnings = merge_batch(stored, batch_of({"nodes": [node, unnamed], "edges": [edge]}), user_id=USER)

    made, changed = (datetime(1970, 1, 1, 0, 0, seconds, tzinfo=UTC) for seconds in (1, 2))
    assert [(row.title, row.label, row.summary, row.created_at, row.updated_at) for row in changes.nodes] == [
        (*names.values(), made, changed),
        (None, None, None, None, None),
    ]
    assert [row.timestamp for row in changes.nodes] == [changed, None]
    assert [row.relation for row in changes.edges] == ["explains"]
    assert warnings == {}


@pytest.mark.parametrize("name", ["uf-a", "uf-a_report.pdf", "pdf_uf-a_report", "src1_uf-a_other.pdf"])
def test_a_file_that_is_stored_under_a_longer_name_stays_one_node_and_gets_its_id(
    stored: MergeTarget, name: str
) -> None:
    stored.nodes["uf-a_report.pdf"] = StoredNode(9, "c2")

    changes, warnings = merge_batch(
        stored,
        batch_of({"fileId": name, "nodes": [{"origId": name}], "edges": [{"source": name, "target": "b"}]}),
        user_id=USER,
    )

    assert [(row.id, row.orig_id) for row in changes.nodes] == [(9, "uf-a")]
    assert [(edge.source, edge.target) for edge in changes.edges] == [(9, 3)]
    assert warnings == {}


def test_of_several_stored_nodes_of_a_file_the_one_with_its_id_counts_else_the_oldest(stored: MergeTarget) -> None:
    stored.nodes["uf-a_report.pdf"] = StoredNode(9, None)
    stored.nodes["uf-a"] = StoredNode(10, None)
    stored.nodes["uf-b_new.pdf"] = StoredNode(12, None)
    stored.nodes["uf-b_old.pdf"] = StoredNode(11, None)

    changes, _ = merge_batch(
        stored, batch_of({"nodes": [{"origId": "uf-a_report.pdf"}, {"origId": "uf-b"}]}), user_id=USER
    )

    assert [(row.id, row.orig_id) for row in changes.nodes] == [(10, "uf-a"), (11, "uf-b")]


def test_a_stored_node_keeps_its_source_type_and_raw_format(stored: MergeTarget) -> None:
    stored.nodes["uf-a"] = StoredNode(9, None)

    changes, _ = merge_batch(stored, batch_of({"noteId": "uf-a", "nodes": [{"origId": "pdf_uf-a_x"}]}), user_id=USER)

    assert [(row.id, row.source_type, row.metadata) for row in changes.nodes] == [(9, None, {})]


def test_a_repeated_node_is_one_row_with_the_last_values(stored: MergeTarget) -> None:
    changes, _ = merge_batch(
        stored,
        batch_of(
            {"noteId": "n", "nodes": [{"origId": "n", "clusterId": "c1", "numSections": 1}]},
            {"noteId": "n", "nodes": [{"origId": f"{USER}_n", "clusterId": "c2"}]},
        ),
        user_id=USER,
    )

    assert [(row.id, row.orig_id, row.cluster_id, row.num_messages) for row in changes.nodes] == [(8, "n", "c2", 1)]


def test_a_repeated_node_keeps_nothing_of_its_first_cluster(stored: MergeTarget) -> None:
    sure = {"clusterId": "new", "name": "Baking", "confidence": 0.9}
    changes, _ = merge_batch(
        stored,
        batch_of(
            {"noteId": "n", "nodes": [{"origId": "n"}], "assignedCluster": sure},
            {"noteId": "n", "nodes": [{"origId": "n", "clusterId": "nameless"}]},
        ),
        user_id=USER,
    )

    (row,) = changes.nodes
    assert (row.cluster_id, row.cluster_name, row.cluster_confidence) == ("nameless", None, None)


def test_a_confidence_without_a_cluster_is_not_the_nodes(stored: MergeTarget) -> None:
    unplaced = {"noteId": "a", "nodes": [{"origId": "a"}], "assignedCluster": {"clusterId": None, "confidence": 0.1}}

    changes, _ = merge_batch(stored, batch_of(unplaced), user_id=USER)

    assert [row.cluster_confidence for row in changes.nodes] == [None]


def test_a_new_cluster_is_described_by_its_assignment(stored: MergeTarget) -> None:
    assigned = {
        "clusterId": "c9",
        "isNewCluster": True,
        "confidence": 0.7,
        "reasoning": "all about bread",
        "name": "빵",
        "themes": ["rye"],
    }

    changes, _ = merge_batch(
        stored,
        batch_of(
            {"noteId": "n1", "nodes": [{"origId": "n1"}], "assignedCluster": assigned},
            {"noteId": "n2", "nodes": [{"origId": "n2", "clusterId": "c9"}]},
            {"noteId": "n3", "nodes": [], "assignedCluster": {**assigned, "clusterId": "nobody"}},
        ),
        user_id=USER,
    )

    assert changes.clusters == [ClusterRow("c9", "빵", "all about bread", 2, ["rye"])]
    assert [(row.cluster_id, row.cluster_name, row.cluster_confidence) for row in changes.nodes] == [
        ("c9", "빵", 0.7),
        ("c9", "빵", None),
    ]


def test_a_node_may_name_its_new_cluster_itself(stored: MergeTarget) -> None:
    changes, _ = merge_batch(
        stored,
        batch_of({"noteId": "n", "nodes": [{"origId": "n", "clusterId": 5, "clusterName": "Five"}]}),
        user_id=USER,
    )

    assert changes.clusters == [ClusterRow("5", "Five", None, 1, [])]


def test_a_stored_cluster_keeps_its_name_and_description(stored: MergeTarget) -> None:
    changes, _ = merge_batch(
        stored,
        batch_of(
            {
                "nodes": [{"origId": "n", "clusterName": "Renamed"}],
                "assignedCluster": {"clusterId": "c1", "isNewCluster": True, "name": "Renamed", "themes": ["z"]},
            }
        ),
        user_id=USER,
    )

    assert changes.clusters == []
    assert changes.nodes[0].cluster_name == "Travel"


def test_a_node_that_moves_leaves_the_subclusters_of_its_old_cluster(stored: MergeTarget) -> None:
    changes, _ = merge_batch(stored, batch_of({"nodes": [{"origId": "a", "clusterId": "c2"}]}), user_id=USER)

    assert [(row.id, row.cluster_id) for row in changes.nodes] == [(0, "c2")]
    assert changes.subclusters == [SubclusterRow("s1", "c1", [3], 3, 1, 0.5, ["x"])]
    assert changes.emptied_subclusters == []
    assert changes.emptied_clusters == []


def test_a_cluster_that_loses_its_last_node_is_emptied_with_its_subclusters(stored: MergeTarget) -> None:
    changes, _ = merge_batch(stored, batch_of({"nodes": [{"origId": "c", "clusterId": "c1"}]}), user_id=USER)

    assert changes.emptied_clusters == ["c2"]
    assert changes.emptied_subclusters == ["s2"]
    assert changes.subclusters == []


@pytest.mark.parametrize("name", ["c", f"{USER}_c", f"{USER}_src4_c", "src4_c", 7, "7"])
def test_an_edge_may_name_a_stored_node_in_each_way(stored: MergeTarget, name: str | int) -> None:
    changes, warnings = merge_batch(
        stored, batch_of({"edges": [{"source": name, "target": "b", "weight": 0.4}]}), user_id=USER
    )

    assert changes.edges == [EdgeRow(7, 3, 0.4, "hard", True)]
    assert warnings == {}


def test_an_edge_may_name_a_node_of_a_later_item(stored: MergeTarget) -> None:
    changes, _ = merge_batch(
        stored,
        batch_of(
            {"edges": [{"source": f"{USER}_n", "target": "m", "type": "hard", "intraCluster": False}]},
            {"noteId": "n", "nodes": [{"origId": "n"}]},
            {"noteId": "m", "nodes": [{"id": f"{USER}_m"}]},
        ),
        user_id=USER,
    )

    assert changes.edges == [EdgeRow(8, 9, 1.0, "hard", False)]


@pytest.mark.parametrize(
    "name",
    ["tmp-1", f"{USER}_src0_pdf_uf-9_a", "src0_pdf_uf-9_a", "uf-9", "uf-9_other name", f"{USER}_uf-9"],
    ids=["id", "string ID", "raw original ID", "original ID", "another spelling", "string ID of the original ID"],
)
def test_an_edge_may_name_a_new_node_by_any_id_in_any_spelling(stored: MergeTarget, name: str) -> None:
    new = {"id": "tmp-1", "origId": "src0_pdf_uf-9_a"}
    edge = {"source": name, "target": "a"}

    changes, warnings = merge_batch(stored, batch_of({"fileId": "uf-9", "nodes": [new], "edges": [edge]}), user_id=USER)

    assert [(row.id, row.orig_id) for row in changes.nodes] == [(8, "uf-9")]
    assert [(edge.source, edge.target) for edge in changes.edges] == [(8, 0)]
    assert warnings == {}


def test_an_edge_means_the_node_of_its_own_item_then_that_of_the_batch_then_a_stored_one(stored: MergeTarget) -> None:
    stored.nodes["tmp-1"] = StoredNode(9, "c1")
    stored.nodes["tmp-3"] = StoredNode(10, "c1")
    stored = stored._replace(new_ids=range(11, 20))
    edges = [{"source": name, "target": "a"} for name in ("tmp-1", "tmp-2", "tmp-3")]

    changes, _ = merge_batch(
        stored,
        batch_of(
            {"nodes": [{"id": "tmp-1", "origId": "n1"}, {"id": "tmp-2", "origId": "n2"}]},
            {"nodes": [{"id": "tmp-1", "origId": "n3"}], "edges": edges},
        ),
        user_id=USER,
    )

    assert [(row.id, row.orig_id) for row in changes.nodes] == [(11, "n1"), (12, "n2"), (13, "n3")]
    assert [edge.source for edge in changes.edges] == [13, 12, 10]


def test_an_edge_finds_the_batchs_node_of_a_file_before_a_stored_one_with_a_longer_name(stored: MergeTarget) -> None:
    stored.nodes["uf-a"] = StoredNode(9, None)
    stored.nodes["uf-a_report.pdf"] = StoredNode(10, None)
    edge = {"source": "uf-a_report.pdf", "target": "a"}

    changes, _ = merge_batch(stored, batch_of({"nodes": [{"origId": "uf-a"}], "edges": [edge]}), user_id=USER)

    assert [edge.source for edge in changes.edges] == [9]


def test_an_original_id_made_of_digits_comes_before_an_integer_id(stored: MergeTarget) -> None:
    stored.nodes["7"] = StoredNode(20, "c1")

    changes, _ = merge_batch(stored, batch_of({"edges": [{"source": "7", "target": 0}]}), user_id=USER)

    assert [(edge.source, edge.target) for edge in changes.edges] == [(20, 0)]


def test_an_edge_cannot_name_a_new_node_by_its_integer(stored: MergeTarget) -> None:
    changes, warnings = merge_batch(
        stored, batch_of({"nodes": [{"origId": "n"}], "edges": [{"source": 8, "target": "a"}]}), user_id=USER
    )

    assert changes.edges == []
    assert warnings == {"edges to unknown nodes": 1}


def test_a_stored_edge_keeps_its_direction(stored: MergeTarget) -> None:
    changes, _ = merge_batch(
        stored,
        batch_of({"edges": [{"source": "b", "target": "a"}, {"source": "c", "target": "a"}]}),
        user_id=USER,
    )

    assert [(edge.source, edge.target) for edge in changes.edges] == [(0, 3), (7, 0)]


@pytest.mark.parametrize(
    ("given", "kept"),
    [({}, "hard"), ({"type": "semantic"}, "hard"), ({"type": "hard"}, "hard"), ({"type": "insight"}, "insight")],
    ids=["not given", "no type of ours", "hard", "insight"],
)
def test_a_stored_edge_keeps_its_type_unless_the_batch_gives_one(
    stored: MergeTarget, given: dict[str, str], kept: str
) -> None:
    changes, _ = merge_batch(stored, batch_of({"edges": [{"source": "a", "target": "b", **given}]}), user_id=USER)

    assert changes.edges == [EdgeRow(0, 3, None, kept, True)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("hard", 1.0)),
        ({"type": None, "weight": None}, ("hard", 1.0)),
        ({"type": "semantic", "weight": "nan"}, ("hard", 1.0)),
        ({"type": "insight", "weight": 0}, ("insight", 0.0)),
    ],
    ids=["absent", "null", "neither of ours nor finite", "given"],
)
def test_a_new_edge_is_hard_and_weighs_one_unless_the_batch_says_otherwise(
    stored: MergeTarget, given: dict[str, Any], expected: tuple[str, float]
) -> None:
    changes, _ = merge_batch(stored, batch_of({"edges": [{"source": "b", "target": "c", **given}]}), user_id=USER)

    assert [(edge.type, edge.weight) for edge in changes.edges] == [expected]


def test_stored_edges_of_a_moved_node_are_intra_cluster_if_both_ends_share_one(stored: MergeTarget) -> None:
    changes, _ = merge_batch(stored, batch_of({"nodes": [{"origId": "a", "clusterId": "c2"}]}), user_id=USER)

    assert changes.edges == [EdgeRow(0, 3, None, "hard", False), EdgeRow(7, 0, None, "insight", True)]


def test_invalid_edges_are_left_out_and_counted(stored: MergeTarget) -> None:
    changes, warnings = merge_batch(
        stored,
        batch_of(
            {
                "edges": [
                    {"source": "b", "target": "c", "weight": "inf"},
                    {"source": "c", "target": "b", "weight": 0.1},
                    {"source": "a", "target": 0},
                    {"source": "a", "target": "9" * 5000},
                    {"source": "a", "target": "nobody"},
                    {"source": -1, "target": "a"},
                    {"source": "a"},
                    {"source": None, "target": "a"},
                    {"source": "a", "target": ""},
                ]
            }
        ),
        user_id=USER,
    )

    assert changes.edges == [EdgeRow(3, 7, 1.0, "hard", True)]
    assert warnings == {
        "repeated edges": 1,
        "self-loops": 1,
        "edges to unknown nodes": 6,
        "numbers that are not finite": 1,
    }


def test_a_skipped_item_changes_nothing(stored: MergeTarget) -> None:
    result = {"nodes": [{"origId": "n", "clusterId": "c9"}], "edges": [{"source": "a", "target": "c"}]}

    changes, warnings = merge_batch(
        stored, batch_of(result | {"skipped": True}, result | {"skipped": True, "error": ""}), user_id=USER
    )

    assert changes == NO_CHANGES
    assert warnings == {}


def test_what_an_item_has_beside_an_error_is_used_and_errors_are_counted(stored: MergeTarget) -> None:
    nodes = [{"origId": "n", "clusterId": "c9"}, {"clusterId": "c9"}]

    changes, warnings = merge_batch(
        stored,
        batch_of(
            {"error": "half of it", "nodes": nodes, "edges": [{"source": "n", "target": "c"}]},
            {"error": "all of it"},
            {"error": {"code": 7}, "skipped": True, "nodes": [{"origId": "m"}]},
        ),
        user_id=USER,
    )

    assert [row.orig_id for row in changes.nodes] == ["n"]
    assert [(edge.source, edge.target) for edge in changes.edges] == [(8, 7)]
    assert [cluster.id for cluster in changes.clusters] == ["c9"]
    assert warnings == {"sources with an error": 3, "nodes without an ID": 1}


@pytest.mark.parametrize(
    ("stored_count", "given", "expected"),
    [
        (9, [{"numMessages": 4}], 9),
        (9, [{"numSections": 12}], 12),
        (9, [{}], 9),
        (None, [{"numMessages": 4}], 4),
        (None, [{}], None),
        (2, [{"numMessages": 9}, {"numMessages": 4}], 9),
    ],
)
def test_a_stored_nodes_message_count_never_shrinks(
    stored: MergeTarget, stored_count: int | None, given: list[dict[str, int]], expected: int | None
) -> None:
    stored.nodes["a"] = StoredNode(0, "c1", num_messages=stored_count)

    changes, _ = merge_batch(stored, batch_of({"nodes": [{"origId": "a", **counts} for counts in given]}), user_id=USER)

    assert [row.num_messages for row in changes.nodes] == [expected]


def test_a_new_nodes_message_count_is_the_largest_of_the_batch(stored: MergeTarget) -> None:
    nodes = [{"origId": "n", "numMessages": count} for count in (3, 7, 5)]

    changes, _ = merge_batch(stored, batch_of({"nodes": nodes}), user_id=USER)

    assert [row.num_messages for row in changes.nodes] == [7]


def test_new_nodes_get_the_free_integers_in_their_order(stored: MergeTarget) -> None:
    stored.nodes["last but one"] = StoredNode(MAX_INTEGER - 1, None)
    stored = stored._replace(new_ids=[MAX_INTEGER, 1, 2, 4])
    new = [{"origId": f"n{number}"} for number in range(4)]
    edge = {"source": "n3", "target": str(MAX_INTEGER - 1)}

    changes, warnings = merge_batch(stored, batch_of({"nodes": new, "edges": [edge]}), user_id=USER)

    assert [row.id for row in changes.nodes] == [MAX_INTEGER, 1, 2, 4]
    assert [(edge.source, edge.target) for edge in changes.edges] == [(4, MAX_INTEGER - 1)]
    assert warnings == {}


def test_a_node_without_any_id_is_left_out_and_counted(stored: MergeTarget) -> None:
    changes, warnings = merge_batch(stored, batch_of({"nodes": [{"clusterId": "c1"}]}), user_id=USER)

    assert changes == NO_CHANGES
    assert warnings == {"nodes without an ID": 1}


def test_a_batch_of_another_user_is_refused(stored: MergeTarget) -> None:
    with pytest.raises(WrongOwner, match="user_2"):
        merge_batch(stored, batch_of(user_id="user_2"), user_id=USER)

    assert merge_batch(stored, batch_of(user_id=USER), user_id=USER) == (NO_CHANGES, {})


def test_a_node_with_an_id_too_long_for_its_index_is_left_out_and_counted(stored: MergeTarget) -> None:
    too_long = "x" * (MAX_ID_LENGTH + 1)
    raw = json.dumps({"results": [{"noteId": "n", "nodes": [{"origId": too_long}, {"id": f"{USER}_new"}]}]}).encode()

    changes, warnings = merge_batch(stored, decode_add_node_batch(raw), user_id=USER)

    assert [node.orig_id for node in changes.nodes] == ["new"]
    assert warnings == {"nodes with an ID that is too long": 1}


def moving_all(clusters: int) -> tuple[MergeTarget, AddNodeBatch]:
    """A graph of clusters with a node and a subcluster each, and a batch that moves all nodes into the first one."""
    numbers = range(clusters)
    target = MergeTarget(
        nodes={f"n{number}": StoredNode(number, f"c{number}") for number in numbers},
        edges={(number, number + 1): "hard" for number in numbers[:-1]},
        clusters={f"c{number}": ClusterRow(f"c{number}", None, None, 1, []) for number in numbers},
        # Each has a node that stays, so that its cluster is looked up.
        subclusters=[SubclusterRow(f"s{number}", f"c{number}", [number, 0], 0, 2, None, []) for number in numbers],
    )
    moved = [{"id": f"n{number}", "clusterId": "c0"} for number in numbers]
    return target, decode_add_node_batch(json.dumps({"results": [{"nodes": moved}]}).encode())


def test_a_batch_that_moves_all_takes_time_in_proportion_to_the_graph() -> None:
    def cpu_s(clusters: int) -> float:
        target, batch = moving_all(clusters)
        began = time.thread_time()
        changes, _ = merge_batch(target, batch, user_id=USER)
        assert len(changes.emptied_clusters) == len(changes.emptied_subclusters) == clusters - 1
        return time.thread_time() - began

    # A list of the emptied clusters that is searched for each subcluster makes it over a hundred times.
    assert min(cpu_s(16_000) for _ in range(2)) < 48 * min(cpu_s(1000) for _ in range(3))


def test_a_batch_makes_no_more_clusters_than_a_graph_may_have() -> None:
    target, _ = moving_all(MOST_CLUSTERS - 1)
    nodes = [{"id": "n0", "clusterId": "new"}, {"id": "n1", "clusterId": "newer"}, {"id": "x", "clusterId": "newest"}]

    changes, warnings = merge_batch(
        target, decode_add_node_batch(json.dumps({"results": [{"nodes": nodes}]}).encode()), user_id=USER
    )

    assert [node.cluster_id for node in changes.nodes] == ["new", None, None]
    assert [cluster.id for cluster in changes.clusters] == ["new"]
    assert warnings == {"nodes of clusters over 10000": 2}


def test_clusters_that_the_batch_does_not_name_count_for_the_limit(stored: MergeTarget) -> None:
    stored = stored._replace(other_clusters=MOST_CLUSTERS - 3)
    nodes = [{"id": "x", "clusterId": "new"}, {"id": "y", "clusterId": "newer"}, {"id": "z", "clusterId": "c2"}]

    changes, warnings = merge_batch(stored, batch_of({"nodes": nodes}), user_id=USER)

    assert [node.cluster_id for node in changes.nodes] == ["new", None, "c2"]
    assert warnings == {"nodes of clusters over 10000": 1}
