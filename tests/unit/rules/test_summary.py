from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.decoding import decode_summary
from graphnode.contract.documents import SummaryDocument, SummaryOverview
from graphnode.rules.summary import counts, summary_row


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
    counted = {name for name, nodes in counts({(source_type, None): 2}).items() if nodes == 2}

    assert counted == {total, "total_source_nodes"}


def test_files_are_counted_by_their_format() -> None:
    counted = counts(
        {
            ("file", "pdf"): 3,
            # As an earlier version stored them.
            ("PDF", None): 2,
            ("docx", None): 1,
            ("file", None): 4,
            ("chat", None): 9,
            ("markdown", "md"): 9,
        }
    )

    assert counted["file_counts_by_extension"] == {"docx": 1, "other": 4, "pdf": 5}
    assert counted["total_files"] == 10


@given(
    st.dictionaries(
        st.tuples(st.none() | st.text() | st.sampled_from(["chat", "notion", "note"]), st.none() | st.text()),
        st.integers(0, 99),
    )
)
def test_the_four_totals_add_up_to_all_nodes_and_the_formats_to_all_files(
    sources: dict[tuple[str | None, str | None], int],
) -> None:
    counted = counts(sources)
    files = counted.pop("file_counts_by_extension")

    assert counted["total_source_nodes"] == sum(sources.values())
    assert sum(counted.values()) == 2 * sum(sources.values())
    assert counted["total_files"] == sum(files.values())


def test_counted_totals_replace_the_ai_servers() -> None:
    document: dict[str, Any] = {
        "overview": {
            "total_source_nodes": 99,
            "total_conversations": 99,
            "total_files": None,
            "file_counts_by_extension": {"pdf": 99, "xlsx": 1},
            "summary_text": "여행",
        },
        "clusters": [{"cluster_id": "c1", "density": 0.5, "unknown": 1}],
        "patterns": None,
        "generated_at": "2026-05-24T08:02:08",
        "detail_level": "brief",
    }

    row = summary_row(
        decode_summary(json.dumps(document).encode()), {("chat", None): 2, ("file", "pdf"): 1, (None, None): 1}
    )

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
