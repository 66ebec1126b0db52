"""What a microscope result is about, and what becomes of its document."""

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


def document_status(
    *, block: str | None, non_block: str | None, single: str | None
) -> Literal["COMPLETED", "FAILED", "PROCESSING"]:
    """A document's status from the results it has had: COMPLETED, FAILED, or None for none yet.

    Parameters:
      block, non_block: the results of its halves, if it was sent twice.
      single: its one result, if it was sent once.

    A document that was sent both ways is COMPLETED as soon as either way is.
    """
    if single == "COMPLETED" or block == non_block == "COMPLETED":
        return "COMPLETED"
    if "FAILED" in (single, block, non_block):
        return "FAILED"
    return "PROCESSING"


def graph_keys(half: Half | None, standardized_s3_key: str | None, block_graph_s3_key: str | None) -> dict[View, str]:
    """The S3 key of each view that a result brings.

    A half brings its own view alone, and may name it in the other's field when its own is empty.
    """
    match half:
        case "block":
            keys: dict[View, str | None] = {"block": block_graph_s3_key or standardized_s3_key}
        case "non_block":
            keys = {"non_block": standardized_s3_key or block_graph_s3_key}
        case None:
            keys = {"non_block": standardized_s3_key, "block": block_graph_s3_key}
    return {view: key for view, key in keys.items() if key}
