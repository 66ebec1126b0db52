from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.rules.difference import difference, is_same, with_json_as_text
from graphnode.rules.rows import NodeRow


@given(st.lists(st.integers(), unique=True), st.lists(st.integers(), unique=True))
def test_stored_rows_without_stale_and_with_fresh_ones_are_the_wanted_rows(
    stored: list[int], wanted: list[int]
) -> None:
    found = difference([(number,) for number in stored], [(number,) for number in wanted])

    assert (set(stored) - set(found.stale)) | {number for (number,) in found.fresh} == set(wanted)
    assert 0 <= found.share <= 1
    assert (found.share == 0) is (set(stored) == set(wanted))


def test_a_changed_row_is_stale_by_its_key_and_fresh_with_its_new_values() -> None:
    found = difference([("a", 1), ("b", 2)], [("b", 3), ("a", 1)])

    assert (found.stale, found.fresh, found.share) == (["b"], [("b", 3)], 0.5)


def test_without_rows_nothing_changes() -> None:
    assert difference([], []).share == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [([1], [True]), ([1], [1.0]), ({"a": 0}, {"a": False}), ([1, 2], [2, 1])],
)
def test_json_with_other_text_is_another_row(before: Any, after: Any) -> None:
    assert difference([("a", before)], [("a", after)]).fresh == [("a", after)]


def test_json_text_is_compared_with_stored_objects() -> None:
    text = msgspec.Raw(b'[{"score":null,"term":"a"}]')

    assert difference([(1, [{"term": "a", "score": None}])], [(1, text)]).share == 0
    assert difference([(1, [{"term": "b", "score": None}])], [(1, text)]).fresh == [(1, text)]


def test_a_row_is_the_same_with_its_json_as_text() -> None:
    row = NodeRow(1, "a", None, None, 0.5, "chat", 2, [{"term": "x", "score": 1}], None, {"b": [1], "a": {}})

    as_text = with_json_as_text(row)

    assert not {"dict", "list"} & {type(value).__name__ for value in as_text}
    assert is_same(row, as_text)
    assert not is_same(row._replace(metadata={"b": [True], "a": {}}), as_text)


def test_the_order_of_an_objects_keys_is_no_difference() -> None:
    assert difference([(1, {"a": 1, "b": [{}]})], [(1, {"b": [{}], "a": 1})]).share == 0


def test_a_key_may_have_several_columns() -> None:
    found = difference([(1, 2, "a"), (1, 3, "a")], [(1, 3, "a"), (1, 2, "b"), (2, 2, "a")], key=2)

    assert (found.stale, found.fresh) == ([(1, 2)], [(1, 2, "b"), (2, 2, "a")])
