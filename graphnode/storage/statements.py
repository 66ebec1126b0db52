"""Statements of the hot path: peewee writes their SQL once, and each call binds its values."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
from peewee import Context, Node, SelectQuery, _WriteQuery

from graphnode.storage.database import Bound, database, together

#: A value's place in SQL.
NAMED = re.compile(r"%\((\w+)\)s")


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
      query: a query of peewee, with `given` in the place of each value that differs between calls; or SQL that peewee
        has no words for, with `%(name)s` there.
    """

    def __init__(self, query: SelectQuery | _WriteQuery | str) -> None:
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
        if isinstance(self._query, str):
            sql, places = written(self._query)
        else:
            sql, places = self._query.sql()
        return sql, list(places)


def given(name: str) -> Given:
    """The place of a value that each call gives: a text, number, time, list or None."""
    return Given(Place(name, _as_it_is))


def given_json(name: str) -> Given:
    """The place of a value for a `jsonb` column; None is NULL."""
    return Given(Place(name, _as_json))


def written(text: str) -> tuple[str, list[Place]]:
    """SQL with a `%s` in place of each `%(name)s`, and the places in their order."""
    return NAMED.sub("%s", text), [Place(name, _as_it_is) for name in NAMED.findall(text)]


def run(*statements: Bound) -> Any:
    """Run statements in one round trip; returns the cursor of the last one. Outside a transaction they are one."""
    return database.execute_sql(*together(*statements))


def _as_it_is(value: Any) -> Any:
    return value


def _as_json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
