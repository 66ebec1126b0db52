"""From what users give to sources of text: chat exports as JSON, Markdown and plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

import msgspec

from graphnode.contract.original_ids import original_id
from graphnode.contract.values import utc

Kind = Literal["chat", "markdown", "notion", "file"]

#: What a name ends with, and what it then is. Any other file is read as the text it may be.
KINDS: Mapping[str, Kind] = {".md": "markdown", ".markdown": "markdown", ".txt": "file", ".text": "file"}

#: Where the forms of a chat export keep the same thing.
IDS = ("conversation_id", "conversationId", "id", "uuid", "noteId", "note_id", "orig_id")
TITLES = ("title", "name")
CREATED = ("create_time", "created_at", "createdAt", "timestamp")
UPDATED = ("update_time", "updated_at", "updatedAt")
MESSAGES = ("messages", "chat_messages", "turns")
TEXTS = ("content", "text", "body", "parts", "markdown")
LISTS = ("conversations", "chats", "notes", "items")
WRITERS = ("role", "sender", "author")

#: Whose messages are no part of a conversation.
SILENT = frozenset({"system", "tool"})

#: Characters of an ID at most; namespaces come on top.
LONGEST_ID = 400

#: Characters of a title that is made from a text.
TITLE_LENGTH = 80


class UnreadableInput(Exception):
    """The input is nothing that can be made into a graph: the text is for the user's app."""


class Source(NamedTuple):
    """A conversation, note or file.

    Parameters:
      orig_id: the conversation's ID, or the file's name without its ending; of one of several inputs with `src<n>_`.
      kind: as the graph's `source_type`.
      title: as its writer named it, or how it begins.
      sections: its messages, or a text's parts under a heading each.
      created, updated: when, as far as the input says.
      extension: of the file it is from.
    """

    orig_id: str
    kind: Kind
    title: str
    sections: list[str]
    created: datetime | None
    updated: datetime | None
    extension: str

    @property
    def text(self) -> str:
        """All of it."""
        return "\n\n".join((self.title, *self.sections))

    @property
    def name(self) -> str:
        """The original ID as the worker stores it."""
        return original_id(self.orig_id)


def read_inputs(inputs: Mapping[str, bytes], *, input_type: str | None = None) -> tuple[list[Source], list[str]]:
    """The sources in a request's objects, and what is said of objects that could not be read.

    A source that comes twice, as in two exports of the same conversations, counts once: the later version.

    Parameters:
      inputs: the objects by key.
      input_type: what the request calls them; it decides between Markdown and Notion pages alone.

    Raises UnreadableInput when there is no source in them at all.
    """
    found: dict[str, Source] = {}
    faults: list[str] = []
    for number, (key, content) in enumerate(inputs.items()):
        namespace = f"src{number}_" if len(inputs) > 1 else ""
        try:
            sources = list(read_object(key, content, input_type=input_type))
        except UnreadableInput as error:
            faults.append(str(error))
            continue
        for source in sources:
            merged = source._replace(orig_id=namespace + source.orig_id)
            found[merged.name] = _later(merged, found.get(merged.name))
    if not found:
        raise UnreadableInput(" ".join(faults) or "The input holds no text.")
    return list(found.values()), faults


def read_object(key: str, content: bytes, *, input_type: str | None = None) -> Iterator[Source]:
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
    """A text's title, if it begins with a heading, and its parts: under headings, or else paragraphs."""
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
            f"{name} is no text: byte {error.start} is not {encoding.removesuffix('-sig')}."
        ) from None
    if "\0" in text:
        raise UnreadableInput(f"{name} is no text: it holds NUL characters.")
    if not text.strip():
        raise UnreadableInput(f"{name} is empty.")
    return text


def _read_json(path: PurePosixPath, text: str) -> Iterator[Source]:
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
        raise UnreadableInput(
            f"{path.name} holds no conversation: expected `mapping`, `messages` or a list of messages."
        )
    yield from sources


def _items(document: Any) -> list[Any]:
    """The conversations of a document: it may be one, a list of them, or one's list of messages."""
    if isinstance(document, dict):
        lists = [document[name] for name in LISTS if isinstance(document.get(name), list)]
        return [item for found in lists for item in found] or [document]
    if isinstance(document, list):
        return [{"messages": document}] if document and all(map(_is_message, document)) else document
    return []


def _is_message(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, dict) and _first(item, WRITERS) is not None)


def _conversation(item: Any, *, name: str) -> Source | None:
    """A conversation of an export, or a note in one; None without a word in it."""
    if not isinstance(item, dict):
        return None
    given_id, title = _first(item, IDS), _first(item, TITLES)
    created, updated = utc(_first(item, CREATED)), utc(_first(item, UPDATED))
    # Neither is in any real ID, and no document with such an ID would be taken.
    orig_id = str(given_id or "").replace("\0", "")[:LONGEST_ID] or name
    messages = _first(item, MESSAGES)
    if isinstance(mapping := item.get("mapping"), dict):
        messages = list(_branch(mapping, item.get("current_node")))
    if not isinstance(messages, list):
        note = _note(orig_id, _content(item), kind="markdown", extension="json", given_title=title)
        return note and note._replace(created=created, updated=updated)
    said = [(message, _content(message).strip()) for message in messages if not _is_silent(message)]
    said = [(message, text) for message, text in said if text]
    if not said:
        return None
    times = [moment for message, _ in said if isinstance(message, dict) and (moment := utc(_first(message, CREATED)))]
    return Source(
        orig_id=orig_id,
        kind="chat",
        title=str(title or _beginning(said[0][1])),
        sections=[text for _, text in said],
        created=created or min(times, default=None),
        updated=updated or max(times, default=None),
        extension="json",
    )


def _branch(mapping: Mapping[str, Any], current: Any) -> Iterator[Any]:
    """The messages of a ChatGPT export on the way to the current node: answers that were thrown away lie beside it."""
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
    """The text in a message: a text, parts of it, or both inside `content`."""
    match message:
        case str():
            return message
        case list():
            return "\n".join(filter(None, map(_content, message)))
        case dict():
            return next(filter(None, (_content(message[name]) for name in TEXTS if name in message)), "")
    return ""


def _note(orig_id: str, text: str, *, kind: Kind, extension: str, given_title: Any = None) -> Source | None:
    title, sections = split_sections(text)
    title = str(given_title) if given_title is not None else title
    if title is None and len(sections) > 1 and "\n" not in sections[0] and len(sections[0]) <= TITLE_LENGTH:
        title, sections = sections[0], sections[1:]
    if not sections and not title:
        return None
    return Source(orig_id, kind, title or _beginning(sections[0]), sections, None, None, extension)


def _later(new: Source, old: Source | None) -> Source:
    if old is None:
        return new
    # What has no time is taken to be as new as its place in the request.
    times = [source.updated or source.created for source in (old, new)]
    return old if times[0] and times[1] and times[0] > times[1] else new


def _beginning(text: str) -> str:
    line = text.strip().splitlines()[0].lstrip("# ")
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"


def _first(fields: Any, names: Iterable[str]) -> Any:
    """The first of these fields that is given."""
    if not isinstance(fields, dict):
        return None
    return next((fields[name] for name in names if fields.get(name) not in (None, "")), None)


def utc_text(moment: datetime | None) -> str | None:
    """A time as documents have it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None
