"""The ID of the conversation, note, page or file behind an ID that the AI server writes."""

from __future__ import annotations

import re

#: The AI server's namespace of one of several merged inputs.
_NAMESPACE = re.compile(r"src[0-9]+_")

#: A ULID: 26 characters of base 32, the first at most 7. Letters that Crockford's alphabet leaves out are forgiven.
ULID = "[0-7][0-9A-Za-z]{25}"

#: `{type}_{fileId}_{display name}`; a file's ID is `uf-` with alphanumerics and hyphens, or a ULID.
_FILE = re.compile(rf"[A-Za-z0-9]+_(uf-[A-Za-z0-9-]+|{ULID})(?:_.*)?", re.DOTALL)


def original_id(raw: str, *, user_id: str | None = None) -> str:
    """Undo what the AI server adds to an original ID (the contract's "Original IDs").

    Parameters:
      raw: an ID as a document has it.
      user_id: whose `{userId}_` to take off first; given for the IDs of add-node documents alone.

    What is no more than a prefix is an ID in its own right and stays.
    """
    if "_" not in raw:
        return raw
    name = raw
    if user_id:
        name = name.removeprefix(f"{user_id}_") or name
    if name.startswith("src") and (namespace := _NAMESPACE.match(name)):
        name = name[namespace.end() :] or name
    if file := _FILE.fullmatch(name):
        return file[1]
    return name
