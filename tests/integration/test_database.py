"""Connections, transactions under a user's lock, and COPY."""

from __future__ import annotations

import os
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from types import FrameType
from typing import Any

import peewee
import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2 import errors

from graphnode.errors import DatabaseFault, SettingsError, UserLocked, WrongOwner, classify_error
from graphnode.storage import connections
from graphnode.storage import database as database_module
from graphnode.storage.connections import open_connections
from graphnode.storage.database import (
    Limits,
    close_database,
    copy_rows,
    database,
    new_connection,
    open_database,
    statement_limits,
    try_user_lock,
    user_transaction,
)
from graphnode.storage.graphs import ClusterRecord, EdgeRecord, EmbeddingRecord, GraphRecord, NodeRecord
from graphnode.storage.summaries import SummaryRecord
from tests.integration.conftest import Query

WAIT_S = 10
POLL_S = 0.001


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(POLL_S)


def backend_pid() -> int:
    pid: int = database.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
    return pid


def limits() -> list[str]:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "plan_cache_mode")
    return [database.execute_sql(f"SHOW {name}").fetchone()[0] for name in names]


class Interruption(BaseException):
    """Stands for the exceptions that Dramatiq raises in a thread."""


def interrupted(action: Callable[[], None], *, at: int) -> bool:
    """Run the action and raise an Interruption at its nth step; whether it has that many steps.

    The steps are where CPython raises such exceptions: when a function begins, and when a call into C returns.
    """
    steps = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_return")
        if steps == at:
            raise Interruption

    sys.setprofile(trace)
    try:
        action()
    except (Interruption, peewee.PeeweeException):
        return True
    finally:
        sys.setprofile(None)
    return False


def one_transaction() -> None:
    with user_transaction("ada"):
        database.execute_sql("SELECT 1")


def insert_cluster(user_id: str = "ada", cluster_id: str = "c1") -> None:
    GraphRecord.insert(user_id=user_id, status="CREATED", updated_at=peewee.fn.now()).on_conflict_ignore().execute()
    ClusterRecord.create(user_id=user_id, id=cluster_id, size=0, themes=[])


@pytest.fixture
def waiting_for_user_lock(query: Query) -> Callable[[], bool]:
    in_this_database = "SELECT 1 FROM pg_locks JOIN pg_database ON oid = database AND datname = current_database()"
    return lambda: bool(query(f"{in_this_database} WHERE locktype = 'advisory' AND NOT granted"))


@pytest.mark.usefixtures("storage")
class TestUserTransaction:
    def test_commits_what_the_block_did(self, query: Query) -> None:
        with user_transaction("ada"):
            insert_cluster()

        assert query("SELECT user_id FROM graph_clusters") == [("ada",)]

    def test_rolls_back_when_the_block_fails_and_raises_its_error(self, query: Query) -> None:
        def fail() -> None:
            with user_transaction("ada"):
                insert_cluster()
                raise WrongOwner

        with pytest.raises(WrongOwner):
            fail()

        assert query("SELECT * FROM graph_clusters") == []

    def test_a_failed_statement_leaves_the_connection_usable(self) -> None:
        with user_transaction("ada"):
            first = backend_pid()
        with pytest.raises(peewee.DataError), user_transaction("ada"):
            database.execute_sql("SELECT 1 / 0")

        with user_transaction("ada"):
            assert backend_pid() == first

    def test_limits_and_generic_plans_are_the_transactions_and_not_the_sessions(self) -> None:
        with user_transaction("ada"):
            assert limits() == ["5min", "15s", "30s", "force_generic_plan"]
            pid = backend_pid()
        with statement_limits(None):
            assert limits() == ["0", "0", "0", "auto"]
            assert backend_pid() == pid

    def test_begins_in_one_round_trip(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sent: list[str] = []
        execute = peewee.Database.execute_sql

        def record(self: peewee.Database, statement: str, parameters: object = None) -> Any:
            sent.append(statement)
            return execute(self, statement, parameters)  # type: ignore[no-untyped-call]

        monkeypatch.setattr(peewee.Database, "execute_sql", record)
        with user_transaction("ada"):
            pass

        (beginning,) = sent
        assert beginning.startswith("BEGIN")
        assert "pg_advisory_xact_lock" in beginning

    def test_transactions_of_one_user_run_one_after_the_other(self, waiting_for_user_lock: Callable[[], bool]) -> None:
        events = []

        def second() -> None:
            with user_transaction("ada", wait_ms=WAIT_S * 1000):
                events.append("second runs")

        with ThreadPoolExecutor() as threads:
            with user_transaction("ada"):
                waiting = threads.submit(second)
                wait_until(waiting_for_user_lock)
                events.append("first ends")
            waiting.result(WAIT_S)

        assert events == ["first ends", "second runs"]

    def test_the_users_lock_is_asked_for_and_not_waited_for(self, threads: ThreadPoolExecutor) -> None:
        with user_transaction("ada"):
            asking = threads.submit(one_transaction)
            wait([asking], timeout=WAIT_S)
            assert asking.done(), "it waits for the lock"

        error = asking.exception()
        assert isinstance(error, UserLocked)
        assert classify_error(error) is error

    def test_a_user_who_was_locked_has_the_same_connection_next_time(self, threads: ThreadPoolExecutor) -> None:
        def locked() -> int:
            pid = backend_pid()
            with pytest.raises(UserLocked), user_transaction("ada"):
                pass
            return pid

        def free() -> int:
            with user_transaction("ada"):
                return backend_pid()

        with ThreadPoolExecutor(1) as thread:
            with user_transaction("ada"):
                pid = thread.submit(locked).result(WAIT_S)
            assert thread.submit(free).result(WAIT_S) == pid

    def test_a_row_that_another_session_locks_is_no_lock_of_the_user(self, query: Query, database_url: str) -> None:
        with user_transaction("ada"):
            insert_cluster()
        with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
            cursor.execute("SELECT * FROM graphs FOR UPDATE")
            with pytest.raises(peewee.OperationalError) as refused, user_transaction("ada"):
                database.execute_sql("SET LOCAL lock_timeout = 50; SELECT * FROM graphs FOR UPDATE")

        assert isinstance(classify_error(refused.value), DatabaseFault)

    def test_users_do_not_wait_for_each_other(self) -> None:
        def other() -> None:
            with user_transaction("grace"):
                insert_cluster("grace")

        with ThreadPoolExecutor() as threads, user_transaction("ada"):
            threads.submit(other).result(WAIT_S)

    def test_a_connection_lost_inside_is_an_outage_and_is_replaced(self, query: Query) -> None:
        pids = []

        def lose_the_connection() -> None:
            with user_transaction("ada"):
                insert_cluster()
                pids.append(backend_pid())
                query("SELECT pg_terminate_backend(%s, 10000)", *pids)
                insert_cluster("ada", "c2")

        with pytest.raises(peewee.OperationalError) as lost:
            lose_the_connection()

        assert isinstance(classify_error(lost.value), DatabaseFault)
        assert "already closed" not in str(lost.value), "the rollback hides why the connection was lost"
        with user_transaction("ada"):
            assert backend_pid() not in pids
            assert ClusterRecord.select().count() == 0

    def test_a_connection_lost_while_idle_is_replaced(self, query: Query) -> None:
        with user_transaction("ada"):
            pid = backend_pid()
        query("SELECT pg_terminate_backend(%s, 10000)", pid)

        with user_transaction("ada"):
            assert backend_pid() != pid

    def test_an_interruption_at_any_line_leaves_nothing_open(self, query: Query) -> None:
        """Dramatiq's time limit raises an exception at any line; the next message of the thread must not notice."""
        open_transactions = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        )
        step = 1
        while interrupted(one_transaction, at=step):
            wait_until(lambda: query(open_transactions) == [(0,)])
            with user_transaction("ada"):
                insert_cluster(cluster_id=str(step))
            assert len(open_connections()) == 1
            step += 1

        assert step > 100
        assert query("SELECT count(*) FROM graph_clusters") == [(step - 1,)]

    def test_starts_a_new_one_if_an_earlier_one_was_left_open(self, query: Query) -> None:
        database.__enter__()
        insert_cluster("ada", "left open")

        with user_transaction("ada"):
            insert_cluster("ada", "new")

        assert query("SELECT id FROM graph_clusters") == [("new",)]

    def test_one_left_open_and_lost_is_replaced(self, query: Query) -> None:
        database.__enter__()
        query("SELECT pg_terminate_backend(%s, 10000)", backend_pid())

        with user_transaction("ada"):
            assert ClusterRecord.select().count() == 0


@pytest.mark.usefixtures("storage")
class TestTryUserLock:
    def test_raises_while_another_session_holds_it(self, threads: ThreadPoolExecutor) -> None:
        with user_transaction("ada"):
            with pytest.raises(UserLocked):
                threads.submit(try_user_lock, "ada").result(WAIT_S)
            threads.submit(try_user_lock, "grace").result(WAIT_S)

    def test_does_not_hold_it(self, threads: ThreadPoolExecutor) -> None:
        try_user_lock("ada")

        threads.submit(one_transaction).result(WAIT_S)


@pytest.mark.usefixtures("storage")
class TestThreadDatabase:
    def test_a_thread_keeps_its_connection(self) -> None:
        pids = {backend_pid(), backend_pid()}
        with user_transaction("ada"):
            pids.add(backend_pid())

        assert len(pids) == 1

    def test_each_thread_has_a_connection_of_its_own(self) -> None:
        together = threading.Barrier(4)

        def pid() -> int:
            together.wait(WAIT_S)
            return backend_pid()

        with ThreadPoolExecutor() as threads:
            pids = {future.result(WAIT_S) for future in [threads.submit(pid) for _ in range(4)]}

        assert len(pids) == 4

    def test_a_connection_closes_with_its_thread(self, query: Query) -> None:
        with ThreadPoolExecutor(1) as threads:
            pid = threads.submit(backend_pid).result(WAIT_S)

        wait_until(lambda: query("SELECT FROM pg_stat_activity WHERE pid = %s", pid) == [])

    def test_the_end_of_a_forked_process_does_not_close_its_parents_connections(self) -> None:
        with ThreadPoolExecutor(1) as threads:
            pids = [backend_pid(), threads.submit(backend_pid).result(WAIT_S)]
            child = os.fork()
            if child == 0:
                # A fork drops what other threads held, and this is what a normal end drops.
                database._state.reset()  # type: ignore[attr-defined]
                os._exit(0)
            os.waitpid(child, 0)

            assert [backend_pid(), threads.submit(backend_pid).result(WAIT_S)] == pids

    def test_connects_while_another_thread_is_connecting(
        self, monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor
    ) -> None:
        is_connecting, may_go_on = threading.Event(), threading.Event()

        def slowly() -> Any:
            is_connecting.set()
            may_go_on.wait(WAIT_S)
            return new_connection()

        with monkeypatch.context() as patched:
            patched.setattr(database_module, "new_connection", slowly)
            slow = threads.submit(backend_pid)
            assert is_connecting.wait(WAIT_S)
        try:
            assert backend_pid()
        finally:
            may_go_on.set()
        assert slow.result(WAIT_S)

    def test_an_old_connection_is_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "CONNECTION_AGE_S", 0)
        first = backend_pid()

        assert backend_pid() != first

    def test_a_connection_that_its_server_has_closed_is_replaced(self, query: Query) -> None:
        pid = backend_pid()
        query("SELECT pg_terminate_backend(%s, 10000)", pid)

        assert backend_pid() != pid

    def test_one_that_an_interruption_left_in_a_transaction_is_replaced(self, query: Query) -> None:
        pid = backend_pid()
        with statement_limits(None):
            database.execute_sql("BEGIN")

        assert backend_pid() != pid

    def test_a_single_statement_has_limits(self) -> None:
        assert limits()[:2] == ["13s", "12500ms"]
        with statement_limits(Limits(statement_ms=60_000, lock_ms=50)):
            assert limits()[:2] == ["1min", "50ms"]

    def test_a_single_statement_that_takes_too_long_is_cancelled(self) -> None:
        with statement_limits(Limits(statement_ms=50)), pytest.raises(peewee.OperationalError) as cancelled:
            database.execute_sql("SELECT pg_sleep(60)")

        assert isinstance(cancelled.value.__context__, errors.QueryCanceled)

    def test_each_statement_of_a_string_has_the_whole_time(self) -> None:
        with statement_limits(Limits(statement_ms=500)):
            database.execute_sql("SELECT pg_sleep(0.3); SELECT pg_sleep(0.3)")

    def test_a_statement_that_runs_in_no_transaction_can_be_run(self, query: Query) -> None:
        with statement_limits(None):
            database.execute_sql("VACUUM graphs")

    def test_the_server_too_looks_for_a_peer_that_has_died(self) -> None:
        assert database.execute_sql("SHOW tcp_keepalives_idle").fetchone() == ("30",)
        assert database.execute_sql("SHOW tcp_user_timeout").fetchone() == ("30000",)

    def test_closing_closes_the_connections_of_all_threads(self, query: Query, database_url: str) -> None:
        with ThreadPoolExecutor(1) as threads:
            pid = threads.submit(backend_pid).result(WAIT_S)
            close_database()
            wait_until(lambda: query("SELECT FROM pg_stat_activity WHERE pid = %s", pid) == [])
            open_database(database_url)
            assert threads.submit(backend_pid).result(WAIT_S) != pid


class TestOpenDatabase:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "mysql://ada:s3cret@host/db",
            "postgresql://ada:s3cret@host",
            "postgresql://ada:s3cret@host/db?nonsense=1",
        ],
    )
    def test_refuses_what_names_no_postgresql_database_without_showing_it(self, url: str) -> None:
        with pytest.raises(SettingsError, match="DATABASE_URL") as refused:
            open_database(url)

        assert "s3cret" not in str(refused.value)

    def test_the_urls_own_parameters_win(self, database_url: str) -> None:
        open_database(f"{database_url}?application_name=mine")
        assert database.execute_sql("SHOW application_name").fetchone() == ("mine",)
        close_database()

    def test_accepts_the_short_scheme_and_forgets_the_earlier_address(self, database_url: str) -> None:
        open_database("postgresql://ada@nowhere.invalid/db?options=-c%20statement_timeout%3D1")
        open_database(database_url.replace("postgresql://", "postgres://"))
        with statement_limits(None):
            assert database.execute_sql("SHOW statement_timeout").fetchone() == ("0",)
        assert database.execute_sql("SHOW application_name").fetchone() == ("graphnode",)
        close_database()

    def test_a_server_that_is_not_there_is_an_outage(self) -> None:
        open_database("postgresql://postgres@127.0.0.1:1/postgres")
        with pytest.raises(peewee.OperationalError) as refused:
            backend_pid()
        close_database()

        assert isinstance(classify_error(refused.value), DatabaseFault)


#: Text that PostgreSQL can store: everything except NUL and lone surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.usefixtures("storage")
class TestCopyRows:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(rows=st.lists(st.tuples(TEXT, st.none() | TEXT, st.lists(JSON, max_size=4)), max_size=4))
    def test_stores_any_text_and_json_as_it_is(self, rows: list[tuple[str, str | None, list[Any]]]) -> None:
        numbered = [("ada", str(number), *row, number) for number, row in enumerate(rows)]
        with database.atomic() as transaction:
            columns = ("user_id", "id", "name", "description", "themes", "size")
            assert copy_rows(ClusterRecord, columns, numbered) == len(rows)
            fields = [getattr(ClusterRecord, column) for column in columns]
            stored = list(ClusterRecord.select(*fields).order_by(ClusterRecord.size).tuples())
            transaction.rollback()

        assert stored == numbered

    def test_stores_numbers_booleans_times_and_null(self) -> None:
        seoul = timezone(timedelta(hours=9))
        moment = datetime(2026, 5, 24, 17, 2, 8, 793892, tzinfo=seoul)
        with database.atomic() as transaction:
            copy_rows(
                EdgeRecord,
                ("user_id", "source", "target", "weight", "type", "intra_cluster"),
                [("ada", 1, 2, 0.1, "hard", True), ("ada", 1, 3, None, "insight", False)],
            )
            copy_rows(
                NodeRecord,
                ("user_id", "id", "orig_id", "timestamp", "keywords", "metadata"),
                [("ada", 1, "o1", moment, [{"term": "graphe", "score": 0.25}], {"path": "a\\b\tc"})],
            )
            edges = list(EdgeRecord.select().order_by(EdgeRecord.target))
            node = NodeRecord.get()
            transaction.rollback()

        assert [(edge.weight, edge.intra_cluster) for edge in edges] == [(0.1, True), (None, False)]
        assert node.timestamp == moment.astimezone(UTC)
        assert node.keywords == [{"term": "graphe", "score": 0.25}]
        assert node.metadata == {"path": "a\\b\tc"}
        assert node.cluster_id is None

    def test_stores_embeddings(self) -> None:
        with database.atomic() as transaction:
            copy_rows(EmbeddingRecord, ("user_id", "node_id", "embedding"), [("ada", 1, [0.5, -1, 2e-3])])
            embedding = EmbeddingRecord.get().embedding
            transaction.rollback()

        assert list(embedding) == pytest.approx([0.5, -1, 0.002])

    def test_raises_the_error_of_its_source_and_stores_nothing(self, query: Query) -> None:
        def rows() -> Iterator[tuple[object, ...]]:
            yield "ada", "c1", 1
            raise WrongOwner("in the middle")

        with pytest.raises(WrongOwner, match="in the middle"), user_transaction("ada"):
            copy_rows(ClusterRecord, ("user_id", "id", "size"), rows())

        assert query("SELECT * FROM graph_clusters") == []
        with user_transaction("ada"):
            assert ClusterRecord.select().count() == 0

    def test_refuses_a_value_that_has_no_text(self) -> None:
        with pytest.raises(TypeError, match="object"):
            copy_rows(ClusterRecord, ("user_id", "id", "size"), [("ada", "c1", object())])

    def test_raises_what_postgresql_refuses(self) -> None:
        with pytest.raises(psycopg2.errors.InvalidTextRepresentation):
            copy_rows(ClusterRecord, ("user_id", "id", "size"), [("ada", "c1", "many")])

    def test_holds_one_chunk_in_memory_for_any_number_of_rows(self) -> None:
        text = "long " * 200
        rows = (("ada", str(number), text, 0) for number in range(20_000))
        with database.atomic() as transaction:
            tracemalloc.start()
            copy_rows(ClusterRecord, ("user_id", "id", "description", "size"), rows)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            transaction.rollback()

        assert peak < 20 * database_module.COPY_CHUNK_BYTES


@pytest.mark.usefixtures("storage")
def test_json_fields_store_any_json_value(query: Query) -> None:
    SummaryRecord.create(
        user_id="ada",
        overview={"summary_text": "지식 그래프", "not a number": float("nan")},
        clusters=[],
        patterns=[],
        connections=[],
        recommendations=[],
    )
    overview = SummaryRecord.get().overview

    assert overview == {"summary_text": "지식 그래프", "not a number": None}
