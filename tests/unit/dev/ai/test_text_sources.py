from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.dev.ai.text_sources import (
    CREATED,
    IDS,
    LISTS,
    MESSAGES,
    TEXTS,
    TITLES,
    TextSource,
    UnreadableInput,
    read_inputs,
)


def read(content: Any, key: str = "in/talk.json") -> list[TextSource]:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_inputs({key: raw})[0]


def message(text: str, role: str = "user") -> dict[str, Any]:
    return {"author": {"role": role}, "content": {"content_type": "text", "parts": [text]}}


EXPORT = {
    "conversation_id": "c-1",
    "title": "Bread",
    "create_time": 1_767_726_764.5,
    "update_time": 1_767_726_800,
    "current_node": "d",
    "mapping": {
        "root": {"message": None, "parent": None},
        "s": {"message": message("Be kind.", "system"), "parent": "root"},
        "a": {"message": message("Why is the crust soft?"), "parent": "s"},
        "thrown": {"message": message("A worse answer.", "assistant"), "parent": "a"},
        "d": {"message": message("Use steam.", "assistant"), "parent": "a"},
    },
}


def test_a_chatgpt_export_is_read_along_its_current_branch() -> None:
    (source,) = read([EXPORT])

    assert source.sections == ["Why is the crust soft?", "Use steam."]
    assert (source.orig_id, source.title, source.kind) == ("c-1", "Bread", "chat")
    assert source.created == datetime(2026, 1, 6, 19, 12, 44, 500_000, UTC)
    assert source.updated == datetime(2026, 1, 6, 19, 13, 20, tzinfo=UTC)


def test_an_export_without_a_current_node_is_read_whole() -> None:
    (source,) = read({**EXPORT, "current_node": None})

    assert source.sections == ["Why is the crust soft?", "A worse answer.", "Use steam."]


@pytest.mark.parametrize(
    "content",
    [
        [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}],
        ["Why?", "Because."],
        {"messages": [{"role": "user", "text": "Why?"}, {"role": "assistant", "text": "Because."}]},
        {"uuid": "talk", "name": "Why?", "chat_messages": [{"sender": "human", "text": "Why?"}, {"text": "Because."}]},
        {"conversations": [{"id": "talk", "messages": [{"role": "u", "content": [{"text": "Why?"}]}, "Because."]}]},
    ],
    ids=["a list of messages", "a list of texts", "one conversation", "Claude's form", "inside conversations"],
)
def test_simple_lists_of_messages_are_conversations(content: Any) -> None:
    (source,) = read(content)

    assert source.sections == ["Why?", "Because."]
    assert (source.orig_id, source.title, source.kind) == ("talk", "Why?", "chat")


def test_several_conversations_without_ids_are_told_apart() -> None:
    sources = read([{"messages": ["Bread?"]}, {"messages": ["Rust?"]}])

    assert [source.orig_id for source in sources] == ["talk-0", "talk-1"]


def test_a_note_in_json_is_a_source() -> None:
    (source,) = read({"notes": [{"noteId": "n-1", "title": "Rye", "content": "Rye sticks.\n\nWet hands help."}]})

    assert (source.orig_id, source.kind, source.sections) == ("n-1", "markdown", ["Rye sticks.", "Wet hands help."])


def test_markdown_has_its_headings_as_sections() -> None:
    (source,) = read(
        "# Rye ÷ 호밀\n\nIt sticks.\n\n## Dough\n\nWet hands.\n\n## Oven\n\nSteam.\n".encode(), "in/a b.md"
    )

    assert (source.orig_id, source.title, source.kind) == ("a b", "Rye ÷ 호밀", "markdown")
    assert source.sections == ["It sticks.", "## Dough\n\nWet hands.", "## Oven\n\nSteam."]


def test_plain_text_has_paragraphs_and_its_first_line_as_title() -> None:
    (source,) = read(b"\xef\xbb\xbfRolls on Sunday\n\nKnead at night.\n\nBake at nine.", "in/rolls.txt")

    assert (source.title, source.kind, source.extension) == ("Rolls on Sunday", "file", "txt")
    assert source.sections == ["Knead at night.", "Bake at nine."]


def test_utf_16_is_decoded() -> None:
    (source,) = read("교토 여행".encode("utf-16"), "in/k.txt")

    assert source.sections == ["교토 여행"]


def test_the_request_distinguishes_notion_pages() -> None:
    sources, _ = read_inputs({"a.md": b"Dough", "b.txt": b"Dough too"}, input_type="NOTION")

    assert [source.kind for source in sources] == ["notion", "file"]


def test_sources_of_several_inputs_have_a_namespace_that_the_worker_removes() -> None:
    sources, _ = read_inputs({"in/a.md": b"one", "in/b.md": b"two"})

    assert [source.orig_id for source in sources] == ["src0_a", "src1_b"]
    assert [source.name for source in sources] == ["a", "b"]


@pytest.mark.parametrize(("first", "second", "kept"), [(1, 2, "new"), (2, 1, "old"), (None, None, "new")])
def test_the_latest_version_of_a_conversation_counts(first: Any, second: Any, kept: str) -> None:
    old = {"id": "c", "updated_at": first, "messages": ["old"]}
    new = {"id": "c", "updated_at": second, "messages": ["new"]}

    sources, _ = read_inputs({"a.json": json.dumps(old).encode(), "b.json": json.dumps(new).encode()})

    assert [source.sections for source in sources] == [[kept]]


@pytest.mark.parametrize(
    ("key", "content", "reason"),
    [
        ("in/a.pdf", b"%PDF-1.7\n\xd0\xd4\xc5", "a.pdf is not text: byte 9 is not utf-8"),
        ("in/a.bin", b"a\0b", "a.bin is not text: it has NUL characters"),
        ("in/a.txt", b" \n ", "a.txt is empty"),
        ("in/a.json", b'{"mapping": {', "a.json is not JSON"),
        ("in/a.json", b"[" * 100_000, "a.json is not JSON"),
        ("in/a.json", b"[]", "a.json has no conversation"),
        ("in/a.json", b'{"title": "empty", "messages": [{"role": "system", "content": "x"}]}', "has no conversation"),
        ("in/a.json", b"7", "a.json has no conversation"),
    ],
)
def test_an_unreadable_input_is_an_error_with_the_reason(key: str, content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableInput, match=reason):
        read_inputs({key: content})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*IDS, *TITLES, *CREATED, *MESSAGES, *TEXTS, *LISTS, "mapping"]), inner)
        | st.dictionaries(st.sampled_from(["message", "parent", "current_node", "role", "author"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_has_sources_or_an_error_with_the_reason(document: Any) -> None:
    found = sources_or_reason(document)

    assert found
    assert isinstance(found, str) or all(source.orig_id and (source.sections or source.title) for source in found)


def sources_or_reason(document: Any) -> list[TextSource] | str:
    try:
        return read(document)
    except UnreadableInput as error:
        return str(error)


def test_an_unreadable_input_does_not_affect_the_others() -> None:
    sources, problems = read_inputs({"a.md": b"Dough", "b.pdf": b"\xff\x00"})

    assert [source.name for source in sources] == ["a"]
    assert problems == ["b.pdf is not text: byte 0 is not utf-8."]


def test_the_corpus_is_read_in_three_languages(sources: list[TextSource], later: list[TextSource]) -> None:
    kinds = [source.kind for source in sources]

    assert {kind: kinds.count(kind) for kind in ("chat", "markdown", "file")} == {"chat": 14, "markdown": 16, "file": 6}
    assert len({source.name for source in [*sources, *later]}) == 40
