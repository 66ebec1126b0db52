"""Turns a summary document into the row that replaces a user's summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from graphnode.contract.documents import SummaryDocument
from graphnode.contract.values import utc
from graphnode.rules.rows import SummaryRow
from graphnode.rules.source_types import SourceType, source_of

#: The total in which each source type counts.
_TOTALS: Mapping[SourceType, str] = {
    "chat": "total_conversations",
    "markdown": "total_notes",
    "notion": "total_notions",
    "file": "total_files",
}

#: Counts files whose format is unknown.
OTHER_FORMATS = "other"

#: The number of nodes by source type and raw format. Earlier versions stored a format as the type, or None.
Sources = Mapping[tuple[str | None, str | None], int]


def summary_row(document: SummaryDocument, sources: Sources) -> SummaryRow:
    """The row of a summary, with its counts of sources.

    Parameters:
      document: the AI server's summary.
      sources: the nodes in the user's graph.
    """
    return SummaryRow(
        overview={**msgspec.to_builtins(document.overview), **counts(sources)},
        clusters=msgspec.to_builtins(document.clusters),
        patterns=msgspec.to_builtins(document.patterns),
        connections=msgspec.to_builtins(document.connections),
        recommendations=msgspec.to_builtins(document.recommendations),
        detail_level=document.detail_level or None,
        generated_at=utc(document.generated_at),
    )


def counts(sources: Sources) -> dict[str, Any]:
    """The overview's counts: all source nodes, those of each kind, and files by their format."""
    totals = dict.fromkeys(_TOTALS.values(), 0)
    files = Counter[str]()
    for (source_type, raw_format), nodes in sources.items():
        source = source_of(source_type)
        totals[_TOTALS[source.type]] += nodes
        if source.type == "file":
            files[raw_format or source.raw_format or OTHER_FORMATS] += nodes
    return {
        "total_source_nodes": sum(totals.values()),
        **totals,
        "file_counts_by_extension": dict(sorted(files.items())),
    }
