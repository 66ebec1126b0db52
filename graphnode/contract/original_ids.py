"""Finds the ID of a conversation, note, page or file in an ID that the AI server writes."""

from __future__ import annotations

import re
from typing import NamedTuple

#: The AI server's prefix for one of several merged inputs.
_NAMESPACE = re.compile(r"src[0-9]+_")

#: A ULID: 26 characters of base 32, the first at most 7. Letters outside Crockford's alphabet are accepted too.
ULID = "[0-7][0-9A-Za-z]{25}"

#: `{type}_{fileId}_{display name}`, with or without type and name. A file ID is `uf-` with alphanumerics and hyphens,
#: or a ULID. A ULID could also be a type: what comes first is the ID.
_FILE = re.compile(rf"(?:([A-Za-z0-9]+)_)??(uf-[A-Za-z0-9-]+|{ULID})(?:_(.*))?", re.DOTALL)


class FileName(NamedTuple):
    """The parts of a name that the AI server gives a file."""

    type: str | None
    id: str
    display_name: str | None


def original_id(raw: str, *, user_id: str | None = None) -> str:
    """The original ID, without what the AI server adds to it (the contract's "Original IDs").

    Parameters:
      raw: an ID from a document.
      user_id: removes `{userId}_` first; only for IDs from add-node batches.

    An ID that is nothing but a prefix is kept.
    """
    return file_id(_without_prefixes(raw, user_id))


def file_id(name: str) -> str:
    """The ID of a file in a name that the AI server gives it; other IDs unchanged. A file's ID leads to itself."""
    if "_" not in name:
        return name
    file = _FILE.fullmatch(name)
    return file[2] if file else name


def file_name(raw: str, *, user_id: str | None = None) -> FileName | None:
    """The parts of a file's name; None if it is not a file's. A ULID alone may be a file's ID. Parameters as above."""
    file = _FILE.fullmatch(_without_prefixes(raw, user_id))
    return FileName(*file.groups()) if file else None


def _without_prefixes(raw: str, user_id: str | None) -> str:
    if "_" not in raw:
        return raw
    name = raw
    if user_id:
        name = name.removeprefix(f"{user_id}_") or name
    if name.startswith("src") and (namespace := _NAMESPACE.match(name)):
        name = name[namespace.end() :] or name
    return name
