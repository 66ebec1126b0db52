"""The pool, transactions under a user's lock, and COPY."""

from __future__ import annotations

import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from types import FrameType
from typing import Any

import peewee
import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphnode.errors import DatabaseConflict, DatabaseOutage, SettingsError, WrongOwner, classify_error
from graphnode.storage import database as database_module
from graphnode.storage.database import (
    close_database,
    connection,
    copy_rows,
    database,
    open_database,
    probe,
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
    with user_transaction("ada"), connection():
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
        def limits() -> list[str]:
            names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "plan_cache_mode")
            return [database.execute_sql(f"SHOW {name}").fetchone()[0] for name in names]

        with user_transaction("ada"):
            assert limits() == ["5min", "15s", "1min", "force_generic_plan"]
            pid = backend_pid()
        with connection():
            assert backend_pid() == pid
            assert limits() == ["0", "0", "0", "auto"]

    def test_transactions_of_one_user_run_one_after_the_other(self, waiting_for_user_lock: Callable[[], bool]) -> None:
        events = []

        def second() -> None:
            with user_transaction("ada"):
                events.append("second runs")

        with ThreadPoolExecutor() as threads:
            with user_transaction("ada"):
                waiting = threads.submit(second)
                wait_until(waiting_for_user_lock)
                events.append("first ends")
            waiting.result(WAIT_S)

        assert events == ["first ends", "second runs"]

    def test_users_do_not_wait_for_each_other(self) -> None:
        def other() -> None:
            with user_transaction("grace"):
                insert_cluster("grace")

        with ThreadPoolExecutor() as threads, user_transaction("ada"):
            threads.submit(other).result(WAIT_S)

    def test_waits_no_longer_than_the_lock_timeout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        impatient = database_module.BEGIN_FOR_USER.replace("lock_timeout = 15000", "lock_timeout = 50")
        monkeypatch.setattr(database_module, "BEGIN_FOR_USER", impatient)

        def second() -> None:
            with user_transaction("ada"):
                pass

        with ThreadPoolExecutor() as threads, user_transaction("ada"):
            error = threads.submit(second).exception(WAIT_S)

        assert error is not None
        assert isinstance(classify_error(error), DatabaseConflict)

    def test_a_connection_lost_inside_is_an_outage_and_does_not_go_back_to_the_pool(self, query: Query) -> None:
        pids = []

        def lose_the_connection() -> None:
            with user_transaction("ada"):
                insert_cluster()
                pids.append(backend_pid())
                query("SELECT pg_terminate_backend(%s, 10000)", *pids)
                insert_cluster("ada", "c2")

        with pytest.raises(peewee.OperationalError) as lost:
            lose_the_connection()

        assert isinstance(classify_error(lost.value), DatabaseOutage)
        assert "already closed" not in str(lost.value), "the rollback hides why the connection was lost"
        with user_transaction("ada"):
            assert backend_pid() not in pids
            assert ClusterRecord.select().count() == 0

    def test_a_connection_lost_in_the_pool_is_replaced(self, query: Query) -> None:
        with user_transaction("ada"):
            pid = backend_pid()
        query("SELECT pg_terminate_backend(%s, 10000)", pid)

        with user_transaction("ada"):
            assert backend_pid() != pid

    def test_single_statements_inside_see_what_the_transaction_did(self) -> None:
        with user_transaction("ada"):
            insert_cluster()
            with connection():
                assert ClusterRecord.select().count() == 1
            insert_cluster("ada", "c2")
            assert ClusterRecord.select().count() == 2

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
            assert database._in_use == {}
            step += 1

        assert step > 100
        assert query("SELECT count(*) FROM graph_clusters") == [(step - 1,)]

    def test_starts_a_new_one_if_an_earlier_one_was_left_open(self, query: Query) -> None:
        database.__enter__()
        insert_cluster("ada", "left open")

        with user_transaction("ada"):
            insert_cluster("ada", "new")

        assert query("SELECT id FROM graph_clusters") == [("new",)]

    def test_one_left_open_and_lost_fails_only_the_next_use(self, query: Query) -> None:
        database.__enter__()
        query("SELECT pg_terminate_backend(%s, 10000)", backend_pid())

        with pytest.raises(peewee.OperationalError), connection():
            backend_pid()
        with connection():
            assert ClusterRecord.select().count() == 0


@pytest.mark.usefixtures("storage")
class TestPool:
    def test_gives_each_thread_a_connection_of_its_own(self) -> None:
        together = threading.Barrier(4)

        def pid() -> int:
            with connection():
                together.wait(WAIT_S)
                return backend_pid()

        with ThreadPoolExecutor() as threads:
            pids = {future.result(WAIT_S) for future in [threads.submit(pid) for _ in range(4)]}

        assert len(pids) == 4

    def test_never_connects_without_a_holder(self) -> None:
        with pytest.raises(peewee.InterfaceError):
            database.execute_sql("SELECT 1")

    def test_a_probe_asks_over_a_new_connection(self) -> None:
        with connection():
            first = backend_pid()
        probe()
        with connection():
            assert backend_pid() != first


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
            open_database(url, max_connections=1)

        assert "s3cret" not in str(refused.value)

    def test_the_urls_own_parameters_win(self, database_url: str) -> None:
        open_database(f"{database_url}?application_name=mine", max_connections=1)
        with connection():
            assert database.execute_sql("SHOW application_name").fetchone() == ("mine",)
        close_database()

    def test_accepts_the_short_scheme_and_forgets_the_earlier_address(self, database_url: str) -> None:
        open_database("postgresql://ada@nowhere.invalid/db?options=-c%20statement_timeout%3D1", max_connections=1)
        open_database(database_url.replace("postgresql://", "postgres://"), max_connections=1)
        with connection():
            assert database.execute_sql("SHOW statement_timeout").fetchone() == ("0",)
            assert database.execute_sql("SHOW application_name").fetchone() == ("graphnode",)
        close_database()

    def test_a_server_that_is_not_there_is_an_outage(self) -> None:
        open_database("postgresql://postgres@127.0.0.1:1/postgres", max_connections=1)
        with pytest.raises(peewee.OperationalError) as refused:
            probe()
        close_database()

        assert isinstance(classify_error(refused.value), DatabaseOutage)


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
        with connection(), database.atomic() as transaction:
            columns = ("user_id", "id", "name", "description", "themes", "size")
            assert copy_rows(ClusterRecord, columns, numbered) == len(rows)
            fields = [getattr(ClusterRecord, column) for column in columns]
            stored = list(ClusterRecord.select(*fields).order_by(ClusterRecord.size).tuples())
            transaction.rollback()

        assert stored == numbered

    def test_stores_numbers_booleans_times_and_null(self) -> None:
        seoul = timezone(timedelta(hours=9))
        moment = datetime(2026, 5, 24, 17, 2, 8, 793892, tzinfo=seoul)
        with connection(), database.atomic() as transaction:
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
        with connection(), database.atomic() as transaction:
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
        with pytest.raises(TypeError, match="object"), connection():
            copy_rows(ClusterRecord, ("user_id", "id", "size"), [("ada", "c1", object())])

    def test_raises_what_postgresql_refuses(self) -> None:
        with pytest.raises(psycopg2.errors.InvalidTextRepresentation), connection():
            copy_rows(ClusterRecord, ("user_id", "id", "size"), [("ada", "c1", "many")])

    def test_holds_one_chunk_in_memory_for_any_number_of_rows(self) -> None:
        text = "long " * 200
        rows = (("ada", str(number), text, 0) for number in range(20_000))
        with connection(), database.atomic() as transaction:
            tracemalloc.start()
            copy_rows(ClusterRecord, ("user_id", "id", "description", "size"), rows)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            transaction.rollback()

        assert peak < 20 * database_module.COPY_CHUNK_BYTES


@pytest.mark.usefixtures("storage")
def test_json_fields_store_any_json_value(query: Query) -> None:
    with connection():
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
