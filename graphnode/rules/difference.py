"""Compares the stored rows of a table with the rows that are to replace them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

R = TypeVar("R", bound=tuple[Any, ...])


class Difference(NamedTuple, Generic[R]):
    """The rows to delete and to insert. A row that changed is in both.

    Parameters:
      stale: stored rows that are not wanted, in any order.
      fresh: wanted rows that are not stored, in the wanted order.
      share: the share of stale and fresh among all rows, from 0 to 1.
    """

    stale: list[R]
    fresh: list[R]
    share: float


def difference(stored: Iterable[R], wanted: Iterable[R]) -> Difference[R]:
    """The difference of a table's rows, compared by all their values."""
    before, after = _by_value(list(stored)), _by_value(list(wanted))
    stale = [row for value, row in before.items() if value not in after]
    fresh = [row for value, row in after.items() if value not in before]
    return Difference(stale, fresh, (len(stale) + len(fresh)) / max(1, len(before) + len(after)))


def _by_value(rows: list[R]) -> dict[tuple[Any, ...], R]:
    """The rows by their values. Either every row of a table has JSON or none has."""
    if rows and any(isinstance(value, list | dict) for value in rows[0]):
        return dict(zip(map(_with_json_as_text, rows), rows, strict=True))
    return dict(zip(rows, rows, strict=True))


def _with_json_as_text(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row that can be compared: lists and dicts have no hash, and in them Python takes 1, 1.0 and True as equal."""
    return tuple(
        msgspec.json.encode(value, order="sorted") if isinstance(value, list | dict) else value for value in row
    )
