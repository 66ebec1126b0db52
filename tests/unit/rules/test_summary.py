from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.decoding import decode_summary
from graphnode.contract.documents import SummaryDocument, SummaryOverview
from graphnode.rules.summary import summary_row, totals


@pytest.mark.parametrize(
    ("source_type", "total"),
    [
        (None, "total_conversations"),
        ("", "total_conversations"),
        ("chat", "total_conversations"),
        ("markdown", "total_notes"),
        ("note", "total_notes"),
        ("notion", "total_notions"),
        ("file", "total_files"),
        ("pdf", "total_files"),
        ("PPTX", "total_files"),
        ("Chat", "total_conversations"),
    ],
)
def test_each_source_type_counts_in_one_total(source_type: str | None, total: str) -> None:
    counted = {name for name, nodes in totals({source_type: 2}).items() if nodes}

    assert counted == {total, "total_source_nodes"}


@given(st.dictionaries(st.none() | st.text() | st.sampled_from(["chat", "notion", "note"]), st.integers(0, 99)))
def test_the_four_totals_add_up_to_all_nodes(source_types: dict[str | None, int]) -> None:
    counted = totals(source_types)

    assert counted["total_source_nodes"] == sum(source_types.values())
    assert sum(counted.values()) == 2 * sum(source_types.values())


def test_counted_totals_replace_the_ai_servers() -> None:
    document: dict[str, Any] = {
        "overview": {
            "total_source_nodes": 99,
            "total_conversations": 99,
            "total_files": None,
            "file_counts_by_extension": {"pdf": 1},
            "summary_text": "여행",
        },
        "clusters": [{"cluster_id": "c1", "density": 0.5, "unknown": 1}],
        "patterns": None,
        "generated_at": "2026-05-24T08:02:08",
        "detail_level": "brief",
    }

    row = summary_row(decode_summary(json.dumps(document).encode()), {"chat": 2, "pdf": 1, None: 1})

    assert row.overview["total_source_nodes"] == 4
    assert row.overview["total_conversations"] == 3
    assert row.overview["total_files"] == 1
    assert row.overview["total_notes"] == row.overview["total_notions"] == 0
    assert row.overview["summary_text"] == "여행"
    assert row.overview["file_counts_by_extension"] == {"pdf": 1}
    assert row.clusters[0]["cluster_id"] == "c1"
    assert row.clusters[0]["top_keywords"] == []
    assert row.patterns == row.connections == row.recommendations == []
    assert row.detail_level == "brief"
    assert row.generated_at == datetime(2026, 5, 24, 8, 2, 8, tzinfo=UTC)
    assert json.loads(json.dumps(row[:5], allow_nan=False))


def test_an_unreadable_time_is_left_out_alone() -> None:
    row = summary_row(SummaryDocument(SummaryOverview(), generated_at="soon", detail_level=""), {})

    assert row.generated_at is None
    assert row.detail_level is None
