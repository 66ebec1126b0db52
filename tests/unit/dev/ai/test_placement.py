from __future__ import annotations

from typing import Any

import msgspec

from graphnode.contract.decoding import decode_add_node_batch, decode_graph
from graphnode.dev.ai.placement import PlacedSource, Placement, place
from graphnode.dev.ai.text_sources import TextSource
from graphnode.rules.batch_merge import merge_batch
from graphnode.rules.graph import clean_graph
from graphnode.rules.rows import GraphChanges, MergeTarget, StoredNode
from tests.unit.dev.ai.conftest import MakeSource


def placed_later(known: list[PlacedSource], later: list[TextSource], *, task_id: str = "t-1") -> Placement:
    return place(known, later, user_id="ada", task_id=task_id)


def clusters(placing: Placement) -> dict[str, str]:
    return {placed.orig_id: placed.cluster_name for placed in placing.known}


def merged(graph: dict[str, Any], batch: dict[str, Any]) -> tuple[GraphChanges, Any]:
    """The batch, merged into the graph by the worker."""
    rows, _ = clean_graph(decode_graph(msgspec.json.encode(graph)))
    stored = MergeTarget(
        nodes={node.orig_id: StoredNode(node.id, node.cluster_id) for node in rows.nodes},
        edges={(edge.source, edge.target): edge.type for edge in rows.edges},
        clusters={cluster.id: cluster for cluster in rows.clusters},
        subclusters=rows.subclusters,
    )
    return merge_batch(stored, decode_add_node_batch(msgspec.json.encode(batch)), user_id="ada")


def test_new_sources_join_the_most_similar_cluster(known: list[PlacedSource], later: list[TextSource]) -> None:
    found = clusters(placed_later(known, later))

    assert found["b0cd9c6a-d68f-4cab-9cf3-30f029809f43"] == found["ownership"]
    assert found["비-오는-교토"] == found["교토-일정"]
    assert found["watercolour-palette"] == found["watercolour-washes"]
    assert found["watercolour-palette"] not in {placed.cluster_name for placed in known}


def test_the_worker_merges_a_batch_without_a_warning(
    graph: dict[str, Any], known: list[PlacedSource], later: list[TextSource]
) -> None:
    changes, warnings = merged(graph, placed_later(known, later).batch)

    assert warnings == {}
    assert {node.orig_id for node in changes.nodes} == {source.name for source in later}
    assert [(cluster.id, cluster.size) for cluster in changes.clusters] == [("cluster_7", 2)]
    assert {node.source_type for node in changes.nodes} == {"chat", "markdown", "file"}


def test_a_repeated_request_has_the_same_batch(known: list[PlacedSource], later: list[TextSource]) -> None:
    first = placed_later(known, later)

    again = placed_later(first.known, later)

    assert msgspec.json.encode(again) == msgspec.json.encode(first)


def test_an_unchanged_source_is_skipped(known: list[PlacedSource], later: list[TextSource]) -> None:
    first = placed_later(known, later)

    again = placed_later(first.known, later, task_id="t-2")

    assert [result["skipped"] for result in again.batch["results"]] == [True] * 4
    assert again.known == first.known


def test_a_changed_source_is_placed_again(known: list[PlacedSource], make_source: MakeSource) -> None:
    text = "교토 여행 숙소와 료칸, 버스와 열차, 기요미즈데라와 기온 골목."

    placing = place(known, [make_source("naps", text, title="교토")], user_id="ada", task_id="t-1")

    assert clusters(placing)["naps"] == clusters(placing)["교토-일정"]
    assert len(placing.known) == len(known)
    (moved,) = [placed for placed in placing.known if placed.orig_id == "naps"]
    assert moved.id == next(placed.id for placed in known if placed.orig_id == "naps")


def test_without_a_graph_sources_make_new_clusters(later: list[TextSource]) -> None:
    placing = placed_later([], later)

    assert sorted({placed.cluster_id for placed in placing.known}) == ["cluster_1", "cluster_2", "cluster_3"]
