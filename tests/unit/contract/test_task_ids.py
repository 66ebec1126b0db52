from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.task_ids import MicroscopeTask, parse_task_id

ULID = "01KSB1ZRG9WP64HKHWT79EFQH5"

user_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(
    ["user_1", "_", "a_block", "task_microscope_node_x", f"u_{ULID}", f"u_{ULID}_block", "두_번"]
)


@given(
    kind=st.sampled_from(["node", "file"]),
    user_id=user_ids,
    half=st.sampled_from([(None, ""), ("block", "_block"), ("non_block", "_nonblock")]),
)
def test_every_task_id_is_parsed_into_its_parts(
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
