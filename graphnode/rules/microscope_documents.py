"""The status and the graphs of a microscope document."""

from __future__ import annotations

from typing import Literal

from graphnode.contract.task_ids import Half, View


def document_status(
    *, block: str | None, non_block: str | None, single: str | None
) -> Literal["COMPLETED", "FAILED", "PROCESSING"]:
    """A document's status, from the statuses of its results: None for a result that has not come.

    Parameters:
      block, non_block: of its halves, if it was sent in halves.
      single: of its one result, if it was sent whole.

    A document that was sent both ways is COMPLETED as soon as one way is.
    """
    if single == "COMPLETED" or block == non_block == "COMPLETED":
        return "COMPLETED"
    if "FAILED" in (single, block, non_block):
        return "FAILED"
    return "PROCESSING"


def graph_keys(half: Half | None, standardized_s3_key: str | None, block_graph_s3_key: str | None) -> dict[View, str]:
    """The S3 key of each view in a result.

    A half has only its own view. If its own field is empty, its key may be in the other half's field.
    """
    match half:
        case "block":
            keys: dict[View, str | None] = {"block": block_graph_s3_key or standardized_s3_key}
        case "non_block":
            keys = {"non_block": standardized_s3_key or block_graph_s3_key}
        case None:
            keys = {"non_block": standardized_s3_key, "block": block_graph_s3_key}
    return {view: key for view, key in keys.items() if key}
