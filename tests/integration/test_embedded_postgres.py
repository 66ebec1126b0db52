"""The embedded PostgreSQL: it starts, outlives an outage on purpose, and never outlives its parent."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest

postgres_module = pytest.importorskip("graphnode.dev.postgres")

from graphnode.dev.postgres import HOST, EmbeddedPostgres, PostgresError, start_postgres  # noqa: E402
from graphnode.errors import DatabaseFault, classify_error  # noqa: E402
from graphnode.storage.database import close_database, database, open_database  # noqa: E402

WAIT_S = 20
POLL_S = 0.01


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(POLL_S)


def run(url: str, statement: str) -> Any:
    with closing(psycopg2.connect(url)) as server:
        server.autocommit = True
        with server.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def directory(open_path: Path) -> Path:
    """Where a server is made."""
    return open_path / "postgres"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with start_postgres(Path(tempfile.mkdtemp(prefix="graphnode-test-"))) as running:
        yield running


def test_answers_on_both_addresses_with_pgvector(server: EmbeddedPostgres) -> None:
    for url in (server.url, server.socket_url):
        run(url, "CREATE EXTENSION IF NOT EXISTS vector")
        assert run(url, "SELECT '[1,2]'::vector <-> '[1,4]'::vector") == (2.0,)
    assert run(server.url, "SELECT pg_encoding_to_char(encoding), datlocale FROM pg_database LIMIT 1") == (
        "UTF8",
        "C.UTF-8",
    )


@pytest.mark.parametrize("password", ["", "wrong"])
def test_nobody_connects_over_tcp_without_the_password(server: EmbeddedPostgres, password: str) -> None:
    url = urlsplit(server.url)
    assert url.password

    with pytest.raises(psycopg2.OperationalError, match="password"):
        run(url._replace(netloc=f"postgres:{password}@{HOST}:{server.port}").geturl(), "SELECT 1")


def test_the_socket_is_for_its_owner_alone(server: EmbeddedPostgres) -> None:
    (found,) = server._sockets.glob(f".s.PGSQL.{server.port}")

    assert stat.S_IMODE(found.stat().st_mode) == 0o700


def test_an_outage_cuts_connections_and_keeps_port_and_data(server: EmbeddedPostgres) -> None:
    url = server.url
    run(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    open_database(url)
    database.execute_sql("SELECT 1")

    server.stop()
    with pytest.raises(Exception, match="refused") as refused:
        database.execute_sql("SELECT 1")
    assert isinstance(classify_error(refused.value), DatabaseFault)

    server.start()
    assert server.url == url
    assert database.execute_sql("SELECT answer FROM kept").fetchone() == (42,)
    close_database()


def test_the_pool_takes_a_socket_url(server: EmbeddedPostgres) -> None:
    open_database(server.socket_url)
    assert database.execute_sql("SELECT inet_client_addr()").fetchone() == (None,)
    close_database()


def test_throw_away_data_goes_with_the_server(directory: Path) -> None:
    start_postgres(directory).close()
    assert not directory.exists()


def test_takes_another_port_when_the_chosen_one_is_lost(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_port = postgres_module._free_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = iter([other.getsockname()[1], free_port()])
        monkeypatch.setattr(postgres_module, "_free_port", lambda: next(ports))
        with start_postgres(directory) as server:
            assert run(server.url, "SELECT 1") == (1,)


def test_a_server_that_does_not_start_shows_its_log(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres_module.SETTINGS, "unheard_of", "1")

    with pytest.raises(PostgresError, match='unrecognized configuration parameter "unheard_of"'):
        start_postgres(directory)

    assert not directory.exists()


def test_a_directory_that_another_server_runs_on_is_refused(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "DEFAULT_GRACE_S", 0.05)

    with pytest.raises(PostgresError, match="Another PostgreSQL"):
        start_postgres(server.directory)

    assert run(server.url, "SELECT 1") == (1,)


def test_data_of_another_version_is_refused(directory: Path) -> None:
    (directory / "data").mkdir(parents=True)
    (directory / "data" / "PG_VERSION").write_text("16\n")

    with pytest.raises(PostgresError, match=r"made by PostgreSQL 16.*delete it"):
        start_postgres(directory, keep=True)


def test_kept_data_is_there_after_an_unclean_death(directory: Path) -> None:
    first = start_postgres(directory, keep=True)
    run(first.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert run(first.url, "SHOW fsync") == ("on",)
    assert first._process
    os.kill(first._process.pid, signal.SIGKILL)
    first._process.wait(WAIT_S)
    # An older version let everybody in.
    (directory / "data" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
    # The dead server's process ID has become another program's.
    lock = directory / "data" / "postmaster.pid"
    _, rest = lock.read_text().split("\n", 1)
    lock.write_text(f"{os.getppid()}\n{rest}")

    with start_postgres(directory, keep=True) as second:
        assert run(second.url, "SELECT answer FROM kept") == (42,)
        with pytest.raises(psycopg2.OperationalError, match="password"):
            run(f"postgresql://postgres@{HOST}:{second.port}/postgres", "SELECT 1")

    assert directory.exists()


def test_ends_with_its_parent_even_when_that_is_killed(directory: Path) -> None:
    program = (
        "import signal, sys; from pathlib import Path; from graphnode.dev.postgres import start_postgres\n"
        "server = start_postgres(Path(sys.argv[1])); print(server._process.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program, directory], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()

    wait_until(lambda: not is_alive(pid))
    wait_until(lambda: not directory.exists())
