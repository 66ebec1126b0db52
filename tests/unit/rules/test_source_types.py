from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.original_ids import file_name
from graphnode.rules.source_types import Source, source_of

ULID = "01KSB1ZRG9WP64HKHWT79EFQH5"


@pytest.mark.parametrize(
    ("given_type", "name", "expected"),
    [
        ("chat", "conv-1", Source("chat")),
        ("Conversation", "conv-1", Source("chat")),
        ("markdown", "note-1", Source("markdown")),
        ("note", "note-1", Source("markdown")),
        (" Notion ", "page-1", Source("notion")),
        ("pdf", "uf-1", Source("file", "pdf")),
        ("PPTX", "uf-1_report.pdf", Source("file", "pptx")),
        ("file", "uf-1", Source("file")),
        ("file", "pdf_uf-1_report", Source("file", "pdf")),
        ("file", "src2_DOCX_uf-1", Source("file", "docx")),
        ("file", "uf-1_Q3 보고서_final.PPTX", Source("file", "pptx")),
        ("file", "file_uf-1_report.docx", Source("file", "docx")),
        ("file", "uf-1_version 1.2", Source("file")),
        ("file", "uf-1_report", Source("file")),
        ("chat", "pdf_uf-1_report", Source("chat")),
        (None, "conv-1", Source("chat")),
        ("", ULID, Source("chat")),
        (None, f"src0_{ULID}", Source("chat")),
        (None, "uf-1", Source("file")),
        (None, f"{ULID}_report.pdf", Source("file", "pdf")),
        (" ", f"pdf_{ULID}", Source("file", "pdf")),
    ],
)
def test_a_source_is_one_of_four_types_and_a_file_has_its_raw_format(
    given_type: str | None, name: str, expected: Source
) -> None:
    assert source_of(given_type, file_name(name)) == expected


@given(st.none() | st.text(), st.text())
def test_any_source_is_one_of_four_types(given_type: str | None, name: str) -> None:
    source = source_of(given_type, file_name(name))

    assert source.type in ("chat", "markdown", "notion", "file")
    assert source.raw_format is None or source.type == "file"
    assert source.raw_format != ""


def test_the_raw_format_is_beside_the_rest_of_the_metadata() -> None:
    metadata = {"pages": 3}

    assert Source("file", "pdf").described_in(metadata) == {"pages": 3, "ai_raw_source_type": "pdf"}
    assert Source("file").described_in(metadata) == Source("chat").described_in(metadata) == {"pages": 3}
    assert metadata == {"pages": 3}
