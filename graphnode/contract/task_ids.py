"""What a microscope task's ID says."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from graphnode.contract.original_ids import ULID

#: The two halves a document may be ingested in, and the two graphs an app may show of it.
Half = Literal["block", "non_block"]


View = Literal["block", "non_block"]


#: Which suffix of a task ID means which half.
SUFFIXES: dict[str, Half] = {"_block": "block", "_nonblock": "non_block"}


_DOCUMENT_ID = re.compile(rf"task_microscope_(?:node|file)_(?P<user_id>.+)_{ULID}", re.DOTALL)


class MicroscopeTask(NamedTuple):
    """What a microscope task ID says."""

    document_id: str
    half: Half | None
    """None: the document was sent once, whole."""
    user_id: str | None
    """None: the ID is of a form that names no user."""


def parse_task_id(task_id: str) -> MicroscopeTask:
    """Take a task ID apart (the contract's "Microscope task IDs"). User IDs may contain `_`."""
    document_id, half = task_id, None
    for suffix, named in SUFFIXES.items():
        if task_id.endswith(suffix) and task_id != suffix:
            document_id, half = task_id.removesuffix(suffix), named
            break
    match = _DOCUMENT_ID.fullmatch(document_id)
    return MicroscopeTask(document_id, half, match["user_id"] if match else None)
