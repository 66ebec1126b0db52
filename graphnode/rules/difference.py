"""What of a table's rows changes when others take their place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

R = TypeVar("R", bound=tuple[Any, ...])


class Difference(NamedTuple, Generic[R]):
    """Rows that are stored and not wanted, and rows that are wanted and not stored; a row that changed is both.

    Parameters:
      stale, fresh: these rows, in no order and in the wanted order.
      share: how much of all that rows there are is stale or fresh, from 0 to 1.
    """

    stale: list[R]
    fresh: list[R]
    share: float


def difference(stored: Iterable[R], wanted: Iterable[R]) -> Difference[R]:
    """Compare the rows of a table by all of their values."""
    before, after = _by_value(list(stored)), _by_value(list(wanted))
    stale = [row for value, row in before.items() if value not in after]
    fresh = [row for value, row in after.items() if value not in before]
    return Difference(stale, fresh, (len(stale) + len(fresh)) / max(1, len(before) + len(after)))


def _by_value(rows: list[R]) -> dict[tuple[Any, ...], R]:
    """The rows by what they are compared by. A table has JSON in each row or in none."""
    if rows and any(isinstance(value, list | dict) for value in rows[0]):
        return dict(zip(map(_with_json_as_text, rows), rows, strict=True))
    return dict(zip(rows, rows, strict=True))


def _with_json_as_text(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Lists and dicts have no hash, and in Python 1, 1.0 and True are equal."""
    return tuple(
        msgspec.json.encode(value, order="sorted") if isinstance(value, list | dict) else value for value in row
    )
