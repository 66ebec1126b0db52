from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.rules.microscope_documents import document_status, view_keys

statuses = st.sampled_from([None, "COMPLETED", "FAILED"])


@pytest.mark.parametrize(
    ("block", "non_block", "expected"),
    [
        (None, None, "PROCESSING"),
        ("COMPLETED", None, "PROCESSING"),
        (None, "COMPLETED", "PROCESSING"),
        ("COMPLETED", "COMPLETED", "COMPLETED"),
        ("FAILED", None, "FAILED"),
        (None, "FAILED", "FAILED"),
        ("FAILED", "COMPLETED", "FAILED"),
        ("COMPLETED", "FAILED", "FAILED"),
        ("FAILED", "FAILED", "FAILED"),
    ],
)
def test_a_document_of_two_halves_waits_for_both_unless_one_fails(
    block: str | None, non_block: str | None, expected: str
) -> None:
    assert document_status(block=block, non_block=non_block, single=None) == expected


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
def test_a_document_sent_whole_has_the_status_of_its_result(status: str) -> None:
    assert document_status(block=None, non_block=None, single=status) == status


@given(statuses, statuses)
def test_a_document_sent_both_ways_is_completed_when_one_way_is(block: str | None, non_block: str | None) -> None:
    assert document_status(block=block, non_block=non_block, single="COMPLETED") == "COMPLETED"


@pytest.mark.parametrize(
    ("half", "standardized", "block_graph", "expected"),
    [
        (None, "s.json", "b.json", {"s.json": "non_block", "b.json": "block"}),
        (None, "s.json", None, {"s.json": "non_block"}),
        (None, "", "b.json", {"b.json": "block"}),
        (None, None, None, {}),
        ("block", "s.json", "b.json", {"b.json": "block"}),
        ("block", "s.json", None, {"s.json": "block"}),
        ("block", None, "b.json", {"b.json": "block"}),
        ("non_block", "s.json", "b.json", {"s.json": "non_block"}),
        ("non_block", "", "b.json", {"b.json": "non_block"}),
        ("non_block", None, None, {}),
    ],
)
def test_the_key_of_a_half_may_be_in_the_other_halfs_field(
    half: Literal["block", "non_block"] | None,
    standardized: str | None,
    block_graph: str | None,
    expected: dict[str, str],
) -> None:
    assert view_keys(half, standardized, block_graph) == expected
