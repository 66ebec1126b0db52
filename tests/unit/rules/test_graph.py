from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.decoding import decode_graph
from graphnode.contract.documents import GraphDocument
from graphnode.contract.repairs import Warnings
from graphnode.rules.graph import MOST_CLUSTERS, MOST_LISTED, MOST_METADATA_BYTES, clean_graph, with_times
from graphnode.rules.rows import GraphRows, NodeRow

node_ids = st.integers(min_value=0, max_value=8)
any_ids = st.integers(min_value=-1, max_value=8)
cluster_ids = st.sampled_from([None, "", "a", "b", 1, "1"])
graphs = st.fixed_dictionaries(
    {
        "nodes": st.lists(
            st.fixed_dictionaries(
                {
                    "id": node_ids,
                    "orig_id": st.sampled_from(["x", "src0_x", "src1_x", "y", "z", "pdf_uf-1_q", "uf-1", "w"]),
                    "cluster_id": cluster_ids,
                }
            ),
            max_size=8,
        ),
        "edges": st.lists(st.fixed_dictionaries({"source": any_ids, "target": any_ids}), max_size=20),
        "subclusters": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.sampled_from(["s", 1, "1", "t"]),
                    "cluster_id": cluster_ids,
                    "node_ids": st.lists(st.none() | any_ids, max_size=5),
                    "representative_node_id": st.none() | any_ids,
                }
            ),
            max_size=4,
        ),
        "metadata": st.fixed_dictionaries(
            {"clusters": st.dictionaries(st.sampled_from(["a", "1", "c"]), st.just({"name": "described"}))}
        ),
    }
)

EARLIER, LATER, NOW = (datetime(2026, 5, day, tzinfo=UTC) for day in (1, 2, 3))

NODE = NodeRow(0, "conv-1", "c1", None, 0.5, "chat", 3, [{"term": "rye", "score": 1}], None, {"pinned": True})
STORED = NODE._replace(created_at=EARLIER, updated_at=LATER)


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "nodes": [
            {"id": 0, "orig_id": "src0_conv-1", "cluster_id": "a", "cluster_name": "Travel"},
            {"id": 1, "orig_id": "src1_note-1", "cluster_id": "a"},
            {"id": 2, "orig_id": "src2_pdf_uf-1_report", "cluster_id": 7, "cluster_name": "일"},
        ],
        "edges": [{"source": 0, "target": 1, "weight": 0.5}],
        "metadata": {"clusters": {"a": {"name": "Reisen", "description": "", "size": 99, "key_themes": ["x"]}}},
    }


def cleaned(document: dict[str, Any]) -> tuple[GraphRows, Warnings]:
    return clean_graph(decode_graph(json.dumps(document).encode()))


@given(graphs)
def test_rows_have_no_contradictions_and_every_loss_is_counted(document: dict[str, Any]) -> None:
    rows, warnings = cleaned(document)

    ids = {node.id for node in rows.nodes}
    assert len(ids) == len(rows.nodes) == len({node.orig_id for node in rows.nodes})
    pairs = [frozenset((edge.source, edge.target)) for edge in rows.edges]
    assert len(set(pairs)) == len(pairs)
    assert all(len(pair) == 2 and pair <= ids for pair in pairs)
    sizes = Counter(node.cluster_id for node in rows.nodes if node.cluster_id is not None)
    assert {cluster.id: cluster.size for cluster in rows.clusters} == dict(sizes)
    assert len({subcluster.id for subcluster in rows.subclusters}) == len(rows.subclusters)
    for subcluster in rows.subclusters:
        assert subcluster.cluster_id is None or subcluster.cluster_id in sizes
        assert subcluster.size == len(set(subcluster.node_ids)) == len(subcluster.node_ids) > 0
        assert set(subcluster.node_ids) <= ids
        assert subcluster.representative_node_id in {None, *subcluster.node_ids}
    left_out = Counter(warnings)
    assert all(left_out.values())
    assert len(document["nodes"]) == len(rows.nodes) + (
        left_out["nodes with a repeated ID"] + left_out["nodes with a repeated original ID"]
    )
    assert len(document["edges"]) == len(rows.edges) + (
        left_out["edges to unknown nodes"] + left_out["self-loops"] + left_out["repeated edges"]
    )
    assert len(document["subclusters"]) == len(rows.subclusters) + (
        left_out["subclusters without nodes"]
        + left_out["subclusters of unknown clusters"]
        + left_out["repeated subclusters"]
    )


def test_nodes_get_their_original_ids_and_clusters(document: dict[str, Any]) -> None:
    rows, warnings = cleaned(document)

    assert [(node.id, node.orig_id, node.cluster_id, node.cluster_name) for node in rows.nodes] == [
        (0, "conv-1", "a", "Travel"),
        (1, "note-1", "a", "Reisen"),
        (2, "uf-1", "7", "일"),
    ]
    assert warnings == {}


def test_clusters_come_from_metadata_and_nodes_and_are_counted(document: dict[str, Any]) -> None:
    document["metadata"]["clusters"]["empty"] = {"name": "Nobody"}

    rows, warnings = cleaned(document)

    assert [tuple(cluster) for cluster in rows.clusters] == [
        ("a", "Reisen", None, 2, ["x"]),
        ("7", "일", None, 1, []),
    ]
    assert warnings == {"clusters without nodes": 1}


def test_the_first_of_two_nodes_with_the_same_id_stays(document: dict[str, Any]) -> None:
    document["nodes"] += [{"id": 1, "orig_id": "other"}, {"id": 9, "orig_id": "src7_conv-1"}]
    document["edges"] = [{"source": 9, "target": 1}]

    rows, warnings = cleaned(document)

    assert [node.orig_id for node in rows.nodes] == ["conv-1", "note-1", "uf-1"]
    assert rows.edges == []
    assert warnings == {
        "nodes with a repeated ID": 1,
        "nodes with a repeated original ID": 1,
        "edges to unknown nodes": 1,
    }


def test_the_first_of_two_edges_stays_in_either_direction(document: dict[str, Any]) -> None:
    document["edges"] = [
        {"source": 1, "target": 0, "weight": 0.9},
        {"source": 0, "target": 1, "weight": 0.1},
        {"source": 1, "target": 0, "weight": 0.2},
        {"source": 2, "target": 2},
        {"source": 2, "target": 5},
    ]

    rows, warnings = cleaned(document)

    assert [(edge.source, edge.target, edge.weight) for edge in rows.edges] == [(1, 0, 0.9)]
    assert warnings == {"repeated edges": 2, "self-loops": 1, "edges to unknown nodes": 1}


@pytest.mark.parametrize(
    ("confidence", "kind"),
    [("high", "hard"), ("medium", "insight"), (0.99, "insight"), (None, "insight"), ([], "insight")],
)
def test_only_high_confidence_makes_an_edge_hard(document: dict[str, Any], confidence: Any, kind: str) -> None:
    document["edges"][0] |= {"confidence": confidence, "type": "semantic"}

    assert cleaned(document)[0].edges[0].type == kind


@pytest.mark.parametrize(
    ("given", "target", "expected"),
    [(True, 2, True), (False, 1, False), (None, 1, True), (None, 2, False)],
)
def test_an_edge_is_intra_cluster_by_default_if_its_nodes_share_a_cluster(
    document: dict[str, Any], given: bool | None, target: int, expected: bool
) -> None:
    document["edges"] = [{"source": 0, "target": target, "is_intra_cluster": given}]

    assert cleaned(document)[0].edges[0].intra_cluster is expected


def test_nodes_without_a_cluster_share_no_cluster(document: dict[str, Any]) -> None:
    for node in document["nodes"]:
        node["cluster_id"] = None

    rows, _ = cleaned(document)

    assert rows.edges[0].intra_cluster is False
    assert rows.clusters == []


def test_numbers_that_are_not_finite_are_none_and_counted(document: dict[str, Any]) -> None:
    document["edges"][0]["weight"] = "nan"
    document["nodes"][0]["cluster_confidence"] = "-inf"

    rows, warnings = cleaned(document)

    assert rows.edges[0].weight is None
    assert rows.nodes[0].cluster_confidence is None
    assert warnings == {"numbers that are not finite": 2}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"timestamp": "2026-05-24T08:02:08.793892"}, datetime(2026, 5, 24, 8, 2, 8, 793892, UTC)),
        ({"timestamp": "2026-05-24T08:02:08+09:00"}, datetime(2026, 5, 23, 23, 2, 8, 0, UTC)),
        ({"timestamp": None, "create_time": 1.5, "update_time": 2}, datetime(1970, 1, 1, 0, 0, 2, 0, UTC)),
        ({"timestamp": "", "create_time": "1.5"}, datetime(1970, 1, 1, 0, 0, 1, 500000, UTC)),
        ({"update_time": 0, "create_time": 2}, datetime(1970, 1, 1, 0, 0, 2, 0, UTC)),
        ({"update_time": 0, "create_time": 0.0}, None),
        ({}, None),
    ],
)
def test_a_nodes_time_is_its_timestamp_or_its_newest_epoch(
    document: dict[str, Any], fields: dict[str, Any], expected: datetime | None
) -> None:
    document["nodes"][0] |= fields

    rows, warnings = cleaned(document)

    assert rows.nodes[0].timestamp == expected
    assert warnings == {}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"create_time": 1, "update_time": 2}, (1, 2)),
        ({"create_time": 1, "update_time": 2, "timestamp": 3}, (1, 2)),
        ({"create_time": 0, "update_time": "2"}, (None, 2)),
        ({"create_time": "1970-01-01T00:00:01", "update_time": ""}, (1, None)),
        ({"timestamp": 3}, (None, None)),
    ],
)
def test_a_node_was_made_and_changed_when_its_source_was(
    document: dict[str, Any], fields: dict[str, Any], expected: tuple[int | None, ...]
) -> None:
    document["nodes"][0] |= fields

    node = cleaned(document)[0].nodes[0]

    times = (node.created_at, node.updated_at)
    assert tuple(time and time.timestamp() for time in times) == expected


def test_each_unreadable_time_is_counted_and_another_one_is_the_nodes(document: dict[str, Any]) -> None:
    document["nodes"][0] |= {"timestamp": "yesterday", "update_time": "last year", "create_time": 1}

    rows, warnings = cleaned(document)

    assert rows.nodes[0].timestamp == rows.nodes[0].created_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert rows.nodes[0].updated_at is None
    assert warnings == {"unreadable times": 2}


def test_names_are_those_of_the_document_and_an_empty_one_is_none(document: dict[str, Any]) -> None:
    names = {"title": "Ein Brot", "label": "Brot", "summary": "Wie man es backt."}
    document["nodes"][0] |= names
    document["nodes"][1] |= dict.fromkeys(names, "")
    document["edges"][0]["relation"] = "explains"
    document["edges"] += [{"source": 1, "target": 2, "relation": ""}]

    rows, _ = cleaned(document)

    assert [(node.title, node.label, node.summary) for node in rows.nodes] == [
        tuple(names.values()),
        (None, None, None),
        (None, None, None),
    ]
    assert [edge.relation for edge in rows.edges] == ["explains", None]


@pytest.mark.parametrize("value", ["yesterday", 1e300, -1e18, "0001-01-01T00:00:00+05:00", "nan", "inf"])
def test_an_unreadable_time_is_none_and_counted(document: dict[str, Any], value: Any) -> None:
    document["nodes"][0]["timestamp"] = value
    document["metadata"]["generated_at"] = value

    rows, warnings = cleaned(document)

    assert rows.nodes[0].timestamp is None
    assert rows.generated_at is None
    assert warnings == {"unreadable times": 2}


def test_a_source_type_is_one_of_four_and_the_raw_format_is_in_the_metadata(document: dict[str, Any]) -> None:
    document["nodes"][0] |= {"source_type": "notion", "metadata": {"pinned": True}}
    document["nodes"][2] |= {"source_type": "PPTX", "metadata": {"pinned": True}}

    rows, _ = cleaned(document)

    assert [(row.source_type, row.metadata) for row in rows.nodes] == [
        ("notion", {"pinned": True}),
        ("chat", {}),
        ("file", {"pinned": True, "ai_raw_source_type": "pptx"}),
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"num_sections": 3}, 3),
        ({"num_messages": 4}, 4),
        ({"num_sections": 0, "num_messages": 4}, 0),
        ({}, None),
    ],
)
def test_the_message_count_has_two_names(
    document: dict[str, Any], fields: dict[str, int], expected: int | None
) -> None:
    document["nodes"][0] |= fields

    assert cleaned(document)[0].nodes[0].num_messages == expected


def test_keywords_have_one_form(document: dict[str, Any]) -> None:
    document["nodes"][0] |= {"keywords": [{"term": "a", "score": 0.5}, "b", ["e", 0.2]], "top_keywords": ["c"]}
    document["nodes"][1]["top_keywords"] = ["d"]

    rows, _ = cleaned(document)

    assert [node.listed_keywords for node in rows.nodes] == [
        [{"term": "a", "score": 0.5}, {"term": "b", "score": None}, {"term": "e", "score": 0.2}],
        [{"term": "d", "score": None}],
        [],
    ]


def test_the_first_thousand_keywords_and_themes_are_kept_and_the_others_counted(document: dict[str, Any]) -> None:
    many = [str(number) for number in range(MOST_LISTED + 5)]
    document["nodes"][0] |= {"keywords": many}
    document["subclusters"] = [{"id": "s", "cluster_id": "a", "node_ids": [0], "top_keywords": many}]
    document["metadata"] = {"clusters": {"a": {"key_themes": many}}}

    rows, warnings = cleaned(document)

    kept = many[:MOST_LISTED]
    assert [keyword["term"] for keyword in rows.nodes[0].listed_keywords] == kept
    assert rows.subclusters[0].top_keywords == rows.clusters[0].themes == kept
    assert warnings == {"keywords over 1000": 10, "themes over 1000": 5}


def test_metadata_that_is_too_long_is_left_out_and_counted(document: dict[str, Any]) -> None:
    document["nodes"][0] |= {"metadata": {"text": "x" * MOST_METADATA_BYTES}, "source_type": "pdf"}
    document["nodes"][1] |= {"metadata": {"text": "x" * (MOST_METADATA_BYTES - 20)}}

    rows, warnings = cleaned(document)

    assert rows.nodes[0].metadata == {"ai_raw_source_type": "pdf"}
    assert rows.nodes[1].metadata == document["nodes"][1]["metadata"]
    assert warnings == {f"metadata over {MOST_METADATA_BYTES} bytes": 1}


def test_a_subcluster_loses_unknown_members_and_an_unknown_representative(document: dict[str, Any]) -> None:
    document["subclusters"] = [
        {"id": "s", "cluster_id": "a", "node_ids": [1, 40, 0, 1], "representative_node_id": 40, "density": 0.5}
        | {"internal_edges": 3, "cohesion_score": 0.25},
        {"id": "s", "cluster_id": "a", "node_ids": [0]},
        {"id": "t", "cluster_id": "a", "node_ids": [41]},
        {"id": "u", "cluster_id": "gone", "node_ids": [0]},
    ]

    rows, warnings = cleaned(document)

    assert [tuple(subcluster) for subcluster in rows.subclusters] == [("s", "a", [1, 0], 1, 2, 0.5, [], 3, 0.25)]
    assert warnings == {
        "subcluster members that do not exist": 1,
        "repeated subclusters": 1,
        "subclusters without nodes": 1,
        "subclusters of unknown clusters": 1,
    }


def test_members_may_be_null_and_a_representative_minus_one(document: dict[str, Any]) -> None:
    document["subclusters"] = [{"id": "s", "node_ids": [None, 1, 0], "representative_node_id": -1}]

    rows, warnings = cleaned(document)

    assert [(row.node_ids, row.representative_node_id) for row in rows.subclusters] == [([1, 0], 1)]
    assert warnings == {"subcluster members that do not exist": 1}


def test_the_metadata_is_kept_without_the_clusters(document: dict[str, Any]) -> None:
    document["metadata"] |= {"generated_at": "2026-05-24T08:02:08", "language": "ko", "total_nodes": 3}

    rows, _ = cleaned(document)

    assert rows.generated_at == datetime(2026, 5, 24, 8, 2, 8, tzinfo=UTC)
    assert rows.metadata == {"generated_at": "2026-05-24T08:02:08", "language": "ko", "total_nodes": 3}


def test_an_empty_graph_is_a_graph() -> None:
    assert clean_graph(GraphDocument(nodes=[])) == (GraphRows([], [], [], [], None, {}), {})


def times_of(node: NodeRow, *stored: NodeRow) -> tuple[datetime | None, datetime | None]:
    (timed,) = with_times([node], stored, now=NOW)
    assert timed._replace(created_at=None, updated_at=None) == node._replace(created_at=None, updated_at=None)
    return timed.created_at, timed.updated_at


def test_a_new_node_was_made_and_changed_now() -> None:
    assert times_of(NODE) == (NOW, NOW)
    assert times_of(NODE, STORED._replace(orig_id="conv-2")) == (NOW, NOW)


def test_a_node_of_a_stored_source_keeps_its_times() -> None:
    assert times_of(NODE, STORED) == (EARLIER, LATER)


@pytest.mark.parametrize(
    "changed",
    [NODE._replace(id=1), NODE._replace(title="Brot"), NODE._replace(keywords=[]), NODE._replace(metadata={})],
    ids=lambda node: str(node[0]),
)
def test_a_node_with_other_values_was_changed_now(changed: NodeRow) -> None:
    assert times_of(changed, STORED) == (EARLIER, NOW)


def test_the_documents_times_come_first() -> None:
    dated = NODE._replace(created_at=LATER, updated_at=EARLIER)

    assert times_of(dated) == (LATER, EARLIER)
    assert times_of(dated, STORED) == (LATER, EARLIER)
    assert times_of(dated._replace(title="Brot"), STORED) == (LATER, EARLIER)


def test_a_time_that_an_earlier_release_has_not_stored_stays_unknown_until_the_node_changes() -> None:
    assert times_of(NODE, NODE) == (None, None)
    assert times_of(NODE._replace(title="Brot"), NODE) == (None, NOW)


def test_a_graph_has_ten_thousand_clusters_at_most() -> None:
    nodes = [{"id": number, "orig_id": f"n{number}", "cluster_id": number} for number in range(MOST_CLUSTERS + 3)]
    nodes.append({"id": len(nodes), "orig_id": "last", "cluster_id": 0})

    rows, warnings = clean_graph(decode_graph(json.dumps({"nodes": nodes}).encode()))

    assert len(rows.clusters) == MOST_CLUSTERS
    assert [node.cluster_id for node in rows.nodes[-5:]] == [f"{MOST_CLUSTERS - 1}", None, None, None, "0"]
    assert warnings == {"nodes of clusters over 10000": 3}
