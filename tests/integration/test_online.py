"""Indexes and backfills on tables in use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Queue

import pytest
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812 # it is a class

from graphnode.errors import SchemaError
from graphnode.storage import migration_locks, online
from graphnode.storage.schema import migrate
from tests.integration.conftest import INSERT_TASK, MAKE_INDEX, PATIENCE_S, Query, querying, wait_until

BACKFILL = """in_batches(
        db, "tasks", key="task_id, task_type", to="reason = 'none'", where="reason IS NULL", size=10
    )"""


class TestMakeIndex:
    def test_an_invalid_index_of_an_interrupted_run_is_built_again(
        self, own_query: Query, add_online: Callable[[str, str], None]
    ) -> None:
        for number in range(2):
            own_query(INSERT_TASK, f"t{number}")
        with suppress(errors.UniqueViolation):
            own_query("CREATE UNIQUE INDEX CONCURRENTLY tasks_by_reason ON tasks (user_id)")
        add_online("9999_index", MAKE_INDEX)

        migrate()

        ((is_valid, definition),) = own_query(
            "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indexrelid = 'tasks_by_reason'::regclass"
        )
        assert is_valid
        assert "(reason) WHERE" in definition

    def test_an_index_that_the_server_still_builds_for_a_killed_migrator_is_waited_for(
        self,
        own_url: str,
        own_query: Query,
        worker: Connection,
        add_online: Callable[[str, str], None],
        threads: ThreadPoolExecutor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(online, "LOOK_S", 0.02)
        worker.cursor().execute(INSERT_TASK, ("t1",))

        def orphan() -> None:
            with querying(own_url) as run:
                run("CREATE INDEX CONCURRENTLY tasks_by_reason ON tasks (reason) WHERE reason IS NOT NULL")

        making = threads.submit(orphan)
        wait_until(own_query, "SELECT 1 FROM pg_stat_progress_create_index WHERE index_relid <> 0")
        before = own_query("SELECT 'tasks_by_reason'::regclass::oid")
        add_online("9999_index", MAKE_INDEX)
        migrating = threads.submit(migrate)
        wait_until(own_query, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted")
        worker.commit()
        making.result(PATIENCE_S)

        assert migrating.result(PATIENCE_S) == ["9999_index"]
        assert own_query("SELECT 'tasks_by_reason'::regclass::oid") == before

    def test_reports_what_it_waits_for(
        self,
        own_url: str,
        worker: Connection,
        add_online: Callable[[str, str], None],
        threads: ThreadPoolExecutor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(migration_locks, "LOOK_S", 0.02)
        worker.cursor().execute(INSERT_TASK, ("t1",))
        add_online("9999_index", MAKE_INDEX)
        told: Queue[str] = Queue()
        migrating = threads.submit(migrate, tell=told.put)

        said = told.get(timeout=PATIENCE_S)

        assert said.startswith("9999_index: waits for transactions that are older, which pid ")
        assert str(worker.info.backend_pid) in said
        worker.commit()
        assert migrating.result(PATIENCE_S) == ["9999_index"]


def test_a_backfill_is_one_transaction_per_batch_and_skips_locked_rows(
    own_query: Query,
    worker: Connection,
    add_online: Callable[[str, str], None],
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(online, "LOOK_S", 0.02)
    for number in range(25):
        own_query(INSERT_TASK, f"t{number}")
    worker.cursor().execute("SELECT FROM tasks WHERE task_id = 't7' FOR UPDATE")
    add_online("9999_backfill", BACKFILL)

    migrating = threads.submit(migrate)

    wait_until(own_query, "SELECT 1 FROM tasks WHERE reason = 'none' HAVING count(*) = 24")
    worker.rollback()
    assert migrating.result(PATIENCE_S) == ["9999_backfill"]
    assert own_query("SELECT count(*), count(DISTINCT xmin::text) FROM tasks WHERE reason = 'none'") == [(25, 4)]


def test_a_backfill_that_cannot_end_says_why(
    own_query: Query, add_online: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "LOOK_S", 0.0)
    own_query(INSERT_TASK, "t1")
    add_online("9999_backfill", BACKFILL.replace("'none'", "NULL"))

    with pytest.raises(SchemaError, match=r"tasks still has rows where reason IS NULL: workers of the previous"):
        migrate()

    assert own_query("SELECT 1 FROM schema_migration WHERE name = '9999_backfill'") == []
