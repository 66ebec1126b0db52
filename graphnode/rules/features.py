"""Which embedding belongs to which node of a graph."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import cast

from graphnode.documents import FeaturesDocument
from graphnode.rules.original_ids import original_id
from graphnode.rules.rows import Warnings

#: What a pgvector column holds: 16,000 numbers of four bytes each.
MAX_WIDTH = 16_000
MAX_FLOAT4 = 3.402_823_466e38


def match_embeddings(
    document: FeaturesDocument, node_ids: Mapping[str, int]
) -> tuple[list[tuple[int, list[float]]], Warnings]:
    """The embeddings of a graph's nodes as (node ID, embedding), and what was left out, counted.

    Left out are rows of no node, a node's second row, rows wider or narrower than the first, and rows with a value
    that is missing or not finite. Nodes that end without an embedding are counted too.

    A file with more or fewer rows than conversations is left out as a whole: row i belongs to conversation i, and with
    one missing somewhere every later embedding would go to another's node. So is a file too wide to store.

    Parameters:
      document: the features file.
      node_ids: the graph's node IDs by original ID.
    """
    conversations, rows = document.conversations, document.embeddings
    width = next((len(row) for row in rows if row), 0)
    if len(conversations) != len(rows):
        return [], {f"features left out: {len(rows)} embeddings for {len(conversations)} conversations": 1}
    if width > MAX_WIDTH:
        return [], {f"features left out: {width} wide, and {MAX_WIDTH} can be stored": 1}
    warnings: Counter[str] = Counter()
    embeddings: dict[int, list[float]] = {}
    for conversation, row in zip(conversations, rows, strict=True):
        node_id = node_ids.get(original_id(conversation.orig_id or ""))
        if node_id is None:
            warnings["embeddings without a node"] += 1
        elif node_id in embeddings:
            warnings["repeated embeddings"] += 1
        elif not row or len(row) != width:
            warnings["embeddings of another width"] += 1
        elif not _storable(row):
            warnings["embeddings that are not finite"] += 1
        else:
            embeddings[node_id] = cast(list[float], row)
    if missing := len(node_ids) - len(embeddings):
        warnings["nodes without an embedding"] = missing
    return list(embeddings.items()), dict(warnings)


def width_change(embeddings: list[tuple[int, list[float]]], before: int | None) -> Warnings:
    """A warning where a user's embeddings have another width than those they replace: another model made them.

    Parameters:
      embeddings: those to be stored, all of one width.
      before: how wide the user's were until now; None if there were none.
    """
    if not embeddings or before is None or len(embeddings[0][1]) == before:
        return {}
    return {f"embeddings are {len(embeddings[0][1])} wide, and were {before}": 1}


def _storable(row: list[float | None]) -> bool:
    """Whether each value is there and fits into four bytes. A sum is the cheapest way to find NaN."""
    if None in row:
        return False
    numbers = cast(list[float], row)
    return math.isfinite(sum(numbers)) and min(numbers) >= -MAX_FLOAT4 and max(numbers) <= MAX_FLOAT4
