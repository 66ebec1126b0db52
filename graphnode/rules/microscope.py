"""What a microscope result is about, and what becomes of its document."""

from __future__ import annotations

from typing import Literal

from graphnode.contract.task_ids import Half, View


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
