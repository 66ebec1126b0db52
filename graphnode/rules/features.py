"""Matches embeddings with the nodes of a graph."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from graphnode.contract.original_ids import original_id
from graphnode.errors import InvalidDocument

#: The limits of a pgvector column: 16,000 numbers of four bytes each.
MAX_WIDTH = 16_000
MAX_FLOAT4 = 3.402_823_466e38

#: Stands for the node ID of a conversation without a node.
NO_NODE = -1


def match_embeddings(
    names: Iterable[str | None],
    rows: Iterable[list[float | None]],
    node_ids: Mapping[str, int],
    *,
    warnings: Counter[str],
    width_before: int | None = None,
) -> Iterator[tuple[int, list[float]]]:
    """Stream the embeddings of a graph's nodes as (node ID, embedding); what is left out is counted.

    Left out are rows without a node, a node's second row, rows of another width than the first, and rows with a value
    that is missing or not finite. Nodes without an embedding are counted too.

    Parameters:
      names: the original ID of each conversation in the features document.
      rows: its embeddings; row i belongs to conversation i.
      node_ids: the graph's node IDs by original ID.
      warnings: the counts; complete after the last embedding.
      width_before: the width of the user's stored embeddings. Another width is counted: another model made them.

    Raises InvalidDocument if there are more or fewer rows than conversations, since a missing row would shift all later
    embeddings to wrong nodes; and if the embeddings are too wide to store.
    """
    owners = array("i", (node_ids.get(original_id(name or ""), NO_NODE) for name in names))
    done: set[int] = set()
    width = count = 0
    for count, row in enumerate(rows, start=1):
        if count > len(owners):
            raise InvalidDocument(f"embeddings[{count - 1}]: there are {len(owners)} conversations only")
        node_id, width = owners[count - 1], width or len(row)
        if width > MAX_WIDTH:
            raise InvalidDocument(f"embeddings[{count - 1}]: {width} numbers, and {MAX_WIDTH} can be stored")
        if node_id == NO_NODE:
            warnings["embeddings without a node"] += 1
        elif node_id in done:
            warnings["repeated embeddings"] += 1
        elif not row or len(row) != width:
            warnings["embeddings of another width"] += 1
        elif not _storable(row):
            warnings["embeddings that are not finite"] += 1
        else:
            done.add(node_id)
            yield node_id, cast(list[float], row)
    if count < len(owners):
        raise InvalidDocument(f"embeddings: {count} rows for {len(owners)} conversations")
    if missing := len(node_ids) - len(done):
        warnings["nodes without an embedding"] += missing
    if done and width_before not in (None, width):
        warnings[f"embeddings are {width} wide, and were {width_before}"] += 1


def _storable(row: list[float | None]) -> bool:
    """Whether no value is missing and each fits into four bytes. A sum is the fastest way to find NaN."""
    if None in row:
        return False
    numbers = cast(list[float], row)
    return math.isfinite(sum(numbers)) and min(numbers) >= -MAX_FLOAT4 and max(numbers) <= MAX_FLOAT4
