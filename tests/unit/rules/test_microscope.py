from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.task_ids import MicroscopeTask, parse_task_id
from graphnode.rules.microscope import document_status, graph_keys

ULID = "01KSB1ZRG9WP64HKHWT79EFQH5"

statuses = st.sampled_from([None, "COMPLETED", "FAILED"])
user_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(
    ["user_1", "_", "a_block", "task_microscope_node_x", f"u_{ULID}", f"u_{ULID}_block", "두_번"]
)


@given(
    kind=st.sampled_from(["node", "file"]),
    user_id=user_ids,
    half=st.sampled_from([(None, ""), ("block", "_block"), ("non_block", "_nonblock")]),
)
def test_every_task_id_gives_back_what_it_is_made_of(
    kind: str, user_id: str, half: tuple[Literal["block", "non_block"] | None, str]
) -> None:
    document_id = f"task_microscope_{kind}_{user_id}_{ULID}"

    assert parse_task_id(document_id + half[1]) == MicroscopeTask(document_id, half[0], user_id)


@pytest.mark.parametrize(
    ("task_id", "expected"),
    [
        ("doc-1", MicroscopeTask("doc-1", None, None)),
        ("doc-1_block", MicroscopeTask("doc-1", "block", None)),
        ("doc-1_nonblock", MicroscopeTask("doc-1", "non_block", None)),
        ("_block", MicroscopeTask("_block", None, None)),
        (f"task_microscope_web_u_{ULID}", MicroscopeTask(f"task_microscope_web_u_{ULID}", None, None)),
        (f"task_microscope_node_{ULID}", MicroscopeTask(f"task_microscope_node_{ULID}", None, None)),
        ("task_microscope_node_u_1", MicroscopeTask("task_microscope_node_u_1", None, None)),
    ],
)
def test_a_task_id_of_another_form_names_no_user(task_id: str, expected: MicroscopeTask) -> None:
    assert parse_task_id(task_id) == expected


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
def test_a_document_sent_once_takes_its_results_status(status: str) -> None:
    assert document_status(block=None, non_block=None, single=status) == status


@given(statuses, statuses)
def test_a_document_that_completed_one_way_is_completed(block: str | None, non_block: str | None) -> None:
    assert document_status(block=block, non_block=non_block, single="COMPLETED") == "COMPLETED"


@pytest.mark.parametrize(
    ("half", "standardized", "block_graph", "expected"),
    [
        (None, "s.json", "b.json", {"non_block": "s.json", "block": "b.json"}),
        (None, "s.json", None, {"non_block": "s.json"}),
        (None, "", "b.json", {"block": "b.json"}),
        (None, None, None, {}),
        ("block", "s.json", "b.json", {"block": "b.json"}),
        ("block", "s.json", None, {"block": "s.json"}),
        ("block", None, "b.json", {"block": "b.json"}),
        ("non_block", "s.json", "b.json", {"non_block": "s.json"}),
        ("non_block", "", "b.json", {"non_block": "b.json"}),
        ("non_block", None, None, {}),
    ],
)
def test_a_half_finds_its_key_also_in_the_others_field(
    half: Literal["block", "non_block"] | None,
    standardized: str | None,
    block_graph: str | None,
    expected: dict[str, str],
) -> None:
    assert graph_keys(half, standardized, block_graph) == expected
