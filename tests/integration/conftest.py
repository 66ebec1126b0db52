"""What the integration tests share: a second way to look into the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeAlias

import psycopg2
import pytest

#: Runs a statement outside the pool, and returns its rows.
Query: TypeAlias = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def query(database_url: str) -> Iterator[Query]:
    """Run a statement on the test's database over a connection of its own, committed at once."""
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True

        def run(statement: str, *parameters: object) -> list[tuple[Any, ...]]:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []

        yield run
