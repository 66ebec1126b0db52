from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.notifications import (
    NOTICES,
    DocumentCompleted,
    DocumentFailed,
    GraphCompleted,
    GraphFailed,
    GraphProgress,
    NodesCompleted,
    NodesFailed,
    Notice,
    PushText,
    SummaryCompleted,
    SummaryFailed,
    WorkspaceCompleted,
)
from graphnode.contract.requests import REQUESTS
from graphnode.rules.push_texts import LARGEST_PAYLOAD_BYTES, push_data, push_text, truncate, truncate_to_fcm_limit

COUNTS = {"taskId": "t-1", "nodeCount": 12, "edgeCount": 30}
WORKSPACE = {"taskId": "t-1", "workspaceName": "Brot", "completedCount": 3, "failedCount": 1}


@pytest.mark.parametrize(
    ("notice", "payload", "title", "body"),
    [
        (GraphCompleted, COUNTS, "Graph Ready", "Your knowledge graph (12 nodes) is ready!"),
        (GraphFailed, {}, "Graph Generation Failed", "Failed to generate knowledge graph. Please try again."),
        (SummaryCompleted, {}, "Graph Summary Ready", None),
        (SummaryFailed, {}, "Graph Summary Failed", None),
        (
            NodesCompleted,
            {"taskId": "t-1", "nodeCount": 0, "edgeCount": 0},
            "Graph Updated",
            "Your conversations are successfully added to your knowledge graph.",
        ),
        (NodesFailed, {}, "Graph Update Failed", None),
        (
            WorkspaceCompleted,
            WORKSPACE,
            "Microscope Workspace Ready",
            'Your workspace "Brot" is ready! (3 passed, 1 failed)',
        ),
    ],
)
def test_titles_and_bodies_are_those_of_the_contract(
    notice: type[Notice], payload: dict[str, Any], title: str, body: str
) -> None:
    text = push_text(notice.event, payload)

    assert text.title == title
    assert body in (None, text.body)


def test_progress_documents_and_requests_are_not_pushed() -> None:
    unpushed = {notice for notice in NOTICES.values() if notice.push is None}
    of_requests = {notice for kind in REQUESTS.values() for notice in (kind.requested, kind.not_published)}

    assert unpushed == {GraphProgress, DocumentCompleted, DocumentFailed, *of_requests}


def test_data_are_strings_with_type_and_task() -> None:
    payload = {"taskId": "t-1", "timestamp": "2026-05-24T08:02:08+00:00", "nodeCount": 12, "summaryIncluded": True}
    payload |= {"ratio": 0.5, "themes": ["a"], "error": None}

    assert push_data(GraphCompleted.event, "01K", payload) == {
        "type": "GRAPH_GENERATION_COMPLETED",
        "taskId": "t-1",
        "timestamp": "2026-05-24T08:02:08+00:00",
        "notificationId": "01K",
        "nodeCount": "12",
        "summaryIncluded": "true",
        "ratio": "0.5",
        "themes": '["a"]',
    }
    assert push_data(GraphFailed.event, "01K", {})["taskId"] == ""


def size(text: PushText, data: dict[str, str]) -> int:
    return len(json.dumps({**text._asdict(), **data}, ensure_ascii=False, separators=(",", ":")).encode())


class TestTruncateToFcmLimit:
    def test_small_pushes_are_unchanged(self) -> None:
        text, data = PushText("Title", "Body"), {"type": "T", "taskId": "t-1"}

        assert truncate_to_fcm_limit(text, data) == (text, data)

    def test_a_long_body_is_cut_to_the_limit(self) -> None:
        text, data = PushText("Title", "Wissen " * 2000), {"type": "T", "taskId": "t-1", "nodeCount": "3"}

        short, same = truncate_to_fcm_limit(text, data)

        assert same == data
        assert short.body.endswith("…")
        assert LARGEST_PAYLOAD_BYTES - 10 < size(short, same) <= LARGEST_PAYLOAD_BYTES

    def test_long_data_leaves_the_body_room(self) -> None:
        name = "Brot und Käse " * 500
        data = {"type": "T", "taskId": "t-1", "notificationId": "01K", "workspaceName": name, "error": "x" * 3000}

        short, shorter = truncate_to_fcm_limit(PushText("Title", f'Your workspace "{name}" is ready!'), data)

        assert size(short, shorter) <= LARGEST_PAYLOAD_BYTES
        assert len(short.body) > 400
        assert {key: shorter[key] for key in ("type", "taskId", "notificationId")} == {
            "type": "T",
            "taskId": "t-1",
            "notificationId": "01K",
        }
        assert shorter["workspaceName"].endswith("…")

    @given(st.text(max_size=3000), st.dictionaries(st.sampled_from("abc"), st.text(max_size=3000)))
    def test_any_push_fits_and_keeps_the_beginning(self, body: str, values: dict[str, str]) -> None:
        data = {"type": "T", "taskId": "t-1", "notificationId": "01K", **values}

        short, shorter = truncate_to_fcm_limit(PushText("Title", body * 5), data)

        assert size(short, shorter) <= LARGEST_PAYLOAD_BYTES
        assert (body * 5).startswith(short.body.removesuffix("…"))
        assert all(data[key].startswith(value.removesuffix("…")) for key, value in shorter.items())


class TestTruncate:
    @pytest.mark.parametrize(
        ("text", "max_bytes", "expected"),
        [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 5, "ab…"),
            ("교토 여행", 10, "교토…"),
            ("ab 'quoted' \"here\"", 17, "ab 'quoted' \"…"),
            ("e\u0301e\u0301e\u0301e\u0301", 10, "e\u0301e\u0301…"),
            ("e\u0301e\u0301e\u0301e\u0301", 7, "e\u0301…"),
            ("👩\u200d🔬👩\u200d🔬👩\u200d🔬", 20, "👩\u200d🔬…"),
            ("👍🏽👍🏽👍🏽", 16, "👍🏽…"),
        ],
    )
    def test_cuts_between_characters(self, text: str, max_bytes: int, expected: str) -> None:
        assert truncate(text, max_bytes=max_bytes) == expected


def test_a_name_is_printable_in_the_body_and_whole_in_the_data() -> None:
    name = "Brot\u202e\x1b[2J\x00\n </b>\u2066"

    text = push_text("MICROSCOPE_WORKSPACE_COMPLETED", {**WORKSPACE, "workspaceName": name})
    data = push_data("MICROSCOPE_WORKSPACE_COMPLETED", "01K", {**WORKSPACE, "workspaceName": name})

    assert text.body == 'Your workspace "Brot[2J </b>" is ready! (3 passed, 1 failed)'
    assert data["workspaceName"] == name
