"""Statements of the hot path: peewee writes their SQL once, and each call binds its values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
from peewee import Context, Node, SelectQuery, _WriteQuery

from graphnode.storage.database import database


class Bound(NamedTuple):
    """A statement with its values: SQL with a `%s` for each, as psycopg2 takes it."""

    sql: str
    values: list[Any]


class Place(NamedTuple):
    """Where a call's value goes.

    Parameters:
      name: the value's name in the call.
      convert: makes of the value what psycopg2 binds.
    """

    name: str
    convert: Callable[[Any], Any]


class Given(Node):
    """A value in a query that each call gives."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __sql__(self, context: Context) -> Context:
        written: Context = context.value(self.place, converter=False)
        return written


class Statement:
    """A statement whose SQL is written at its first use: peewee takes longer to write it than PostgreSQL to run it.

    Parameters:
      query: a query of peewee, with `given` in the place of each value that differs between calls.
    """

    def __init__(self, query: SelectQuery | _WriteQuery) -> None:
        self._query = query

    def __call__(self, **values: Any) -> Any:
        """Run it; returns psycopg2's cursor.

        Parameters:
          values: by the names that `given` has.
        """
        return run(self.bind(**values))

    def bind(self, **values: Any) -> Bound:
        """The statement with these values, for `run`."""
        sql, places = self._written
        return Bound(
            sql, [place.convert(values[place.name]) if isinstance(place, Place) else place for place in places]
        )

    @cached_property
    def _written(self) -> tuple[str, list[Any]]:
        sql, places = self._query.sql()
        return sql, list(places)


def given(name: str) -> Given:
    """The place of a value that each call gives: a text, number, time, list or None."""
    return Given(Place(name, lambda value: value))


def given_json(name: str) -> Given:
    """The place of a value for a `jsonb` column; None is NULL."""
    return Given(Place(name, lambda value: None if value is None else msgspec.json.encode(value).decode()))


def run(*statements: Bound) -> Any:
    """Run statements in one round trip; returns the cursor of the last one. Outside a transaction they are one."""
    return database.execute_sql(
        "; ".join(statement.sql for statement in statements),
        [value for statement in statements for value in statement.values],
    )
