"""PostgreSQL and a stub of SQS: one server and one migrated database for a run. Each test leaves the database empty."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg2
import pytest
from hypothesis import Phase, settings
from psycopg2 import sql

from benchmarks.sqs_stub import StubServer
from graphnode.storage.database import close_database, open_database
from graphnode.storage.schema import migrate

# Every run tries the same examples, so that a failure comes from a change. Each night tries other and more examples.
settings.register_profile("normal", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
# For `make mutants`: it needs a failure, not the smallest example.
settings.register_profile("unshrunk", settings.get_profile("normal"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))

# A terminal may name a development stack's file for all commands; the tests have stacks of their own.
os.environ.pop("GRAPHNODE_ENV_FILE", None)

#: The deployment files, among them the database's roles.
DEPLOY = Path(__file__).parents[1] / "deploy"

#: The most connections of a test's pool.
POOL_SIZE = 8

#: Empties every table except those kept. With few rows, DELETE is a hundred times faster than TRUNCATE.
EMPTY = """
DO $$
DECLARE name text;
BEGIN
    SET LOCAL lock_timeout = '10s';
    -- PostgreSQL's statistics are of another test: with them, it would read all edges for each node.
    SET LOCAL enable_seqscan = off;
    FOR name IN
        SELECT tablename FROM pg_tables WHERE schemaname = current_schema AND tablename <> ALL({kept})
    LOOP
        EXECUTE format('DELETE FROM %I', name);
    END LOOP;
END $$
"""


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server to create databases on: DATABASE_URL, or an embedded server's."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    from graphnode.dev.postgres import start_postgres

    with start_postgres(Path(tempfile.mkdtemp(prefix="graphnode-test-"))) as server:
        yield server.url


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port on loopback that accepts connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that PostgreSQL's user may enter. It may not enter those of pytest, whose every run closes them."""
    with tempfile.TemporaryDirectory(prefix="graphnode-test-", ignore_cleanup_errors=True) as made:
        yield Path(made).resolve()


@pytest.fixture(scope="session")
def migrated_database_url(postgres: str) -> Iterator[str]:
    """The URL of this run's database, with the newest schema."""
    with migrated_database(postgres) as url:
        yield url


@pytest.fixture
def database_url(migrated_database_url: str) -> Iterator[str]:
    """The URL of a database with the newest schema and no rows. At the test's end nobody may use it any more."""
    yield migrated_database_url
    empty_database(migrated_database_url)


@pytest.fixture
def empty_database_url(postgres: str) -> Iterator[str]:
    """The URL of a database of this test alone, without a schema."""
    with new_database(postgres) as url:
        yield url


def use_settings(known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have these be the process's settings until the test's end. None: read from the environment when first asked."""
    monkeypatch.setattr("graphnode.settings._known", known)


@pytest.fixture
def storage_role() -> str | None:
    """The role of deploy/postgres-roles.sql that opens the storage. None: a superuser."""
    return None


@pytest.fixture
def storage(database_url: str, storage_role: str | None) -> Iterator[None]:
    """Opens the storage on a database with the newest schema and no rows."""
    open_database(in_role(database_url, storage_role) if storage_role else database_url)
    yield
    close_database()


@pytest.fixture(scope="session")
def stub_server() -> Iterator[StubServer]:
    """One stub of SQS for a run."""
    with StubServer() as server:
        yield server


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that boto3 requires and no stub checks."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def stub(stub_server: StubServer, aws_credentials: None) -> StubServer:
    """The stub without faults, calls or latency."""
    stub_server.order(reset=True, clear=True, latency_ms=0)
    return stub_server


@contextmanager
def new_database(server_url: str, *, template: str = "template1") -> Iterator[str]:
    """The URL of a new database on this server. It is dropped after the block.

    Parameters:
      template: the name of the database to copy; by default one without a schema.
    """
    name = f"graphnode_test_{uuid4().hex}"
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    execute(server_url, statement.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        execute(server_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def migrated_database(server_url: str) -> Iterator[str]:
    """The URL of a database as deploy/ makes it: with the roles, and migrated by the owner."""
    with new_database(server_url) as url:
        migrate_as_deployed(url)
        yield url


def migrate_as_deployed(url: str) -> None:
    """Give an empty database the newest schema, and the roles with their rights."""
    execute(url, (DEPLOY / "postgres-roles.sql").read_text())
    open_database(in_role(url, "graphnode_owner"))
    migrate()
    close_database()
    execute(in_role(url, "graphnode_owner"), (DEPLOY / "postgres-grants.sql").read_text())


def in_role(url: str, role: str) -> str:
    """The URL at which an administrator has only the rights of this role."""
    return urlsplit(url)._replace(query=f"options=-c%20role%3D{role}").geturl()


def empty_database(url: str, *, keep: tuple[str, ...] = ()) -> None:
    """Delete the rows of every table, except the history of migrations and of tables to keep."""
    execute(url, emptying(keep))


def emptying(keep: tuple[str, ...] = ()) -> sql.Composed:
    """The statement that deletes the rows of every table, except the history of migrations and of tables to keep."""
    return sql.SQL(EMPTY).format(kept=sql.Literal([*keep, "schema_migration"]))


def execute(url: str, statement: str | sql.Composed) -> None:
    """Run a statement outside a transaction."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
