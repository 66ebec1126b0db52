"""The source type of a node: one of the four that the app filters by, and the raw format of a file beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from graphnode.contract.original_ids import FileName

SourceType = Literal["chat", "markdown", "notion", "file"]

#: The source types by the AI server's names for them. Any other name is the raw format of a file.
SOURCE_TYPES: Mapping[str, SourceType] = {
    "chat": "chat",
    "conversation": "chat",
    "markdown": "markdown",
    "note": "markdown",
    "notion": "notion",
    "file": "file",
}

#: Where a node's metadata has the raw format: the API server's name.
RAW_FORMAT = "ai_raw_source_type"

_EXTENSION = re.compile(r"\.([A-Za-z][A-Za-z0-9]{0,9})$")


class Source(NamedTuple):
    """What kind of source a node has.

    Parameters:
      raw_format: of a file, such as `pdf`; None if nothing says it.
    """

    type: SourceType
    raw_format: str | None = None

    def described_in(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """A node's metadata with the raw format."""
        return {**metadata, RAW_FORMAT: self.raw_format} if self.raw_format else metadata


def source_of(given: str | None, file: FileName | None = None) -> Source:
    """The source type that is stored, and the raw format.

    Parameters:
      given: the AI server's source type. Without it, what is named as a file is a file, and anything else a chat.
      file: the parts of the node's name, if it may be a file's. A ULID alone is also a conversation's.
    """
    name = (given or "").strip().lower()
    if not name:
        is_file = file and (file.id.startswith("uf-") or file.type or file.display_name is not None)
        name = "file" if is_file else "chat"
    kind = SOURCE_TYPES.get(name)
    if kind is None:
        return Source("file", name)
    return Source(kind, _format_of(file) if kind == "file" and file else None)


def _format_of(file: FileName) -> str | None:
    """The raw format that a file's name gives: its type, or the extension of its display name."""
    if file.type and file.type.lower() not in SOURCE_TYPES:
        return file.type.lower()
    extension = _EXTENSION.search(file.display_name or "")
    return extension[1].lower() if extension else None
