"""Turns a summary document into the row that replaces a user's summary."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from graphnode.contract.documents import SummaryDocument
from graphnode.contract.values import utc
from graphnode.rules.rows import SummaryRow

#: The total in which a source type counts. Every other type is a file: `file`, or a raw format such as `pdf`.
_TOTALS = {
    None: "total_conversations",
    "": "total_conversations",
    "chat": "total_conversations",
    "markdown": "total_notes",
    "note": "total_notes",
    "notion": "total_notions",
}


def summary_row(document: SummaryDocument, source_types: Mapping[str | None, int]) -> SummaryRow:
    """The row of a summary, with totals counted from the graph.

    Parameters:
      document: the AI server's summary.
      source_types: the number of nodes of each source type in the user's graph; None: nodes without a source type.
    """
    return SummaryRow(
        overview={**msgspec.to_builtins(document.overview), **totals(source_types)},
        clusters=msgspec.to_builtins(document.clusters),
        patterns=msgspec.to_builtins(document.patterns),
        connections=msgspec.to_builtins(document.connections),
        recommendations=msgspec.to_builtins(document.recommendations),
        detail_level=document.detail_level or None,
        generated_at=utc(document.generated_at),
    )


def totals(source_types: Mapping[str | None, int]) -> dict[str, int]:
    """The five totals of the overview: all source nodes, and by kind of source."""
    counts = {"total_conversations": 0, "total_notes": 0, "total_notions": 0, "total_files": 0}
    for source_type, nodes in source_types.items():
        counts[_TOTALS.get(source_type and source_type.lower(), "total_files")] += nodes
    return {"total_source_nodes": sum(counts.values()), **counts}
