"""Features documents in tests: read in pieces, and matched with nodes, as the worker does it."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from graphnode.clients.s3 import PIECE_BYTES
from graphnode.contract.decoding import FeaturesReader
from graphnode.rules.features import FLOAT_BYTES, NO_NODE, Embeddings

Row = list[float | None]


def read_features(raw: bytes, *, size: int = PIECE_BYTES) -> tuple[list[str | None], list[Row]]:
    """The names and rows of a document, read in pieces of a size."""
    reader = FeaturesReader()
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    rows = [row for piece in [*pieces, b""] for row in reader.feed(piece)]
    return reader.names, rows


def match_features(
    names: Sequence[str | None], rows: Iterable[Row], node_ids: Mapping[str, int]
) -> tuple[list[tuple[int, bytes]], Counter[str]]:
    """The embeddings that are stored, each with its node ID; and the warnings."""
    embeddings = Embeddings(node_ids)
    embeddings.take_names(list(names))
    packed = [found for row in rows if (found := embeddings.packed(row)) is not None]
    owners = embeddings.match()
    stored = [(owner, found) for owner, found in zip(owners, packed, strict=True) if owner != NO_NODE]
    return stored, embeddings.warnings


def unpack(packed: bytes) -> list[float]:
    """The numbers of a packed embedding."""
    return list(struct.unpack(f">{len(packed) // FLOAT_BYTES}f", packed))
