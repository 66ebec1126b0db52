"""What the integration tests share: a second way to look into the database."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import psycopg2
import pytest

from graphnode.storage import schema

#: Runs a statement outside the pool, and returns its rows.
Query: TypeAlias = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def query(database_url: str) -> Iterator[Query]:
    """Run a statement on the test's database over a connection of its own, committed at once."""
    with querying(database_url) as run:
        yield run


@contextmanager
def querying(url: str) -> Iterator[Query]:
    """Run statements over a connection of its own, each committed at once."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True

        def run(statement: str, *parameters: object) -> list[tuple[Any, ...]]:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def migrate_to_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Bring the open database to the schema before the migration of this name: that and the later ones are missing."""

    def run(name: str) -> None:
        before = tmp_path / f"before-{name}"
        shutil.copytree(schema.MIGRATIONS, before)
        for file in before.glob("[0-9]*.py"):
            if file.stem >= name:
                file.unlink()
        with monkeypatch.context() as patched:
            patched.setattr(schema, "MIGRATIONS", before)
            schema.migrate()

    return run
