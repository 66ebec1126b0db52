"""Fixtures of the integration tests: a connection beside the pool, rows, and migrations of the test's own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812 # it is a class

from graphnode.storage import schema
from graphnode.storage.database import close_database, open_database

#: Runs a statement outside the pool; returns its rows.
Query: TypeAlias = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def query(database_url: str) -> Iterator[Query]:
    """Run a statement on the test's database, outside the pool, committed at once."""
    with querying(database_url) as run:
        yield run


@contextmanager
def querying(url: str) -> Iterator[Query]:
    """Run statements outside the pool, each committed at once."""
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


#: Seconds to wait for what must come.
PATIENCE_S = 30.0

ADD_COLUMN = "ALTER TABLE tasks ADD COLUMN more text"

INSERT_TASK = "INSERT INTO tasks (task_id, task_type, user_id, status) VALUES (%s, 'x', 'ada', 'PENDING')"

#: A migration outside a transaction; its statement replaces BODY.
ONLINE = """
from graphnode.storage.online import change_table, in_batches, make_index

atomic = False


def up(migrator, db):
    BODY
"""

MAKE_INDEX = 'make_index(db, "tasks_by_reason", "tasks (reason) WHERE reason IS NOT NULL")'


class AddMigration(Protocol):
    """Adds a migration; returns its file."""

    def __call__(self, name: str, statements: str, *, floor: str | None = None) -> Path: ...


@pytest.fixture
def empty_storage(empty_database_url: str) -> Iterator[None]:
    """The storage, open on a database of the test's own without a schema."""
    open_database(empty_database_url)
    yield
    close_database()


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations, to which a test may add."""
    copy = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, copy)
    monkeypatch.setattr(schema, "MIGRATIONS", copy)
    return copy


@pytest.fixture
def add_migration(migrations: Path) -> AddMigration:
    """Add a migration that is one transaction."""

    def add(name: str, statements: str, *, floor: str | None = None) -> Path:
        file = migrations / f"{name}.py"
        file.write_text(f"FLOOR = {floor!r}\n\n\ndef up(migrator, db):\n    db.execute_sql({statements!r})\n")
        return file

    return add


@pytest.fixture
def add_online(migrations: Path) -> Callable[[str, str], None]:
    """Add a migration that runs outside a transaction."""

    def add(name: str, body: str) -> None:
        (migrations / f"{name}.py").write_text(ONLINE.replace("BODY", body))

    return add


@pytest.fixture
def own_url(empty_storage: None, empty_database_url: str) -> str:
    """The URL of a database of the test's own, with all migrations."""
    schema.migrate()
    return empty_database_url


@pytest.fixture
def own_query(own_url: str) -> Iterator[Query]:
    """Run a statement on the database of `own_url`, committed at once."""
    with querying(own_url) as run:
        yield run


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that have ended when the test ends."""
    with ThreadPoolExecutor() as executor:
        yield executor


@pytest.fixture
def worker(own_url: str, threads: ThreadPoolExecutor) -> Iterator[Connection]:
    """A worker's connection, in a transaction that the test commits. It closes before the threads end."""
    with closing(psycopg2.connect(own_url, application_name="a worker")) as connection:
        yield connection


def wait_until(query: Query, statement: str) -> None:
    """Wait until a statement finds a row."""
    deadline = time.monotonic() + PATIENCE_S
    while not query(statement):
        assert time.monotonic() < deadline, statement
        time.sleep(0.02)


def wait_for_lock(url: str) -> None:
    """Wait until a session waits for a table."""
    with querying(url) as query:
        wait_until(
            query,
            "SELECT 1 FROM pg_locks JOIN pg_database ON oid = database AND datname = current_database()"
            " WHERE locktype = 'relation' AND NOT granted",
        )


@pytest.fixture
def migrate_to_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Apply the migrations before the one of this name."""

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
