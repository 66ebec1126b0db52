"""A part costs a part: whatever a document or message has in one place, the rest of it counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.decoding import (
    decode_add_node_batch,
    decode_block_graph,
    decode_chunks,
    decode_graph,
    decode_microscope,
    decode_summary,
)
from graphnode.contract.parts import (
    ANY_AS_TEXT,
    EVERY_ELEMENT,
    ONLY_TEXT,
    SOME_ELEMENT,
    Malformed,
    convert_parts,
)
from graphnode.contract.repairs import Warnings
from graphnode.errors import InvalidDocument
from tests.any_value import (
    ANY_VALUE,
    BATCH,
    BLOCK_GRAPH,
    CHUNKS,
    GRAPH,
    LISTED_CLUSTERS,
    LONE_CHUNK,
    SUMMARY,
    WRAPPED_BLOCK_GRAPH,
    Sample,
)

DOCUMENTS: dict[str, tuple[Callable[..., Any], Sample]] = {
    "graph": (decode_graph, GRAPH),
    "graph with an array of clusters": (decode_graph, LISTED_CLUSTERS),
    "summary": (decode_summary, SUMMARY),
    "add-node batch": (decode_add_node_batch, BATCH),
    "chunks": (decode_chunks, CHUNKS),
    "one chunk": (decode_chunks, LONE_CHUNK),
    "block graph": (decode_block_graph, BLOCK_GRAPH),
    "wrapped block graph": (decode_block_graph, WRAPPED_BLOCK_GRAPH),
    "microscope document sent whole": (lambda raw, **kwargs: decode_microscope(raw, half=None, **kwargs), BLOCK_GRAPH),
}


@pytest.mark.parametrize("name", DOCUMENTS)
@given(data=st.data())
def test_any_value_in_a_place_that_identifies_nothing_leaves_a_document_readable(
    name: str, data: st.DataObject
) -> None:
    decode, sample = DOCUMENTS[name]
    changed = sample.changed(data.draw(st.sampled_from(sample.places())), data.draw(ANY_VALUE))

    decode(json.dumps(changed).encode())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_sample_has_no_fault(name: str) -> None:
    decode, sample = DOCUMENTS[name]
    warnings: Warnings = {}

    decode(json.dumps(sample.value).encode(), warnings=warnings)

    assert warnings == {}


def test_a_graph_with_a_fault_in_every_part_keeps_its_nodes() -> None:
    document = GRAPH.value
    for place in sorted(GRAPH.places(), key=len, reverse=True):
        if place.count("[") + place.count(".") == 2:
            document = Sample(document, GRAPH.identifying).changed(place, [[]])

    decoded = decode_graph(json.dumps(document).encode())

    assert [node.orig_id for node in decoded.nodes] == ["note-1", "note-2"]
    assert decoded.edges == []


class Person(msgspec.Struct):
    name: str
    age: int | None = None
    friends: list[Person] = []


class Party(msgspec.Struct):
    all_of: Annotated[list[Person], EVERY_ELEMENT] = []
    some_of: Annotated[list[Person], SOME_ELEMENT] = []
    note: Annotated[str, ANY_AS_TEXT] | None = None
    key: Annotated[str, ONLY_TEXT] | None = None


@pytest.mark.parametrize(
    ("value", "expected", "warnings"),
    [
        ({"name": "ada", "age": "x"}, Person("ada"), {"malformed age": 1}),
        ({"name": "ada", "age": ""}, Person("ada"), {}),
        ({"name": 7}, Person("7"), {"name read as text": 1}),
        ({"name": 7.5}, Person("7.5"), {"name read as text": 1}),
        (
            {"name": "ada", "friends": [{"name": "bob", "age": []}, {}, 7]},
            Person("ada", friends=[Person("bob")]),
            {"malformed friends[].age": 1, "malformed friends[]": 2},
        ),
        ({"name": "ada", "friends": [{"friends": [{"name": "x"}]}]}, Person("ada"), {"malformed friends[]": 1}),
    ],
)
def test_a_malformed_part_is_left_out_where_it_is_and_counted_by_its_path(
    value: Any, expected: Person, warnings: Warnings
) -> None:
    counted: Warnings = {}

    assert convert_parts(value, Person, counted) == expected
    assert counted == warnings


@pytest.mark.parametrize(
    ("value", "problem", "path"),
    [
        ({"name": []}, "Expected `str`, got `array`", ".name"),
        ({"name": True}, "Expected `str`, got `bool`", ".name"),
        ({"name": 10**5000}, "Expected `str`, got `int`", ".name"),
        ({"name": None}, "Object missing required field `name`", ""),
        ({}, "Object missing required field `name`", ""),
        ("ada", "Expected `object`, got `str`", ""),
    ],
)
def test_without_what_is_required_the_whole_is_malformed(value: Any, problem: str, path: str) -> None:
    with pytest.raises(Malformed) as raised:
        convert_parts(value, Person, {})

    assert (raised.value.problem, raised.value.path) == (problem, path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"all_of": [{"name": "a"}, 7]}, Party()),
        ({"some_of": [7, {"name": "a"}]}, Party(some_of=[Person("a")])),
        ({"some_of": [7, 8], "key": "k"}, Party(key="k")),
        ({"some_of": []}, Party()),
        ({"note": {"code": 1}, "key": 1}, Party(note='{"code":1}')),
        ({"note": 1, "key": ["k"]}, Party(note="1")),
        ({"note": False}, Party()),
        ({"note": {}}, Party()),
    ],
)
def test_a_type_says_how_much_of_an_array_must_be_readable_and_what_is_read_as_text(
    value: Any, expected: Party
) -> None:
    assert convert_parts(value, Party, {}) == expected


def test_parts_are_read_in_place_so_that_nothing_is_in_memory_twice() -> None:
    friends: list[Any] = [{"name": "bob"}, 7]

    assert convert_parts({"name": "ada", "friends": friends}, Person, {}).friends is friends


def test_every_malformed_edge_of_a_large_graph_is_left_out_in_one_pass() -> None:
    edges = [{"source": 0, "target": 0}, {"source": None}, {"source": 0, "target": 0, "weight": "x"}] * 20_000
    warnings: Warnings = {}

    document = decode_graph(json.dumps({"nodes": [], "edges": edges}).encode(), warnings=warnings)

    assert len(document.edges) == 40_000
    assert warnings == {"malformed edges[]": 20_000, "malformed edges[].weight": 20_000}


def test_a_document_is_still_refused_where_it_identifies_nothing() -> None:
    for decode, sample in DOCUMENTS.values():
        with pytest.raises(InvalidDocument):
            decode(json.dumps(next(iter(sample.value)) if isinstance(sample.value, dict) else 7).encode())
