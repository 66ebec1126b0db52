from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.documents import FeaturesConversation, FeaturesDocument
from graphnode.rules.features import MAX_WIDTH, match_embeddings, width_change

Row = list[float | None] | None

numbers = st.none() | st.floats() | st.floats(-1, 1)


def features(*rows: tuple[str | None, Row]) -> FeaturesDocument:
    return FeaturesDocument([FeaturesConversation(orig_id) for orig_id, _ in rows], [row for _, row in rows])


def test_each_row_goes_to_the_node_of_its_conversation() -> None:
    embeddings, warnings = match_embeddings(
        features(("src1_b", [0.1, 0.2]), ("a", [0.3, 0.4]), ("pdf_uf-1_report", [0.5, 0.6])),
        {"a": 0, "b": 1, "uf-1": 2},
    )

    assert embeddings == [(1, [0.1, 0.2]), (0, [0.3, 0.4]), (2, [0.5, 0.6])]
    assert warnings == {}


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    embeddings, warnings = match_embeddings(
        features(
            ("gone", [9.0, 9.0]),
            (None, [9.0, 9.0]),
            ("a", [0.1, 0.2]),
            ("src0_a", [0.3, 0.4]),
            ("b", [0.1]),
            ("c", []),
            ("d", None),
            ("e", [0.1, None]),
            ("f", [math.nan, 0.1]),
            ("g", [math.inf, -math.inf]),
            ("h", [1e39, 0.0]),
        ),
        {name: number for number, name in enumerate("abcdefghi")},
    )

    assert embeddings == [(0, [0.1, 0.2])]
    assert warnings == {
        "embeddings without a node": 2,
        "repeated embeddings": 1,
        "embeddings of another width": 3,
        "embeddings that are not finite": 4,
        "nodes without an embedding": 8,
    }


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "src0_c", "d"]), st.none() | st.lists(numbers, max_size=3))))
def test_what_comes_out_can_be_stored(rows: list[tuple[str, Row]]) -> None:
    node_ids = {"a": 0, "b": 1, "c": 2}

    embeddings, warnings = match_embeddings(features(*rows), node_ids)

    assert len({node_id for node_id, _ in embeddings}) == len(embeddings)
    assert len({len(row) for _, row in embeddings}) <= 1
    assert all(math.isfinite(number) for _, row in embeddings for number in row)
    assert warnings.get("nodes without an embedding", 0) == len(node_ids) - len(embeddings)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_file_with_more_or_fewer_rows_than_conversations_is_left_out(rows: int) -> None:
    document = FeaturesDocument([FeaturesConversation("a"), FeaturesConversation("b")], [[0.1]] * rows)

    assert match_embeddings(document, {"a": 0, "b": 1}) == (
        [],
        {f"features left out: {rows} embeddings for 2 conversations": 1},
    )


@pytest.mark.parametrize(("width", "stored"), [(MAX_WIDTH, 1), (MAX_WIDTH + 1, 0)])
def test_a_file_too_wide_to_store_is_left_out(width: int, stored: int) -> None:
    embeddings, warnings = match_embeddings(features(("a", [0.0] * width)), {"a": 0})

    assert len(embeddings) == stored
    assert bool(warnings) is not bool(stored)


def test_a_file_without_rows_leaves_every_node_without() -> None:
    assert match_embeddings(features(), {"a": 0}) == ([], {"nodes without an embedding": 1})


def test_embeddings_of_another_width_than_those_before_are_warned_of() -> None:
    assert width_change([(0, [1.0, 2.0])], before=384) == {"embeddings are 2 wide, and were 384": 1}


@pytest.mark.parametrize(
    ("embeddings", "before"), [([(0, [1.0, 2.0])], 2), ([(0, [1.0, 2.0])], None), ([], 384)], ids=str
)
def test_embeddings_of_the_same_width_or_without_any_before_are_no_warning(
    embeddings: list[tuple[int, list[float]]], before: int | None
) -> None:
    assert width_change(embeddings, before) == {}
