"""Compares the stored rows of a table with the rows that are to replace them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from operator import eq, itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from graphnode.rules.rows import NodeRow

R = TypeVar("R", bound=tuple[Any, ...])

#: The types of values of a `jsonb` column; JSON text has its keys in order.
JSON = (list, dict, msgspec.Raw)


class Difference(NamedTuple, Generic[R]):
    """The rows to delete and to insert. A row that changed is in both.

    Parameters:
      stale: the keys of stored rows that are not wanted, in any order; a key of several columns is a tuple.
      fresh: wanted rows that are not stored, in the wanted order.
      share: the share of stale and fresh among all rows, from 0 to 1.
    """

    stale: list[Any]
    fresh: list[R]
    share: float


def difference(stored: Iterable[R], wanted: Iterable[R], *, key: int = 1) -> Difference[R]:
    """The difference of a table's rows, compared by all their values.

    Parameters:
      stored: is read once; no row of it is kept.
      key: how many of the first columns are the table's key.
    """
    key_of = itemgetter(*range(key))
    fresh = {key_of(row): row for row in wanted}
    stale, before, after = [], 0, len(fresh)
    stored = iter(stored)
    if (first := next(stored, None)) is not None:
        # Either every row of a table has JSON or none has.
        same = is_same if any(isinstance(value, JSON) for value in first) else eq
        for row in chain((first,), stored):
            before += 1
            name = key_of(row)
            if name in fresh and same(fresh[name], row):
                del fresh[name]
            else:
                stale.append(name)
    return Difference(stale, list(fresh.values()), (len(stale) + len(fresh)) / max(1, before + after))


def with_json_as_text(row: NodeRow) -> NodeRow:
    """The row with the text of its JSON: the objects would take ten times the memory."""
    return NodeRow._make(
        msgspec.Raw(msgspec.json.encode(value, order="sorted")) if isinstance(value, JSON) else value for value in row
    )


def is_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two rows have the same values, JSON text and objects alike. Python takes 1, 1.0 and True as equal."""
    return all(
        msgspec.json.encode(value, order="sorted") == msgspec.json.encode(stored, order="sorted")
        if isinstance(value, JSON)
        else value == stored
        for value, stored in zip(one, other, strict=True)
    )
