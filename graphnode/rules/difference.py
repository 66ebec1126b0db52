"""Compares the stored rows of a table with the rows that are to replace them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

R = TypeVar("R", bound=tuple[Any, ...])

#: The types of values of a `jsonb` column; JSON text has its keys in order.
JSON = (list, dict, msgspec.Raw)


class Difference(NamedTuple, Generic[R]):
    """The rows to delete and to insert. A row that changed is in both.

    Parameters:
      stale: stored rows that are not wanted, in any order, with their JSON as text.
      fresh: wanted rows that are not stored, in the wanted order.
      share: the share of stale and fresh among all rows, from 0 to 1.
    """

    stale: list[R]
    fresh: list[R]
    share: float


def difference(stored: Iterable[R], wanted: Iterable[R]) -> Difference[R]:
    """The difference of a table's rows, compared by all their values."""
    # Of stored rows only the text of their JSON is kept: the objects would take ten times the memory.
    before = {value: value for value, _ in _compared(stored)}
    after = dict(_compared(wanted))
    stale = [row for value, row in before.items() if value not in after]
    fresh = [row for value, row in after.items() if value not in before]
    return Difference(stale, fresh, (len(stale) + len(fresh)) / max(1, len(before) + len(after)))


def _compared(rows: Iterable[R]) -> Iterator[tuple[R, R]]:
    """Each row as it is compared, and as it is. Either every row of a table has JSON or none has."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    rows = chain((first,), rows)
    if any(isinstance(value, JSON) for value in first):
        yield from ((_with_json_as_text(row), row) for row in rows)
    else:
        yield from ((row, row) for row in rows)


def _with_json_as_text(row: R) -> R:
    """A row that can be compared: lists and dicts have no hash, and in them Python takes 1, 1.0 and True as equal."""
    values = (msgspec.json.encode(value, order="sorted") if isinstance(value, JSON) else value for value in row)
    kind = type(row)
    return kind(values) if kind is tuple else kind(*values)
