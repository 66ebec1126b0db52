from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from graphnode.contract.decoding import decode_microscope
from graphnode.rules.microscope_views import stored_view, view_of

CHUNKS = [
    {"nodes": [{"name": "TCP"}, {"name": "IP"}], "edges": [{"start": "TCP", "target": "IP"}]},
    {"nodes": [{"name": "TCP", "type": "Protocol"}, {"name": None}]},
]
BLOCKS = {
    "blocks": [
        {
            "block_id": "b1",
            "title": "Packets",
            "micro_graph": {
                "nodes": [{"name": "TCP"}, {"name": "IP"}],
                "edges": [{"source": "TCP", "target": "IP", "type": "USES"}, {"start": "IP", "target": "TCP"}],
            },
        },
        {"title": "Routes", "micro_graph": {"nodes": [{"name": "TCP"}]}},
        {},
    ],
    "edges": [{"source": "b1", "target": "b2"}],
}


def stored(document: Any, *, document_id: str = "d1", warnings: Counter[str] | None = None) -> Any:
    """The JSON that is stored of a document."""
    decoded = decode_microscope(json.dumps(document).encode(), half=None)
    view = stored_view(decoded, document_id=document_id, warnings=Counter() if warnings is None else warnings)
    return json.loads(json.dumps(view))


def node_ids(view: Any) -> list[Any]:
    """The IDs of a view's nodes."""
    parts = [block["micro_graph"] for block in view["blocks"]] if "blocks" in view else view
    return [node["id"] for part in parts for node in part["nodes"]]


@pytest.mark.parametrize(("document", "view", "count"), [(CHUNKS, "non_block", 4), (BLOCKS, "block", 3)])
def test_every_node_has_an_id_of_its_own(document: Any, view: str, count: int) -> None:
    found = stored(document) if view == "block" else dict(enumerate(stored(document))).values()
    ids = node_ids(found)

    assert view_of(decode_microscope(json.dumps(document).encode(), half=None)) == view
    assert len(set(ids)) == len(ids) == count
    assert all(isinstance(each, str) and each for each in ids)


@pytest.mark.parametrize("document", [CHUNKS, BLOCKS])
def test_ids_are_the_same_when_a_document_is_stored_again_and_others_for_another_document(document: Any) -> None:
    assert stored(document) == stored(document)
    assert not set(node_ids(stored(document))) & set(node_ids(stored(document, document_id="d2")))


def test_an_id_stays_when_other_nodes_come_and_go() -> None:
    before = stored([{"nodes": [{"name": "TCP"}, {"name": "IP"}]}])
    after = stored([{"nodes": [{"name": "UDP"}, {"name": "IP", "description": "Internet Protocol"}]}])

    assert node_ids(after)[1] == node_ids(before)[1]


def test_a_chunk_keeps_all_that_it_has() -> None:
    first, second = stored(CHUNKS)

    assert [node["name"] for node in first["nodes"] + second["nodes"]] == ["TCP", "IP", "TCP", None]
    assert second["nodes"][0]["type"] == "Protocol"
    assert [(edge["start"], edge["target"]) for edge in first["edges"]] == [("TCP", "IP")]


def test_a_block_has_an_id_a_title_and_a_micro_graph() -> None:
    blocks = stored(BLOCKS)["blocks"]

    assert blocks[0]["block_id"] == "b1"
    assert len({block["block_id"] for block in blocks} - {None, ""}) == 3
    assert [block["title"] for block in blocks] == ["Packets", "Routes", ""]
    assert blocks[2]["micro_graph"] == {"nodes": [], "edges": []}
    assert stored(BLOCKS)["edges"][0]["source"] == "b1"


def test_edges_of_micro_graphs_begin_at_start() -> None:
    edges = stored(BLOCKS)["blocks"][0]["micro_graph"]["edges"]

    assert edges == [{"start": "TCP", "target": "IP", "type": "USES"}, {"start": "IP", "target": "TCP"}]


def test_a_node_keeps_the_id_that_its_edges_refer_to() -> None:
    graph = {"nodes": [{"id": "n1", "name": "TCP"}, {"id": "", "name": "IP"}], "edges": [{"source": "n1"}]}

    (block,) = stored({"blocks": [{"block_id": "b1", "micro_graph": graph}]})["blocks"]

    assert block["micro_graph"]["nodes"][0] == {"id": "n1", "name": "TCP"}
    assert block["micro_graph"]["nodes"][1]["id"]
    assert block["micro_graph"]["edges"] == [{"start": "n1"}]


def test_a_malformed_id_is_replaced_by_a_stable_one_and_counted() -> None:
    warnings = Counter[str]()
    block = {"micro_graph": {"nodes": [{"id": {}, "name": "TCP"}, {"id": 0, "name": "IP"}]}}

    nodes, again = (
        stored({"blocks": [block]}, warnings=warnings)["blocks"][0]["micro_graph"]["nodes"] for _ in range(2)
    )

    assert nodes == again
    assert (type(nodes[0]["id"]), nodes[1]["id"]) == (str, 0)
    assert warnings == {"malformed IDs in micro graphs": 2}


def test_parts_of_micro_graphs_that_are_no_objects_are_left_out_and_counted() -> None:
    warnings = Counter[str]()
    graph = {"nodes": ["TCP", 7, None], "edges": [[], {"start": "TCP", "source": "IP"}]}

    (block,) = stored({"blocks": [{"micro_graph": graph}]}, warnings=warnings)["blocks"]

    assert [node["name"] for node in block["micro_graph"]["nodes"]] == ["TCP"]
    assert block["micro_graph"]["edges"] == [{"start": "TCP"}]
    assert warnings == {
        "nodes of micro graphs that are no objects": 2,
        "edges of micro graphs that are no objects": 1,
    }
