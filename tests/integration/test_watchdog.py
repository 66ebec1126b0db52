"""No thread waits without a bound: neither for a silent connection nor for a frozen database."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg2
import pytest

from graphnode.dev.postgres import EmbeddedPostgres, start_postgres
from graphnode.errors import DatabaseFault, classify_error
from graphnode.storage import database as database_module
from graphnode.storage import watchdog
from graphnode.storage.database import (
    Limits,
    close_database,
    copy_rows,
    database,
    open_database,
    statement_limits,
    transaction,
    user_transaction,
)
from graphnode.storage.graphs import ClusterRecord
from graphnode.storage.rehearsal import rehearse
from tests.integration.tcp_proxy import TcpProxy, proxied

#: Seconds that the issue of this promise names; the measured ones are below it.
MOST_S = 15.0


@pytest.fixture
def proxy(database_url: str) -> Iterator[TcpProxy]:
    """The storage, open behind a proxy."""
    with proxied(database_url) as (proxy, url):
        open_database(url)
        yield proxy
        close_database()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watchdog that asks early."""
    monkeypatch.setattr(watchdog, "LOOK_S", 0.05)
    monkeypatch.setattr(watchdog, "ASK_AFTER_S", 0.3)
    monkeypatch.setattr(watchdog, "LOST_AFTER_S", 0.1)


def answer() -> int:
    found: int = database.execute_sql("SELECT 1").fetchone()[0]
    return found


def outage_of(action: Callable[[], object]) -> str:
    """The text of the outage that an action meets."""
    began = time.monotonic()
    with pytest.raises(Exception) as raised:  # noqa: PT011 # classified below
        action()
    assert time.monotonic() - began < MOST_S
    error = classify_error(raised.value)
    assert isinstance(error, DatabaseFault)
    return str(error)


def begin() -> None:
    with user_transaction("ada"):
        pass


class TestSilentConnection:
    @pytest.mark.parametrize("action", [answer, begin], ids=["a single statement", "a transaction"])
    def test_costs_its_thread_less_than_15_seconds(self, proxy: TcpProxy, action: Callable[[], object]) -> None:
        answer()
        proxy.silence()

        outage_of(action)

        assert answer() == 1

    def test_a_statement_ends_soon_after_its_own_limit(self, proxy: TcpProxy) -> None:
        answer()
        proxy.silence()

        with statement_limits(Limits(statement_ms=100)):
            assert outage_of(answer) == "PostgreSQL did not answer within 1.1 s"

    @pytest.mark.usefixtures("impatient")
    def test_one_in_a_transaction_is_found_although_the_database_answers(self, proxy: TcpProxy) -> None:
        def fall_silent() -> None:
            with transaction():
                proxy.silence()
                answer()

        assert outage_of(fall_silent) == "PostgreSQL answers, but not on this connection"

    @pytest.mark.usefixtures("impatient")
    def test_one_that_falls_silent_at_its_commit_is_found(self, proxy: TcpProxy) -> None:
        def fall_silent() -> None:
            with transaction():
                answer()
                proxy.silence()

        assert outage_of(fall_silent) == "PostgreSQL answers, but not on this connection"

    def test_the_others_work_meanwhile(self, proxy: TcpProxy) -> None:
        answer()
        proxy.silence()
        with ThreadPoolExecutor() as threads, statement_limits(Limits(statement_ms=1000)):
            others = [threads.submit(answer) for _ in range(4)]
            outage_of(answer)
            assert [other.result(0) for other in others] == [1] * 4


@pytest.mark.usefixtures("impatient", "storage")
def test_a_long_statement_of_a_database_that_answers_is_left_alone() -> None:
    with transaction():
        database.execute_sql("SELECT pg_sleep(2)")
        assert answer() == 1


@pytest.mark.usefixtures("impatient", "storage")
def test_a_database_that_refuses_connections_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise psycopg2.OperationalError("FATAL:  sorry, too many clients already")

    with transaction():
        answer()
        with monkeypatch.context() as patched:
            patched.setattr(database_module.watchdog, "_connect", refuse)
            database.execute_sql("SELECT pg_sleep(2)")


class Freezer:
    """Stops a server and the session of this thread, which then answer nothing; TCP still acknowledges."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.processes = [server.pid, *database.execute_sql("SELECT pg_backend_pid()").fetchone()]

    def freeze(self) -> None:
        for process in self.processes:
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self.processes:
            # A session whose client has gone ends when it goes on.
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Freezer]:
    """A server of the test's own, which the storage uses."""
    with start_postgres(tmp_path) as server:
        open_database(server.url)
        freezer = Freezer(server)
        yield freezer
        freezer.thaw()
        close_database()


class TestFrozenDatabase:
    def test_is_an_outage_within_15_seconds(self, freezer: Freezer) -> None:
        freezer.freeze()

        outage_of(answer)
        outage_of(lambda: rehearse(lambda: None))

        freezer.thaw()
        assert answer() == 1

    def test_is_an_outage_within_15_seconds_for_a_transaction(self, freezer: Freezer) -> None:
        def freeze_inside() -> None:
            with transaction():
                freezer.freeze()
                answer()

        assert outage_of(freeze_inside) == "PostgreSQL answers neither this connection nor a new one"


def test_a_copy_that_cannot_go_on_is_an_outage(proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "TRANSACTION_WAIT_S", 1.0)

    def rows() -> Iterator[tuple[object, ...]]:
        proxy.silence()
        for number in range(100_000):
            yield "ada", str(number), "text " * 100, 0

    def copy() -> None:
        with transaction():
            copy_rows(ClusterRecord, ("user_id", "id", "description", "size"), rows())

    assert "did not answer within" in outage_of(copy)
    assert answer() == 1
