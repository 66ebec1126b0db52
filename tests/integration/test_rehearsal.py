"""What a probe of the database finds: whatever would fail every result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias
from urllib.parse import urlsplit

import peewee
import pytest

from graphnode.errors import DatabaseFault, GraphNodeError, classify_error
from graphnode.storage import workers
from graphnode.storage.database import database
from graphnode.storage.rehearsal import rehearse
from tests.integration.conftest import Query
from tests.integration.test_workers import process

#: Changes the database until the end of a test, by a statement and the one that undoes it.
Change: TypeAlias = Callable[[str, str], None]

pytestmark = pytest.mark.usefixtures("storage")

#: Raises an error with the SQLSTATE that it is given.
FAILING = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'it fails' USING ERRCODE = tg_argv[0]; END $$
"""

#: Lets each write of a process's row fail: at once, or when it is committed.
WRITES = "CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON workers FOR EACH ROW EXECUTE FUNCTION fail('{}')"
COMMITS = """
CREATE CONSTRAINT TRIGGER fail AFTER INSERT OR UPDATE ON workers DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION fail('{}')
"""


@pytest.fixture
def change(query: Query) -> Iterator[Change]:
    """Change the database until the end of the test: `change(statement, undo)`."""
    undone: list[str] = []

    def run(statement: str, undo: str) -> None:
        query(statement)
        undone.append(undo)

    yield run
    for statement in reversed(undone):
        query(statement)


@pytest.fixture
def storage_role() -> str:
    """The worker's role."""
    return "graphnode_worker"


def write_row() -> None:
    workers.save_process(process("probe"))


def fault() -> GraphNodeError:
    """How a rehearsal fails."""
    with pytest.raises((GraphNodeError, peewee.PeeweeException)) as raised:
        rehearse(write_row)
    return classify_error(raised.value)


def backend_pid() -> int:
    (pid,) = database.execute_sql("SELECT pg_backend_pid()").fetchone()
    return int(pid)


def test_a_rehearsal_commits_the_row_over_a_new_connection_and_threads_replace_theirs() -> None:
    first = backend_pid()

    rehearse(write_row)

    assert [row.pid for row in workers.processes()] == [7]
    assert backend_pid() != first


def test_a_missing_right_is_found(change: Change) -> None:
    change("REVOKE INSERT ON graph_edges FROM graphnode_worker", "GRANT INSERT ON graph_edges TO graphnode_worker")

    assert "INSERT on graph_edges" in str(fault())


def test_a_missing_table_is_found(change: Change) -> None:
    change("ALTER TABLE graph_edges RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO graph_edges")

    found = fault()
    assert isinstance(found, DatabaseFault)
    assert "graphnode migrate" in found.advice


@pytest.mark.parametrize("failing", [WRITES, COMMITS], ids=["writes", "commits"])
@pytest.mark.parametrize(("code", "advice"), [("53100", "disk"), ("58030", "log"), ("54000", "NOTIFY")])
def test_a_server_that_only_answers_questions_is_found(failing: str, code: str, advice: str, change: Change) -> None:
    change(FAILING, "DROP FUNCTION fail")
    change(failing.format(code), "DROP TRIGGER fail ON workers")

    found = fault()
    assert isinstance(found, DatabaseFault)
    assert (code in found.log_text, advice in found.advice) == (True, True)


def test_a_disk_that_takes_no_more_than_a_row_is_found(change: Change, database_url: str) -> None:
    name = urlsplit(database_url).path.lstrip("/")
    change(f'ALTER DATABASE "{name}" SET temp_file_limit = 64', f'ALTER DATABASE "{name}" RESET temp_file_limit')

    assert "53400" in fault().log_text


def test_a_demoted_server_is_found(change: Change, database_url: str) -> None:
    name = urlsplit(database_url).path.lstrip("/")
    change(
        f'ALTER DATABASE "{name}" SET default_transaction_read_only = on',
        f'SET default_transaction_read_only = off; ALTER DATABASE "{name}" RESET default_transaction_read_only',
    )

    found = fault()
    assert isinstance(found, DatabaseFault)
    assert "primary" in found.advice
