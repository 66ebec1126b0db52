from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.original_ids import original_id

ULID = "01KSB1ZRG9WP64HKHWT79EFQH5"

plain_ids = st.text(alphabet=st.characters(exclude_characters="_", exclude_categories=["Cs"]), min_size=1)
file_ids = st.from_regex(r"uf-[A-Za-z0-9-]+", fullmatch=True) | st.from_regex(
    r"[0-7][0-9A-HJKMNP-TV-Z]{25}", fullmatch=True
)
user_ids = st.text(alphabet="abc-_1", min_size=1)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("conv-1", "conv-1"),
        ("conv_1", "conv_1"),
        ("src0_conv-1", "conv-1"),
        ("src12_conv_1", "conv_1"),
        ("src0_src1_conv", "src1_conv"),
        ("src_conv", "src_conv"),
        ("source1_conv", "source1_conv"),
        ("pdf_uf-e2e-docx_report", "uf-e2e-docx"),
        ("src3_pptx_uf-42_Q3 보고서_final.pptx", "uf-42"),
        ("docx_uf-42", "uf-42"),
        ("uf-42", "uf-42"),
        ("uf-a_report.pdf", "uf-a"),
        ("src0_uf-a_report.pdf", "uf-a"),
        ("uf-a_", "uf-a"),
        ("uf-a_uf-b", "uf-a"),
        (f"{ULID}_report.pdf", ULID),
        (f"src2_{ULID}_report.pdf", ULID),
        (f"{ULID}_{ULID[::-1]}_report", ULID),
        (f"{ULID}_uf-b_report", ULID),
        (f"{ULID[:25]}_report.pdf", f"{ULID[:25]}_report.pdf"),
        (f"pdf_{ULID}_two\nlines", ULID),
        (f"pdf_{ULID}", ULID),
        (f"pdf_{ULID}X_report", f"pdf_{ULID}X_report"),
        ("pdf_report", "pdf_report"),
        ("src0_", "src0_"),
        ("", ""),
    ],
)
def test_the_ai_servers_prefixes_are_removed(raw: str, expected: str) -> None:
    assert original_id(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("user_1_conv-1", "conv-1"),
        ("user_1_src2_conv-1", "conv-1"),
        ("user_1_src0_pdf_uf-a_b", "uf-a"),
        ("user_1_uf-a_report.pdf", "uf-a"),
        (f"user_1_{ULID}_report.pdf", ULID),
        ("conv-1", "conv-1"),
        ("user_2_conv-1", "user_2_conv-1"),
        ("user_1_", "user_1_"),
        ("user_1_user_1_x", "user_1_x"),
    ],
)
def test_the_user_is_removed_first(raw: str, expected: str) -> None:
    assert original_id(raw, user_id="user_1") == expected


@given(orig_id=plain_ids, namespace=st.integers(min_value=0), user_id=user_ids)
def test_every_namespaced_id_leads_back_to_its_original(orig_id: str, namespace: int, user_id: str) -> None:
    assert original_id(orig_id) == orig_id
    assert original_id(f"src{namespace}_{orig_id}") == orig_id
    assert original_id(f"{user_id}_src{namespace}_{orig_id}", user_id=user_id) == orig_id


@given(
    file_id=file_ids,
    namespace=st.just("") | st.from_regex("src[0-9]+_", fullmatch=True),
    kind=st.just("") | st.from_regex("[A-Za-z0-9]{1,6}_", fullmatch=True),
    name=st.just("") | st.text().map(lambda name: f"_{name}"),
)
def test_every_display_name_leads_back_to_its_file(file_id: str, namespace: str, kind: str, name: str) -> None:
    assert original_id(f"{namespace}{kind}{file_id}{name}") == file_id


@given(st.text(), user_ids)
def test_an_id_never_ends_up_empty(raw: str, user_id: str) -> None:
    assert bool(original_id(raw, user_id=user_id)) == bool(raw)
