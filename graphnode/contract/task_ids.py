"""Reads task IDs."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from graphnode.contract.original_ids import ULID

#: The task ID of some old AI builds' results. It names no task.
NO_TASK = "unknown"

#: The two halves that a document may be sent in.
Half = Literal["block", "non_block"]

#: The two graphs of a document that an app may show.
View = Literal["block", "non_block"]

#: The half that a suffix of a task ID means.
SUFFIXES: dict[str, Half] = {"_block": "block", "_nonblock": "non_block"}

_DOCUMENT_ID = re.compile(rf"task_microscope_(?:node|file)_(?P<user_id>.+)_{ULID}", re.DOTALL)


class MicroscopeTask(NamedTuple):
    """The parts of a microscope task ID."""

    document_id: str
    half: Half | None
    """None: the document was sent whole."""
    user_id: str | None
    """None: the form of the ID names no user."""


def parse_task_id(task_id: str) -> MicroscopeTask:
    """Parse a task ID (the contract's "Microscope task IDs"). User IDs may contain `_`."""
    document_id, half = task_id, None
    for suffix, named in SUFFIXES.items():
        if task_id.endswith(suffix) and task_id != suffix:
            document_id, half = task_id.removesuffix(suffix), named
            break
    match = _DOCUMENT_ID.fullmatch(document_id)
    return MicroscopeTask(document_id, half, match["user_id"] if match else None)
