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


def view_keys(half: Half | None, standardized_s3_key: str | None, block_graph_s3_key: str | None) -> dict[str, View]:
    """The S3 keys of the views in a result, each with the view that it is in the field of.

    A half has only its own view. If its own field is empty, its key may be in the other half's field. The views of a
    document that was sent whole may be in either field: their contents tell them apart.
    """
    fields: list[tuple[str | None, View]] = [(standardized_s3_key, "non_block"), (block_graph_s3_key, "block")]
    match half:
        case "block":
            fields = [(block_graph_s3_key or standardized_s3_key, "block")]
        case "non_block":
            fields = [(standardized_s3_key or block_graph_s3_key, "non_block")]
    return {key: view for key, view in fields if key}
