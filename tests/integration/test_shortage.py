"""Threads that share too few connections: a role with a CONNECTION LIMIT."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from urllib.parse import urlsplit
from uuid import uuid4

import peewee
import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812 # it is a class
from structlog.testing import capture_logs

from graphnode.errors import DatabaseFault, classify_error
from graphnode.storage import connections
from graphnode.storage.database import close_database, database, open_database, transaction, user_transaction
from graphnode.storage.graphs import GraphRecord
from graphnode.storage.rehearsal import rehearse
from tests.integration.conftest import PATIENCE_S, Query

#: Connections that the role may have.
LIMIT = 2

Threads = list[ThreadPoolExecutor]


@pytest.fixture
def limited_url(database_url: str, query: Query) -> Iterator[str]:
    """The URL of the database in a worker's role with few connections."""
    role = f"limited_{uuid4().hex}"
    query(f"CREATE ROLE {role} LOGIN PASSWORD 'secret' CONNECTION LIMIT {LIMIT} IN ROLE graphnode_worker")
    given = urlsplit(database_url)
    address = given.netloc.rpartition("@")[2]
    yield given._replace(netloc=f"{role}:secret@{address}").geturl()
    query(f"DROP ROLE {role}")


@pytest.fixture
def limited(limited_url: str) -> Iterator[None]:
    """Opens the storage in that role."""
    open_database(limited_url)
    yield
    close_database()


@pytest.fixture
def threads(limited: None) -> Iterator[Threads]:
    """One more thread than the role has connections, each on its own. They end when the test ends."""
    with ExitStack() as running:
        yield [running.enter_context(ThreadPoolExecutor(1)) for _ in range(LIMIT + 1)]


@pytest.fixture
def occupy(limited_url: str) -> Iterator[Callable[[], Connection]]:
    """Takes a connection of the role, as another program does. It closes when the test ends."""
    with ExitStack() as taken:
        yield lambda: taken.enter_context(closing(psycopg2.connect(limited_url)))


def store(number: int) -> None:
    with user_transaction(f"user-{number}"):
        GraphRecord.insert(user_id=f"user-{number}", status="CREATED", updated_at=peewee.fn.now()).execute()


def session() -> int:
    """The process ID of this thread's session."""
    with transaction():
        pid: int = database.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
        return pid


def test_threads_without_a_connection_wait_for_those_of_others(limited: None, query: Query) -> None:
    with capture_logs() as lines, ThreadPoolExecutor(8) as threads:
        list(threads.map(store, range(250)))

    assert query("SELECT count(*) FROM graphs") == [(250,)]
    (line,) = [line for line in lines if line["event"].startswith("PostgreSQL refuses connections")]
    assert "all connections that its role may have" in line["error"]


def test_an_idle_thread_loses_its_connection_to_one_that_needs_it(threads: Threads) -> None:
    held = {thread.submit(session).result(PATIENCE_S) for thread in threads[:LIMIT]}

    assert len(held) == LIMIT
    assert threads[-1].submit(session).result(PATIENCE_S) not in held
    for thread in threads:
        thread.submit(session).result(PATIENCE_S)


def test_busy_threads_hand_their_connections_on(threads: Threads) -> None:
    is_served = threading.Event()

    def work() -> None:
        while not is_served.is_set():
            session()

    busy = [thread.submit(work) for thread in threads[:LIMIT]]
    try:
        assert threads[-1].submit(session).result(PATIENCE_S)
    finally:
        is_served.set()
    for each in busy:
        each.result(PATIENCE_S)


def test_a_probe_takes_the_connection_of_an_idle_thread(threads: Threads) -> None:
    for thread in threads[:LIMIT]:
        thread.submit(session).result(PATIENCE_S)

    rehearse(lambda: None)


def test_threads_keep_their_connections_when_the_shortage_is_over(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    for thread in threads:
        thread.submit(session).result(PATIENCE_S)
    assert database.shortage.lasts

    monkeypatch.setattr(connections, "SHORTAGE_S", 0)

    assert threads[0].submit(session).result(PATIENCE_S) == threads[0].submit(session).result(PATIENCE_S)


def test_without_a_connection_for_any_thread_it_is_an_outage_until_one_is_free(
    limited: None, occupy: Callable[[], Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FREE_WAIT_S", 0.2)
    taken = [occupy() for _ in range(LIMIT)]

    with pytest.raises(peewee.OperationalError) as refused:
        store(1)
    with pytest.raises(peewee.OperationalError, match="too many connections for role"):
        rehearse(lambda: None)

    assert isinstance(classify_error(refused.value), DatabaseFault)
    monkeypatch.setattr(connections, "FREE_WAIT_S", PATIENCE_S)
    taken[0].close()
    rehearse(lambda: None)
    store(1)


def test_a_limit_of_the_database_is_noticed_too(
    limited: None, query: Query, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = urlsplit(database_url).path.lstrip("/")
    monkeypatch.setattr(connections, "FREE_WAIT_S", 0.2)
    query(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
    try:
        with capture_logs() as lines, pytest.raises(peewee.OperationalError):
            rehearse(lambda: None)
    finally:
        query(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')

    assert ["all connections that the database may have" in line["error"] for line in lines] == [True]


@pytest.mark.parametrize(
    ("text", "is_refusal"),
    [
        ("FATAL:  sorry, too many clients already", True),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", True),
        ("FATAL:  the database system is starting up", False),
    ],
)
def test_only_a_want_of_connections_is_a_shortage(text: str, is_refusal: bool) -> None:
    assert bool(connections.NONE_FREE.search(text)) is is_refusal
