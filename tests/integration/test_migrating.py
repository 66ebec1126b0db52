"""Migrations while workers work: who waits for whom and for how long, and what is left of what was cut short."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from queue import Queue

import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812 # it is a class

from graphnode.errors import SchemaError
from graphnode.storage import migration_locks, online, schema
from graphnode.storage.database import database
from graphnode.storage.schema import migrate
from tests.integration.conftest import AddMigration, Query, querying, wait_for_lock

ADD_COLUMN = "ALTER TABLE tasks ADD COLUMN more text"

#: A migration outside a transaction: the statement stands for BODY.
ONLINE = """
from graphnode.storage.online import in_batches, make_index

atomic = False


def up(migrator, db):
    BODY
"""

MAKE_INDEX = 'make_index(db, "tasks_by_reason", "tasks (reason) WHERE reason IS NOT NULL")'

BACKFILL = """in_batches(
        db, "tasks", key="task_id, task_type", to="reason = 'none'", where="reason IS NULL", size=10
    )"""

INSERT = "INSERT INTO tasks (task_id, task_type, user_id, status) VALUES (%s, 'x', 'ada', 'PENDING')"

#: Seconds to wait for what must come.
PATIENCE_S = 30.0


@pytest.fixture
def url(empty_storage: None, empty_database_url: str) -> str:
    """The URL of a database with all migrations that there are."""
    migrate()
    return empty_database_url


@pytest.fixture
def query(url: str) -> Iterator[Query]:
    with querying(url) as run:
        yield run


@pytest.fixture
def add_online(migrations: Path) -> Callable[[str, str], None]:
    """Add a migration that is outside a transaction."""

    def add(name: str, body: str) -> None:
        (migrations / f"{name}.py").write_text(ONLINE.replace("BODY", body))

    return add


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrations that wait for 0.3 s, look after 20 ms, and try again at once, thrice."""
    monkeypatch.setattr(migration_locks, "LOCK_TIMEOUT_MS", 300)
    monkeypatch.setattr(migration_locks, "STATEMENT_TIMEOUT_MS", 600)
    monkeypatch.setattr(schema, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(migration_locks, "LOOK_S", 0.02)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as executor:
        yield executor


@pytest.fixture
def worker(url: str, threads: ThreadPoolExecutor) -> Iterator[Connection]:
    """A worker's connection: what it does is a transaction that it has to commit. It ends before the threads do."""
    with closing(psycopg2.connect(url, application_name="a worker")) as connection:
        yield connection


def has_column(query: Query) -> bool:
    return bool(query("SELECT 1 FROM information_schema.columns WHERE table_name = 'tasks' AND column_name = 'more'"))


def wait_until(query: Query, statement: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not query(statement):
        assert time.monotonic() < deadline, statement
        time.sleep(0.02)


class TestLocks:
    @pytest.mark.usefixtures("impatient")
    def test_a_table_that_stays_in_use_ends_it_with_who_uses_it_and_nothing_done(
        self, query: Query, worker: Connection, add_migration: AddMigration
    ) -> None:
        worker.cursor().execute("SELECT 1 FROM tasks")
        add_migration("9999_more", ADD_COLUMN)
        told: list[str] = []

        with pytest.raises(SchemaError) as caught:
            migrate(tell=told.append)

        said = str(caught.value)
        assert said.startswith(
            f"9999_more was not applied, it waits for tasks, which pid {worker.info.backend_pid} holds ("
        )
        assert "a worker, user " in said
        assert "idle in transaction, since 20" in said
        assert "at each of 3 attempts. Nothing of it is left" in said
        assert "run `graphnode migrate` again" in said
        assert ["the next attempt is in 0 s" in line for line in told] == [True, True]
        assert not has_column(query)
        worker.rollback()
        assert migrate() == ["9999_more"]

    def test_whoever_comes_while_it_waits_is_let_through(
        self,
        url: str,
        query: Query,
        worker: Connection,
        add_migration: AddMigration,
        threads: ThreadPoolExecutor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Who waits for an exclusive lock holds up all that come later, though they would not hold up each other."""
        monkeypatch.setattr(migration_locks, "LOCK_TIMEOUT_MS", 300)
        worker.cursor().execute("SELECT 1 FROM tasks")
        add_migration("9999_more", ADD_COLUMN)
        migrating = threads.submit(migrate)
        wait_for_lock(url)

        query("SET lock_timeout = '5s'")
        query("SELECT 1 FROM tasks")

        assert not migrating.done()
        worker.rollback()
        assert migrating.result(PATIENCE_S) == ["9999_more"]

    @pytest.mark.usefixtures("impatient")
    def test_what_would_hold_its_locks_for_long_is_cancelled(self, query: Query, add_migration: AddMigration) -> None:
        add_migration("9999_more", f"{ADD_COLUMN}; SELECT pg_sleep(5)")

        with pytest.raises(SchemaError, match="9999_more was not applied, one of its statements took more than"):
            migrate()

        assert not has_column(query)

    def test_all_waits_are_shorter_than_a_workers_patience(self) -> None:
        from graphnode.storage.database import LOCK_TIMEOUT_MS

        assert migration_locks.LOCK_TIMEOUT_MS + migration_locks.STATEMENT_TIMEOUT_MS < LOCK_TIMEOUT_MS

    def test_the_time_of_each_is_told(self, url: str, add_migration: AddMigration) -> None:
        add_migration("9999_more", ADD_COLUMN)
        told: list[str] = []

        migrate(tell=told.append)

        (line,) = told
        assert line.startswith("applied 9999_more: 0.")


class TestAlone:
    @pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
    def test_an_index_is_made_while_another_migrator_waits(
        self,
        url: str,
        query: Query,
        worker: Connection,
        add_online: Callable[[str, str], None],
        threads: ThreadPoolExecutor,
        isolation: str,
    ) -> None:
        """CREATE INDEX CONCURRENTLY waits for each transaction with a snapshot: who waits for it must have none."""
        query(f"ALTER DATABASE {worker.info.dbname} SET default_transaction_isolation = '{isolation}'")
        # Else a wait for each other has no end: PostgreSQL does not see it.
        query(f"ALTER DATABASE {worker.info.dbname} SET statement_timeout = '20s'")
        database.close_all()
        worker.cursor().execute(INSERT, ("t1",))
        add_online("9999_index", MAKE_INDEX)
        told: Queue[str] = Queue()
        first = threads.submit(migrate)
        wait_until(query, "SELECT 1 FROM pg_stat_progress_create_index WHERE datname = current_database()")
        second = threads.submit(migrate, tell=told.put)
        assert told.get(timeout=PATIENCE_S) == "Another `graphnode migrate` is running: waiting until it has ended."

        worker.commit()

        assert first.result(PATIENCE_S) == ["9999_index"]
        assert second.result(PATIENCE_S) == []

    def test_a_killed_migrator_gives_way(
        self, url: str, worker: Connection, add_migration: AddMigration, migrations: Path
    ) -> None:
        worker.cursor().execute("SELECT 1 FROM tasks")
        add_migration("9999_more", ADD_COLUMN)
        program = (
            "import pathlib, sys; from graphnode.storage import database, schema;"
            "schema.MIGRATIONS = pathlib.Path(sys.argv[2]);"
            "database.open_database(sys.argv[1], max_connections=1); schema.migrate()"
        )
        with subprocess.Popen([sys.executable, "-c", program, url, migrations]) as killed:
            wait_for_lock(url)
            killed.kill()
        worker.rollback()

        assert migrate() == ["9999_more"]

    def test_a_time_out_for_idle_transactions_takes_the_lock_from_nobody(
        self, url: str, query: Query, worker: Connection, add_online: Callable[[str, str], None]
    ) -> None:
        query(f"ALTER DATABASE {worker.info.dbname} SET idle_in_transaction_session_timeout = 50")
        database.close_all()
        add_online("9998_slow", 'db.execute_sql("SELECT pg_sleep(0.3)")')
        add_online("9999_next", "pass")

        assert migrate() == ["9998_slow", "9999_next"]

    def test_who_has_lost_the_lock_applies_nothing_more(
        self, query: Query, add_online: Callable[[str, str], None]
    ) -> None:
        others = (
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks"
            " WHERE locktype = 'advisory' AND pid <> pg_backend_pid() AND granted"
        )
        add_online("9998_cuts_off", f'db.execute_sql("{others}")')
        add_online("9999_next", "pass")

        with pytest.raises(psycopg2.Error):
            migrate()

        assert query("SELECT name FROM schema_migration WHERE name >= '9998'") == [("9998_cuts_off",)]


class TestMakeIndex:
    def test_what_an_interrupted_run_has_left_is_made_anew(
        self, query: Query, add_online: Callable[[str, str], None]
    ) -> None:
        for number in range(2):
            query(INSERT, f"t{number}")
        with suppress(errors.UniqueViolation):
            query("CREATE UNIQUE INDEX CONCURRENTLY tasks_by_reason ON tasks (user_id)")
        add_online("9999_index", MAKE_INDEX)

        migrate()

        ((is_valid, definition),) = query(
            "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indexrelid = 'tasks_by_reason'::regclass"
        )
        assert is_valid
        assert "(reason) WHERE" in definition

    def test_the_index_that_a_killed_migrators_server_still_makes_is_waited_for(
        self,
        url: str,
        query: Query,
        worker: Connection,
        add_online: Callable[[str, str], None],
        threads: ThreadPoolExecutor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(online, "LOOK_S", 0.02)
        worker.cursor().execute(INSERT, ("t1",))

        def orphan() -> None:
            with querying(url) as run:
                run("CREATE INDEX CONCURRENTLY tasks_by_reason ON tasks (reason) WHERE reason IS NOT NULL")

        making = threads.submit(orphan)
        wait_until(query, "SELECT 1 FROM pg_stat_progress_create_index WHERE index_relid <> 0")
        before = query("SELECT 'tasks_by_reason'::regclass::oid")
        add_online("9999_index", MAKE_INDEX)
        migrating = threads.submit(migrate)
        wait_until(query, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted")
        worker.commit()
        making.result(PATIENCE_S)

        assert migrating.result(PATIENCE_S) == ["9999_index"]
        assert query("SELECT 'tasks_by_reason'::regclass::oid") == before

    def test_what_it_waits_for_is_told(
        self,
        url: str,
        worker: Connection,
        add_online: Callable[[str, str], None],
        threads: ThreadPoolExecutor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(migration_locks, "LOOK_S", 0.02)
        worker.cursor().execute(INSERT, ("t1",))
        add_online("9999_index", MAKE_INDEX)
        told: Queue[str] = Queue()
        migrating = threads.submit(migrate, tell=told.put)

        said = told.get(timeout=PATIENCE_S)

        assert said.startswith("9999_index: waits for transactions that are older, which pid ")
        assert str(worker.info.backend_pid) in said
        worker.commit()
        assert migrating.result(PATIENCE_S) == ["9999_index"]


def test_a_backfill_is_a_transaction_for_each_batch_and_waits_for_no_row(
    query: Query,
    worker: Connection,
    add_online: Callable[[str, str], None],
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(online, "LOOK_S", 0.02)
    for number in range(25):
        query(INSERT, f"t{number}")
    worker.cursor().execute("SELECT FROM tasks WHERE task_id = 't7' FOR UPDATE")
    add_online("9999_backfill", BACKFILL)

    migrating = threads.submit(migrate)

    wait_until(query, "SELECT 1 FROM tasks WHERE reason = 'none' HAVING count(*) = 24")
    worker.rollback()
    assert migrating.result(PATIENCE_S) == ["9999_backfill"]
    assert query("SELECT count(*), count(DISTINCT xmin::text) FROM tasks WHERE reason = 'none'") == [(25, 4)]


def test_a_backfill_that_cannot_come_to_an_end_says_why(
    query: Query, add_online: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "LOOK_S", 0.0)
    query(INSERT, "t1")
    add_online("9999_backfill", BACKFILL.replace("'none'", "NULL"))

    with pytest.raises(SchemaError, match=r"tasks still has rows where reason IS NULL: workers of the previous"):
        migrate()

    assert query("SELECT 1 FROM schema_migration WHERE name = '9999_backfill'") == []


class TestContract:
    @pytest.fixture
    def contract(self, url: str, add_migration: AddMigration) -> None:
        add_migration("9998_expand", ADD_COLUMN)
        migrate()
        add_migration("9999_contract", "ALTER TABLE tasks DROP COLUMN error", floor="9998_expand")

    @pytest.fixture
    def put_worker(self, query: Query) -> Callable[[str, str], None]:
        """Have a worker process that knows this migration as its newest, and was seen so long ago."""

        def put(newest: str, ago: str) -> None:
            query(
                "INSERT INTO workers (id, host, pid, version, newest_migration, threads, interval_s, started_at,"
                " seen_at, in_hand, running, handled, retried, dead)"
                " VALUES (%s, 'alpha', 7, '0.1.0', %s, 8, 30, now(), now() - %s::interval, 0, 0, 0, 0, 0)",
                f"w-{newest}-{ago}",
                newest,
                ago,
            )

        return put

    @pytest.mark.usefixtures("contract")
    def test_waits_for_workers_that_need_what_it_takes_away(
        self, query: Query, put_worker: Callable[[str, str], None]
    ) -> None:
        put_worker("0008_floor", "1 minute")

        with pytest.raises(
            SchemaError, match=r"9999_contract removes .* alpha:7 \(0\.1\.0\): deploy .* knows 9998_expand first"
        ):
            migrate()

        assert query("SELECT error FROM tasks") == []

    @pytest.mark.usefixtures("contract")
    def test_goes_on_beside_workers_that_do_without_it_and_past_those_that_are_gone(
        self, put_worker: Callable[[str, str], None]
    ) -> None:
        put_worker("9998_expand", "1 second")
        put_worker("0008_floor", "5 minutes")

        assert migrate() == ["9999_contract"]
