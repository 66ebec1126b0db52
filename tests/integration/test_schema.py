"""Migrations are applied once and in order; older and newer databases are told apart."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg2
import pytest

from graphnode.errors import SchemaError
from graphnode.storage import (
    audit,
    deleted_letters,
    failures,
    graphs,
    microscope,
    notifications,
    schema,
    summaries,
    tasks,
    users,
    workers,
)
from graphnode.storage.database import Record, close_database, database, open_database
from graphnode.storage.schema import check_schema, migrate
from tests.integration.conftest import ADD_COLUMN, AddMigration, Query, wait_for_lock

MODELS: list[type[Record]] = [
    graphs.GraphRecord,
    *graphs.PARTS,
    summaries.SummaryRecord,
    microscope.WorkspaceRecord,
    microscope.DocumentRecord,
    microscope.DocumentGraphRecord,
    tasks.TaskRecord,
    notifications.NotificationRecord,
    notifications.DeviceTokenRecord,
    failures.AttemptRecord,
    audit.AuditRecord,
    deleted_letters.DeletedLetterRecord,
    users.ForgottenUserRecord,
    workers.WorkerRecord,
]

#: The migrations in order.
NAMES = sorted(path.stem for path in schema.MIGRATIONS.glob("[0-9]*.py"))

#: PostgreSQL's names of peewee's types.
TYPES = {
    "TEXT": "text",
    "INT": "integer",
    "BIGAUTO": "bigint",
    "BIGINT": "bigint",
    "DOUBLE": "double precision",
    "BOOL": "boolean",
    "TIMESTAMPTZ": "timestamp with time zone",
    "JSON": "jsonb",
    "vector": "vector",
}


#: The foreign keys whose columns no index begins with, in any order.
WITHOUT_INDEX = """
SELECT conrelid::regclass::text, conname FROM pg_constraint
WHERE contype = 'f' AND NOT EXISTS (
    SELECT FROM pg_index
    WHERE indrelid = conrelid AND indisvalid AND indpred IS NULL
        AND (indkey::smallint[])[0 : cardinality(conkey) - 1] @> conkey)
"""


@pytest.fixture
def first_schema(empty_storage: None, migrate_to_before: Callable[[str], None]) -> None:
    """The schema of the first migration; the others are missing."""
    migrate_to_before(NAMES[1])


def tables() -> list[str]:
    found: list[str] = database.get_tables()
    return found


@pytest.mark.usefixtures("storage")
def test_each_foreign_keys_columns_lead_an_index() -> None:
    """Otherwise each row that is deleted costs a pass over all rows that might refer to it."""
    assert database.execute_sql(WITHOUT_INDEX).fetchall() == []


@pytest.mark.usefixtures("empty_storage")
class TestMigrate:
    def test_brings_an_empty_database_to_the_newest_schema(self) -> None:
        assert migrate() == NAMES
        check_schema()

    def test_finds_nothing_to_do_the_second_time(self) -> None:
        migrate()
        assert migrate() == []

    def test_two_at_once_apply_each_migration_once(self) -> None:
        with ThreadPoolExecutor() as threads:
            applied = [future.result() for future in [threads.submit(migrate) for _ in range(3)]]

        assert sorted(applied) == [[], [], NAMES]

    @pytest.mark.usefixtures("first_schema")
    def test_waits_for_a_workers_transaction_and_lets_it_finish(self, empty_database_url: str) -> None:
        """A worker reads the task and then writes the graph: a migration that locked the graph first would block it."""
        with closing(psycopg2.connect(empty_database_url)) as worker, ThreadPoolExecutor() as threads:
            cursor = worker.cursor()
            cursor.execute("SELECT * FROM tasks")
            migrating = threads.submit(migrate)
            wait_for_lock(empty_database_url)
            cursor.execute("INSERT INTO graphs (user_id, status) VALUES ('ada', 'CREATED')")
            cursor.execute("INSERT INTO graph_nodes (user_id, id, orig_id) VALUES ('ada', 0, 'a')")
            worker.commit()

            assert migrating.result() == NAMES[1:]

    @pytest.mark.usefixtures("first_schema")
    def test_mends_what_others_have_left_out(self) -> None:
        database.execute_sql(
            """
            INSERT INTO microscope_documents (id, workspace_id, user_id, status, error)
                VALUES ('d1', 'w1', 'ada', 'COMPLETED', 'an old error');
            INSERT INTO tasks (task_id, task_type, user_id, status) VALUES ('t1', 'x', 'ada', 'FAILED');
            INSERT INTO tasks (task_id, task_type, user_id, status, finished_at)
                VALUES ('t2', 'x', 'ada', 'PENDING', now())
            """
        )

        assert migrate() == NAMES[1:]

        assert microscope.WorkspaceRecord.get_by_id("w1").user_id == "ada"

    def test_what_fails_leaves_nothing_and_what_was_applied_before_stays(self, add_migration: AddMigration) -> None:
        broken = add_migration("9999_broken", "CREATE TABLE half_done (); SELECT 1 / 0")

        with pytest.raises(Exception, match="division by zero"):
            migrate()

        assert "tasks" in tables()
        assert "half_done" not in tables()
        broken.unlink()
        assert migrate() == []

    def test_says_what_to_install_when_pgvector_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schema, "EXTENSION", "vector_of_another_world")

        with pytest.raises(SchemaError, match="install pgvector"):
            migrate()

        assert tables() == []

    def test_says_whom_to_ask_when_pgvector_may_not_be_created(self, postgres: str, empty_database_url: str) -> None:
        role = f"reader_{uuid4().hex}"
        given = urlsplit(empty_database_url)
        address = given.netloc.rpartition("@")[2]
        close_database()
        with closing(psycopg2.connect(postgres)) as server:
            server.autocommit = True
            with server.cursor() as cursor:
                cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
                try:
                    open_database(given._replace(netloc=f"{role}:secret@{address}").geturl())
                    with pytest.raises(SchemaError, match="administrator"):
                        migrate()
                    close_database()
                finally:
                    cursor.execute(f"DROP ROLE {role}")


@pytest.mark.usefixtures("empty_storage")
class TestCheckSchema:
    def test_an_empty_database_needs_to_be_migrated(self) -> None:
        with pytest.raises(SchemaError, match="no schema yet: run `graphnode migrate`"):
            check_schema()

    def test_an_older_database_needs_to_be_migrated(self, migrations: Path) -> None:
        migrate()
        (migrations / "9999_more.py").touch()

        with pytest.raises(SchemaError, match=r"older.*9999_more.*run `graphnode migrate`"):
            check_schema()

    def test_a_database_with_more_than_this_version_knows_is_worked_with(self, add_migration: AddMigration) -> None:
        newer = add_migration("9998_expand", ADD_COLUMN)
        migrate()
        newer.unlink()

        assert check_schema() == ["9998_expand"]
        assert migrate() == []

    @pytest.mark.parametrize("works_with_it", [migrate, check_schema])
    def test_a_database_without_what_this_version_needs_wants_a_newer_one(
        self, add_migration: AddMigration, works_with_it: Callable[[], list[str]]
    ) -> None:
        expand = add_migration("9998_expand", ADD_COLUMN)
        contract = add_migration("9999_contract", "ALTER TABLE tasks DROP COLUMN error", floor="9998_expand")
        migrate()
        contract.unlink()

        assert works_with_it() == (["9999_contract"] if works_with_it is check_schema else [])

        expand.unlink()
        with pytest.raises(
            SchemaError,
            match=r"too new.* 9998_expand, 9999_contract: deploy a version that knows 9998_expand at least",
        ):
            works_with_it()


class TestContract:
    @pytest.fixture
    def contract(self, own_url: str, add_migration: AddMigration) -> None:
        add_migration("9998_expand", ADD_COLUMN)
        migrate()
        add_migration("9999_contract", "ALTER TABLE tasks DROP COLUMN error", floor="9998_expand")

    @pytest.fixture
    def put_worker(self, own_query: Query) -> Callable[[str, str], None]:
        """Insert a worker process: its newest migration, and how long ago it was seen."""

        def put(newest: str, ago: str) -> None:
            own_query(
                "INSERT INTO workers (id, host, pid, version, newest_migration, threads, interval_s, started_at,"
                " seen_at, in_hand, running, handled, retried, dead)"
                " VALUES (%s, 'alpha', 7, '0.1.0', %s, 8, 30, now(), now() - %s::interval, 0, 0, 0, 0, 0)",
                f"w-{newest}-{ago}",
                newest,
                ago,
            )

        return put

    @pytest.mark.usefixtures("contract")
    def test_is_refused_while_workers_need_what_it_removes(
        self, own_query: Query, put_worker: Callable[[str, str], None]
    ) -> None:
        put_worker("0008_floor", "1 minute")

        with pytest.raises(
            SchemaError, match=r"9999_contract removes .* alpha:7 \(0\.1\.0\): deploy .* knows 9998_expand first"
        ):
            migrate()

        assert own_query("SELECT error FROM tasks") == []

    @pytest.mark.usefixtures("contract")
    def test_is_applied_beside_workers_that_do_not_need_it_and_after_late_ones(
        self, put_worker: Callable[[str, str], None]
    ) -> None:
        put_worker("9998_expand", "1 second")
        put_worker("0008_floor", "5 minutes")

        assert migrate() == ["9999_contract"]


@pytest.mark.usefixtures("storage")
class TestModels:
    @pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.table_name)
    def test_a_models_fields_are_its_tables_columns(self, model: type[Record]) -> None:
        columns = {
            column.name: (column.data_type.replace("USER-DEFINED", "vector"), column.null)
            for column in database.get_columns(model._meta.table_name)
        }
        keys = database.get_primary_keys(model._meta.table_name)

        fields = model._meta.sorted_fields
        assert {field.column_name: (TYPES[field.field_type], field.null) for field in fields} == columns
        assert [key.column_name for key in model._meta.get_primary_keys()] == keys

    def test_every_table_has_a_model(self) -> None:
        # The previous release counts failures in message_failures.
        others = {"schema_migration", "message_failures"}

        assert {model._meta.table_name for model in MODELS} | others == set(tables())
