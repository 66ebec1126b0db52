"""Which embedding belongs to which node of a graph."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from graphnode.contract.original_ids import original_id
from graphnode.errors import InvalidDocument

#: What a pgvector column holds: 16,000 numbers of four bytes each.
MAX_WIDTH = 16_000
MAX_FLOAT4 = 3.402_823_466e38

#: The node ID of a conversation that is no node of the graph.
NO_NODE = -1


def match_embeddings(
    names: Iterable[str | None],
    rows: Iterable[list[float | None]],
    node_ids: Mapping[str, int],
    *,
    warnings: Counter[str],
    width_before: int | None = None,
) -> Iterator[tuple[int, list[float]]]:
    """The embeddings of a graph's nodes as (node ID, embedding), as they come; what is left out is counted.

    Left out are rows of no node, a node's second row, rows wider or narrower than the first, and rows with a value
    that is missing or not finite. Nodes that end without an embedding are counted too.

    Parameters:
      names: the original ID of each conversation of the features file.
      rows: its embeddings; row i belongs to conversation i.
      node_ids: the graph's node IDs by original ID.
      warnings: where it is counted, all of it when the last embedding has been taken.
      width_before: how wide the user's embeddings were until now; others are warned of, for another model made them.

    Raises InvalidDocument for a file with more or fewer rows than conversations, for with one missing somewhere every
    later embedding would go to another's node; and for one too wide to store.
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
    """Whether each value is there and fits into four bytes. A sum is the cheapest way to find NaN."""
    if None in row:
        return False
    numbers = cast(list[float], row)
    return math.isfinite(sum(numbers)) and min(numbers) >= -MAX_FLOAT4 and max(numbers) <= MAX_FLOAT4
