"""Text sources in a user's input: chat exports as JSON, Markdown, plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

import msgspec

from graphnode.contract.original_ids import original_id
from graphnode.contract.values import utc

SourceKind = Literal["chat", "markdown", "notion", "file"]

#: The kind of source by file name extension. Other files are read as plain text.
KINDS: Mapping[str, SourceKind] = {".md": "markdown", ".markdown": "markdown", ".txt": "file", ".text": "file"}

#: Names for the same field in different chat exports.
IDS = ("conversation_id", "conversationId", "id", "uuid", "noteId", "note_id", "orig_id")
TITLES = ("title", "name")
CREATED = ("create_time", "created_at", "createdAt", "timestamp")
UPDATED = ("update_time", "updated_at", "updatedAt")
MESSAGES = ("messages", "chat_messages", "turns")
TEXTS = ("content", "text", "body", "parts", "markdown")
LISTS = ("conversations", "chats", "notes", "items")
WRITERS = ("role", "sender", "author")

#: Roles whose messages are left out of a conversation.
SILENT = frozenset({"system", "tool"})

#: Most characters in an ID, without its namespace.
LONGEST_ID = 400

#: Most characters in a title that is taken from a text.
TITLE_LENGTH = 80


class UnreadableInput(Exception):
    """No graph can be made of the input. The text is for the user's app."""


class TextSource(NamedTuple):
    """A conversation, note or file.

    Parameters:
      orig_id: the conversation's ID, or the file name without extension; with the prefix `src<n>_` if the request has
        several inputs.
      kind: the graph's `source_type`.
      title: its given title, or its beginning.
      sections: its messages, or the parts of a text below each heading.
      created, updated: None if the input does not say.
      extension: the file name extension, without the dot.
    """

    orig_id: str
    kind: SourceKind
    title: str
    sections: list[str]
    created: datetime | None
    updated: datetime | None
    extension: str

    @property
    def text(self) -> str:
        """Title and sections."""
        return "\n\n".join((self.title, *self.sections))

    @property
    def name(self) -> str:
        """The original ID as the worker stores it."""
        return original_id(self.orig_id)


def read_inputs(inputs: Mapping[str, bytes], *, input_type: str | None = None) -> tuple[list[TextSource], list[str]]:
    """The sources in a request's inputs, and the problems of unreadable inputs.

    Of a source in several inputs, such as two exports of the same conversations, only the latest version is kept.

    Parameters:
      inputs: the content of S3 objects, by key.
      input_type: the request's `inputType`; it only distinguishes Markdown files from Notion pages.

    Raises UnreadableInput if there is no source at all.
    """
    found: dict[str, TextSource] = {}
    problems: list[str] = []
    for number, (key, content) in enumerate(inputs.items()):
        namespace = f"src{number}_" if len(inputs) > 1 else ""
        try:
            sources = list(read_object(key, content, input_type=input_type))
        except UnreadableInput as error:
            problems.append(str(error))
            continue
        for source in sources:
            merged = source._replace(orig_id=namespace + source.orig_id)
            found[merged.name] = _later(merged, found.get(merged.name))
    if not found:
        raise UnreadableInput(" ".join(problems) or "The input holds no text.")
    return list(found.values()), problems


def read_object(key: str, content: bytes, *, input_type: str | None = None) -> Iterator[TextSource]:
    """The sources in one object. Raises UnreadableInput."""
    path = PurePosixPath(key)
    text = _text(path.name, content)
    if path.suffix.lower() == ".json" or (not path.suffix and text.lstrip()[:1] in ("{", "[")):
        yield from _read_json(path, text)
        return
    kind = KINDS.get(path.suffix.lower(), "file")
    if input_type and input_type.lower() == "notion" and kind == "markdown":
        kind = "notion"
    if source := _note(path.stem, text, kind=kind, extension=path.suffix.lower().removeprefix(".")):
        yield source


def split_sections(text: str) -> tuple[str | None, list[str]]:
    """The title of a text that begins with a heading, and its parts: below each heading, or paragraphs."""
    lines = text.strip().splitlines()
    title = None
    if lines and (heading := re.fullmatch(r"#\s+(.+?)\s*#*", lines[0])):
        title, lines = heading[1], lines[1:]
    parts = re.split(r"(?m)^(?=#{1,6}\s)", "\n".join(lines)) if any(map(_is_heading, lines)) else []
    parts = parts or re.split(r"\n\s*\n", "\n".join(lines))
    return title, [part.strip() for part in parts if part.strip()]


def _is_heading(line: str) -> bool:
    return re.match(r"#{1,6}\s", line) is not None


def _text(name: str, content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableInput(
            f"{name} is not text: byte {error.start} is not {encoding.removesuffix('-sig')}."
        ) from None
    if "\0" in text:
        raise UnreadableInput(f"{name} is not text: it has NUL characters.")
    if not text.strip():
        raise UnreadableInput(f"{name} is empty.")
    return text


def _read_json(path: PurePosixPath, text: str) -> Iterator[TextSource]:
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnreadableInput(f"{path.name} is not JSON: {error}") from None
    items = _items(document)
    sources = [
        source
        for number, item in enumerate(items)
        if (source := _conversation(item, name=path.stem if len(items) == 1 else f"{path.stem}-{number}"))
    ]
    if not sources:
        raise UnreadableInput(f"{path.name} has no conversation: expected `mapping`, `messages` or a list of messages.")
    yield from sources


def _items(document: Any) -> list[Any]:
    """The conversations of a document, which is a conversation, a list of them, or a list of messages."""
    if isinstance(document, dict):
        lists = [document[name] for name in LISTS if isinstance(document.get(name), list)]
        return [item for found in lists for item in found] or [document]
    if isinstance(document, list):
        return [{"messages": document}] if document and all(map(_is_message, document)) else document
    return []


def _is_message(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, dict) and _first(item, WRITERS) is not None)


def _conversation(item: Any, *, name: str) -> TextSource | None:
    """A conversation or note of an export; None if it has no text."""
    if not isinstance(item, dict):
        return None
    given_id, title = _first(item, IDS), _first(item, TITLES)
    created, updated = utc(_first(item, CREATED)), utc(_first(item, UPDATED))
    # No real ID has NUL characters or is that long, and the worker would refuse the document.
    orig_id = str(given_id or "").replace("\0", "")[:LONGEST_ID] or name
    messages = _first(item, MESSAGES)
    if isinstance(mapping := item.get("mapping"), dict):
        messages = list(_branch(mapping, item.get("current_node")))
    if not isinstance(messages, list):
        note = _note(orig_id, _content(item), kind="markdown", extension="json", given_title=title)
        return note and note._replace(created=created, updated=updated)
    texts = [(message, _content(message).strip()) for message in messages if not _is_silent(message)]
    texts = [(message, text) for message, text in texts if text]
    if not texts:
        return None
    times = [moment for message, _ in texts if isinstance(message, dict) and (moment := utc(_first(message, CREATED)))]
    return TextSource(
        orig_id=orig_id,
        kind="chat",
        title=str(title or _beginning(texts[0][1])),
        sections=[text for _, text in texts],
        created=created or min(times, default=None),
        updated=updated or max(times, default=None),
        extension="json",
    )


def _branch(mapping: Mapping[str, Any], current: Any) -> Iterator[Any]:
    """The messages on the current branch of a ChatGPT export. Discarded answers are on other branches."""
    if not (isinstance(current, str) and current in mapping):
        for node in mapping.values():
            yield node.get("message") if isinstance(node, dict) else None
        return
    way: list[Any] = []
    seen: set[str] = set()
    while isinstance(current, str) and current not in seen and isinstance(node := mapping.get(current), dict):
        seen.add(current)
        way.append(node.get("message"))
        current = node.get("parent")
    yield from reversed(way)


def _is_silent(message: Any) -> bool:
    if message is None:
        return True
    writer = _first(message, WRITERS) if isinstance(message, dict) else None
    if isinstance(writer, dict):
        writer = writer.get("role")
    return isinstance(writer, str) and writer in SILENT


def _content(message: Any) -> str:
    """The text of a message: a string, a list of parts, or one of them in a field like `content`."""
    match message:
        case str():
            return message
        case list():
            return "\n".join(filter(None, map(_content, message)))
        case dict():
            return next(filter(None, (_content(message[name]) for name in TEXTS if name in message)), "")
    return ""


def _note(orig_id: str, text: str, *, kind: SourceKind, extension: str, given_title: Any = None) -> TextSource | None:
    title, sections = split_sections(text)
    title = str(given_title) if given_title is not None else title
    if title is None and len(sections) > 1 and "\n" not in sections[0] and len(sections[0]) <= TITLE_LENGTH:
        title, sections = sections[0], sections[1:]
    if not sections and not title:
        return None
    return TextSource(orig_id, kind, title or _beginning(sections[0]), sections, None, None, extension)


def _later(new: TextSource, old: TextSource | None) -> TextSource:
    if old is None:
        return new
    # Without times, the later input is the newer one.
    times = [source.updated or source.created for source in (old, new)]
    return old if times[0] and times[1] and times[0] > times[1] else new


def _beginning(text: str) -> str:
    line = text.strip().splitlines()[0].lstrip("# ")
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"


def _first(fields: Any, names: Iterable[str]) -> Any:
    """The first non-empty one of these fields."""
    if not isinstance(fields, dict):
        return None
    return next((fields[name] for name in names if fields.get(name) not in (None, "")), None)


def utc_text(moment: datetime | None) -> str | None:
    """A time in the format of documents, with `Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None
