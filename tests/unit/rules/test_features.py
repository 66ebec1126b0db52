from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.errors import InvalidDocument
from graphnode.rules.features import MAX_WIDTH, Embeddings, pack
from tests.features import Row, match_features, unpack

Features = list[tuple[str | None, Row]]

numbers = st.none() | st.floats() | st.floats(-1, 1)


def matched(features: Features, node_ids: dict[str, int]) -> tuple[list[tuple[int, list[float]]], dict[str, int]]:
    names, rows = [name for name, _ in features], [row for _, row in features]
    embeddings, warnings = match_features(names, rows, node_ids)
    return [(node_id, unpack(packed)) for node_id, packed in embeddings], warnings


def test_each_row_goes_to_the_node_of_its_conversation() -> None:
    embeddings, warnings = matched(
        [("src1_b", [0.25, 0.5]), ("a", [0.75, 1.0]), ("pdf_uf-1_report", [1.25, 1.5])],
        {"a": 0, "b": 1, "uf-1": 2},
    )

    assert embeddings == [(1, [0.25, 0.5]), (0, [0.75, 1.0]), (2, [1.25, 1.5])]
    assert warnings == {}


def test_invalid_rows_are_left_out_and_counted() -> None:
    embeddings, warnings = matched(
        [
            ("gone", [9.0, 9.0]),
            (None, [9.0, 9.0]),
            ("a", [0.25, 0.5]),
            ("src0_a", [0.3, 0.4]),
            ("b", [0.1]),
            ("c", []),
            ("e", [0.1, None]),
            ("f", [math.nan, 0.1]),
            ("g", [math.inf, -math.inf]),
            ("h", [1e39, 0.0]),
        ],
        {name: number for number, name in enumerate("abcdefghi")},
    )

    assert embeddings == [(0, [0.25, 0.5])]
    assert warnings == {
        "embeddings without a node": 2,
        "repeated embeddings": 1,
        "embeddings of another width": 2,
        "embeddings that are not finite": 4,
        "nodes without an embedding": 8,
    }


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "src0_c", "d"]), st.lists(numbers, max_size=3))))
def test_every_embedding_can_be_stored(features: Features) -> None:
    node_ids = {"a": 0, "b": 1, "c": 2}

    embeddings, warnings = matched(features, node_ids)

    assert len({node_id for node_id, _ in embeddings}) == len(embeddings)
    assert len({len(row) for _, row in embeddings}) <= 1
    assert all(math.isfinite(number) for _, row in embeddings for number in row)
    assert warnings.get("nodes without an embedding", 0) == len(node_ids) - len(embeddings)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [(1, "embeddings: 1 rows for 2 conversations"), (3, "embeddings: 3 rows for 2 conversations")],
)
def test_a_file_with_more_or_fewer_rows_than_conversations_is_refused(rows: int, problem: str) -> None:
    with pytest.raises(InvalidDocument, match=problem):
        match_features(["a", "b"], [[0.1]] * rows, {"a": 0, "b": 1})


def test_the_widest_embedding_is_accepted() -> None:
    assert len(matched([("a", [0.0] * MAX_WIDTH)], {"a": 0})[0]) == 1


def test_a_wider_embedding_is_refused() -> None:
    with pytest.raises(InvalidDocument, match=r"embeddings\[0\]: 16001 numbers, and 16000 can be stored"):
        matched([("a", [0.0] * (MAX_WIDTH + 1))], {"a": 0})


def test_without_rows_every_node_has_no_embedding() -> None:
    assert matched([], {"a": 0}) == ([], {"nodes without an embedding": 1})


def test_a_row_is_left_out_whatever_its_conversation() -> None:
    embeddings = Embeddings({})
    rows: list[Row] = [[], [1.0], [1.0, 2.0], [None]]

    assert [embeddings.packed(row) for row in rows] == [None, pack([1.0]), None, None]
    assert embeddings.width == 1


@given(st.lists(st.floats(-3.4e38, 3.4e38), max_size=5))
def test_a_number_is_rounded_once(numbers: list[float]) -> None:
    assert unpack(pack(numbers)) == [struct.unpack("f", struct.pack("f", number))[0] for number in numbers]
