"""What the integration tests share: a second way to look into the database."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import psycopg2
import pytest

from graphnode.storage import schema
from graphnode.storage.database import close_database, open_database

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


#: Stores tasks: how many, their status, and how long ago they were updated, as PostgreSQL writes it.
PutTasks: TypeAlias = Callable[[int, str, str], None]

TASKS = """
INSERT INTO tasks (task_id, task_type, user_id, status, finished_at, updated_at)
SELECT %s || n, 'ADD_NODE_RESULT', 'ada', %s, now() - %s::interval, now() - %s::interval
FROM generate_series(1, %s) AS n
"""


@pytest.fixture
def put_tasks(query: Query) -> PutTasks:
    """Store so many tasks of a status, whose last update was so long ago."""

    def put(count: int, status: str, age: str) -> None:
        finished = None if status in ("PENDING", "PROGRESS") else age
        query(TASKS, f"{status}-{age}-", status, finished, age, count)

    return put


class AddMigration(Protocol):
    """Adds a migration to those that there are, and gives its file."""

    def __call__(self, name: str, statements: str, *, floor: str | None = None) -> Path: ...


@pytest.fixture
def empty_storage(empty_database_url: str) -> Iterator[None]:
    """The storage, open on a database of the test's own without a schema."""
    open_database(empty_database_url, max_connections=4)
    yield
    close_database()


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations, in which a test may add one."""
    copy = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, copy)
    monkeypatch.setattr(schema, "MIGRATIONS", copy)
    return copy


@pytest.fixture
def add_migration(migrations: Path) -> AddMigration:
    """Add a migration of statements that are one transaction."""

    def add(name: str, statements: str, *, floor: str | None = None) -> Path:
        file = migrations / f"{name}.py"
        file.write_text(f"FLOOR = {floor!r}\n\n\ndef up(migrator, db):\n    db.execute_sql({statements!r})\n")
        return file

    return add


def wait_for_lock(url: str) -> None:
    """Wait until somebody waits for a table."""
    with querying(url) as query:
        deadline = time.monotonic() + 10
        while not query(
            "SELECT 1 FROM pg_locks JOIN pg_database ON oid = database AND datname = current_database()"
            " WHERE locktype = 'relation' AND NOT granted"
        ):
            assert time.monotonic() < deadline, "nobody waits for a lock"


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
