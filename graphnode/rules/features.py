"""Chooses the embeddings that are stored, and matches them with the nodes of a graph."""

from __future__ import annotations

import math
import struct
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

from graphnode.contract.original_ids import original_id
from graphnode.errors import InvalidDocument

#: The limits of a pgvector column: 16,000 numbers of four bytes each.
MAX_WIDTH = 16_000
FLOAT_BYTES = 4
MAX_FLOAT4 = 3.402_823_466e38

#: Stands for the node ID of an embedding that is not stored.
NO_NODE = -1


class Embeddings:
    """Chooses the embeddings of a features document that can be stored, as they are read. All have one width.

    Parameters:
      node_ids: the graph's node IDs by original ID.
      warnings: the counts of what is left out.
      width: numbers in each embedding: that of the first one that is not empty, 0 before it.
    """

    def __init__(self, node_ids: Mapping[str, int]) -> None:
        self.warnings = Counter[str]()
        self.width = 0
        self._node_ids = node_ids
        #: The node ID of each conversation, or NO_NODE.
        self._owners = array("i")
        self._count = 0
        #: The row numbers of those that can be stored.
        self._chosen = array("i")

    def packed(self, row: list[float | None]) -> bytes | None:
        """The next embedding as it is stored (`pack`); None if it is left out: it has another width than the first one,
        or a value that is missing or not finite.

        Raises InvalidDocument if it is too wide to store.
        """
        self._count += 1
        self.width = self.width or len(row)
        if self.width > MAX_WIDTH:
            raise InvalidDocument(f"embeddings[{self._count - 1}]: {self.width} numbers, and {MAX_WIDTH} can be stored")
        if not row or len(row) != self.width:
            self.warnings["embeddings of another width"] += 1
        elif not _storable(row):
            self.warnings["embeddings that are not finite"] += 1
        else:
            self._chosen.append(self._count - 1)
            return pack(cast(list[float], row))
        return None

    def take_names(self, names: list[str | None]) -> None:
        """Note which nodes the next conversations are, and delete their names: up to a million would fill the memory.

        Parameters:
          names: their original IDs.
        """
        self._owners.extend(self._node_ids.get(original_id(name or ""), NO_NODE) for name in names)
        names.clear()

    def match(self) -> array[int]:
        """The node ID of each packed embedding, in order; NO_NODE if it has no node, or its node has one already.

        These are counted, and so are the nodes without an embedding.

        Raises InvalidDocument if there are more or fewer embeddings than conversations, since a missing one would shift
        all later ones to wrong nodes.
        """
        if self._count != len(self._owners):
            raise InvalidDocument(f"embeddings: {self._count} rows for {len(self._owners)} conversations")
        done: set[int] = set()
        owners = array("i")
        for number in self._chosen:
            node_id = self._owners[number]
            if node_id == NO_NODE:
                self.warnings["embeddings without a node"] += 1
            elif node_id in done:
                self.warnings["repeated embeddings"] += 1
                node_id = NO_NODE
            else:
                done.add(node_id)
            owners.append(node_id)
        if missing := len(self._node_ids) - len(done):
            self.warnings["nodes without an embedding"] += missing
        return owners


def pack(embedding: Sequence[float]) -> bytes:
    """An embedding as float32 numbers, the high byte first: as pgvector reads them, and a fifth of the JSON."""
    return struct.pack(f">{len(embedding)}f", *embedding)


def _storable(row: list[float | None]) -> bool:
    """Whether no value is missing and each fits into four bytes. A sum is the fastest way to find NaN."""
    if None in row:
        return False
    numbers = cast(list[float], row)
    return math.isfinite(sum(numbers)) and min(numbers) >= -MAX_FLOAT4 and max(numbers) <= MAX_FLOAT4
