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
    """Compare rows by all of their values."""
    before = {_comparable(row): row for row in stored}
    after = {_comparable(row): row for row in wanted}
    stale = [row for key, row in before.items() if key not in after]
    fresh = [row for key, row in after.items() if key not in before]
    return Difference(stale, fresh, (len(stale) + len(fresh)) / max(1, len(before) + len(after)))


def _comparable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row, JSON as its text: lists and dicts have no hash, and in Python 1, 1.0 and True are equal."""
    if not any(isinstance(value, list | dict) for value in row):
        return row
    return tuple(
        msgspec.json.encode(value, order="sorted") if isinstance(value, list | dict) else value for value in row
    )
