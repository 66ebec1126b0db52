"""Migrations while workers write: who waits for whom and how long, and what an interrupted migrator leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812 # it is a class

from graphnode.errors import SchemaError
from graphnode.storage import migration_locks, schema
from graphnode.storage.database import LOCK_TIMEOUT_MS, database
from graphnode.storage.schema import migrate
from tests.integration.conftest import (
    ADD_COLUMN,
    INSERT_TASK,
    MAKE_INDEX,
    PATIENCE_S,
    AddMigration,
    Query,
    wait_for_lock,
    wait_until,
)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrations wait for 0.3 s, check after 20 ms, and make three attempts without a pause."""
    monkeypatch.setattr(migration_locks, "LOCK_TIMEOUT_MS", 300)
    monkeypatch.setattr(migration_locks, "STATEMENT_TIMEOUT_MS", 600)
    monkeypatch.setattr(schema, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(migration_locks, "LOOK_S", 0.02)


def has_column(query: Query) -> bool:
    return bool(query("SELECT 1 FROM information_schema.columns WHERE table_name = 'tasks' AND column_name = 'more'"))


class TestLocks:
    @pytest.mark.usefixtures("impatient")
    def test_a_table_that_stays_in_use_ends_it_with_the_name_of_the_user_and_no_change(
        self, own_query: Query, worker: Connection, add_migration: AddMigration
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
        assert not has_column(own_query)
        worker.rollback()
        assert migrate() == ["9999_more"]

    def test_sessions_that_come_while_it_waits_are_let_through(
        self,
        own_url: str,
        own_query: Query,
        worker: Connection,
        add_migration: AddMigration,
        threads: ThreadPoolExecutor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A session that waits for an exclusive lock blocks all later sessions, even readers."""
        monkeypatch.setattr(migration_locks, "LOCK_TIMEOUT_MS", 300)
        worker.cursor().execute("SELECT 1 FROM tasks")
        add_migration("9999_more", ADD_COLUMN)
        migrating = threads.submit(migrate)
        wait_for_lock(own_url)

        own_query("SET lock_timeout = '5s'")
        own_query("SELECT 1 FROM tasks")

        assert not migrating.done()
        worker.rollback()
        assert migrating.result(PATIENCE_S) == ["9999_more"]

    @pytest.mark.usefixtures("impatient")
    def test_a_statement_that_holds_locks_for_long_is_cancelled(
        self, own_query: Query, add_migration: AddMigration
    ) -> None:
        add_migration("9999_more", f"{ADD_COLUMN}; SELECT pg_sleep(5)")

        with pytest.raises(SchemaError, match="9999_more was not applied, one of its statements took more than"):
            migrate()

        assert not has_column(own_query)

    @pytest.mark.usefixtures("impatient")
    def test_a_table_that_is_changed_outside_a_transaction_is_tried_again_and_what_was_done_stays(
        self, own_query: Query, worker: Connection, add_online: Callable[[str, str], None]
    ) -> None:
        worker.cursor().execute("SELECT 1 FROM tasks")
        add = "ALTER TABLE {} ADD COLUMN IF NOT EXISTS more text"
        add_online(
            "9999_more", f"change_table(db, '{add.format('graphs')}')\n    change_table(db, '{add.format('tasks')}')"
        )

        with pytest.raises(SchemaError, match=r"at each of 3 attempts\. What it did stays"):
            migrate()

        assert own_query("SELECT more FROM graphs") == []
        assert not has_column(own_query)
        worker.rollback()
        assert migrate() == ["9999_more"]
        assert has_column(own_query)

    @pytest.mark.usefixtures("impatient")
    def test_a_table_is_changed_outside_a_transaction_with_the_limits_of_one(
        self, own_query: Query, add_online: Callable[[str, str], None]
    ) -> None:
        limits = "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
        add_online("9999_limits", f'change_table(db, "CREATE TABLE limits (lock, statement) AS {limits}")')

        migrate()

        assert own_query("SELECT * FROM limits") == [("300ms", "600ms")]

    def test_all_waits_are_shorter_than_a_workers_lock_timeout(self) -> None:
        assert migration_locks.LOCK_TIMEOUT_MS + migration_locks.STATEMENT_TIMEOUT_MS < LOCK_TIMEOUT_MS

    def test_reports_the_time_of_each_migration(self, own_url: str, add_migration: AddMigration) -> None:
        add_migration("9999_more", ADD_COLUMN)
        told: list[str] = []

        migrate(tell=told.append)

        (line,) = told
        assert line.startswith("applied 9999_more: 0.")


class TestSoleMigrator:
    @pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
    def test_an_index_is_made_while_another_migrator_waits(
        self,
        own_url: str,
        own_query: Query,
        worker: Connection,
        add_online: Callable[[str, str], None],
        threads: ThreadPoolExecutor,
        isolation: str,
    ) -> None:
        """CREATE INDEX CONCURRENTLY waits for each transaction with a snapshot: a waiting migrator must have none."""
        own_query(f"ALTER DATABASE {worker.info.dbname} SET default_transaction_isolation = '{isolation}'")
        # PostgreSQL does not detect this deadlock: end it by a timeout.
        own_query(f"ALTER DATABASE {worker.info.dbname} SET statement_timeout = '20s'")
        database.abandon()
        worker.cursor().execute(INSERT_TASK, ("t1",))
        add_online("9999_index", MAKE_INDEX)
        told: Queue[str] = Queue()
        first = threads.submit(migrate)
        wait_until(own_query, "SELECT 1 FROM pg_stat_progress_create_index WHERE datname = current_database()")
        second = threads.submit(migrate, tell=told.put)
        assert told.get(timeout=PATIENCE_S) == "Another `graphnode migrate` is running: waiting until it has ended."

        worker.commit()

        assert first.result(PATIENCE_S) == ["9999_index"]
        assert second.result(PATIENCE_S) == []

    def test_a_killed_migrator_releases_the_lock(
        self, own_url: str, worker: Connection, add_migration: AddMigration, migrations: Path
    ) -> None:
        worker.cursor().execute("SELECT 1 FROM tasks")
        add_migration("9999_more", ADD_COLUMN)
        program = (
            "import pathlib, sys; from graphnode.storage import database, schema;"
            "schema.MIGRATIONS = pathlib.Path(sys.argv[2]);"
            "database.open_database(sys.argv[1]); schema.migrate()"
        )
        with subprocess.Popen([sys.executable, "-c", program, own_url, migrations]) as killed:
            wait_for_lock(own_url)
            killed.kill()
        worker.rollback()

        assert migrate() == ["9999_more"]

    def test_a_timeout_for_idle_transactions_does_not_release_the_lock(
        self, own_url: str, own_query: Query, worker: Connection, add_online: Callable[[str, str], None]
    ) -> None:
        own_query(f"ALTER DATABASE {worker.info.dbname} SET idle_in_transaction_session_timeout = 50")
        database.abandon()
        add_online("9998_slow", 'db.execute_sql("SELECT pg_sleep(0.3)")')
        add_online("9999_next", "pass")

        assert migrate() == ["9998_slow", "9999_next"]

    def test_a_migrator_that_lost_the_lock_applies_nothing_more(
        self, own_query: Query, add_online: Callable[[str, str], None]
    ) -> None:
        others = (
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks"
            " WHERE locktype = 'advisory' AND pid <> pg_backend_pid() AND granted"
        )
        add_online("9998_cuts_off", f'db.execute_sql("{others}")')
        add_online("9999_next", "pass")

        with pytest.raises(psycopg2.Error):
            migrate()

        assert own_query("SELECT name FROM schema_migration WHERE name >= '9998'") == [("9998_cuts_off",)]
