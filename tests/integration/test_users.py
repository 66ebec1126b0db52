"""Forgetting a user deletes all their rows and nobody else's; only a new task brings the user back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace

import psycopg2
import pytest
from click.testing import CliRunner

from graphnode.actors.effects import effects_of, is_repeated
from graphnode.cli import commands
from graphnode.contract.envelopes import Envelope, GraphGenerationResult
from graphnode.storage.failures import Subject, record_dead_letter, record_failure
from graphnode.storage.users import forget_user
from tests.conftest import use_settings
from tests.integration.conftest import Query, wait_until


@pytest.fixture
def storage_role() -> str:
    """The operator's role."""
    return "graphnode_operator"


@pytest.fixture
def any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results may name any key of the bucket."""
    use_settings(SimpleNamespace(s3_allowed_prefixes=None, registered_only=False), monkeypatch)


pytestmark = pytest.mark.usefixtures("storage")

#: The test forgets a user as an operator, and then acts as a worker.
both = pytest.mark.parametrize("storage_role", [None])

#: All rows that a user can have; replace USER by a literal.
BELONGINGS = """
BEGIN;
INSERT INTO graphs (user_id, status) VALUES (USER, 'CREATED');
INSERT INTO graph_clusters (user_id, id) VALUES (USER, 'c1');
INSERT INTO graph_nodes (user_id, id, orig_id, cluster_id) VALUES (USER, 0, 'a', 'c1'), (USER, 1, 'b', NULL);
INSERT INTO graph_edges VALUES (USER, 0, 1, 1, 'hard', true);
INSERT INTO graph_subclusters (user_id, id, cluster_id, representative_node_id, size)
    VALUES (USER, 's', 'c1', 0, 1);
INSERT INTO node_embeddings VALUES (USER, 0, '[1]');
INSERT INTO graph_summaries VALUES (USER, '{}', '[]', '[]', '[]', '[]');
INSERT INTO microscope_workspaces (id, user_id) VALUES (USER || '-w', USER);
INSERT INTO microscope_documents
    (id, workspace_id, user_id, status, input_s3_key, standardized_s3_key, images_s3_prefix)
    VALUES (USER || '-d', USER || '-w', USER, 'PENDING', 'in.pdf', 'n.json', 'images/');
INSERT INTO microscope_documents (id, user_id, status) VALUES (USER || '-alone', USER, 'PENDING');
INSERT INTO microscope_graphs VALUES (USER || '-d', 'block', '{}');
INSERT INTO tasks (task_id, task_type, user_id, status, s3_keys)
    VALUES (USER || '-t', 'ADD_NODE_RESULT', USER, 'PENDING', '["r.json", "n.json"]');
INSERT INTO notifications (id, user_id, type, payload, event, push_status)
    VALUES (USER || '-n', USER, 'X', '{}', USER || '-e', 'SKIPPED');
INSERT INTO task_attempts (task_id, task_type, user_id, attempt, reason, error, given_up)
    VALUES (USER || '-t', 'ADD_NODE_RESULT', USER, 1, 'SERVICE_BUSY', 'busy', false);
INSERT INTO deleted_letters (message_id, queue, user_id, reason, because, deleted_by, body_sha256)
    VALUES (USER || '-l', 'results', USER, 'X', 'sent twice', 'eve@host', 'digest');
INSERT INTO device_tokens (token, user_id) VALUES (USER || '-p', USER);
COMMIT;
"""


def count_rows(query: Query) -> dict[str, int]:
    tables = query("SELECT tablename FROM pg_tables WHERE schemaname = current_schema ORDER BY 1")
    nobodys = {"schema_migration", "message_failures", "forgotten_users", "workers", "audit"}
    own = [name for (name,) in tables if name not in nobodys]
    return {name: query(f"SELECT count(*) FROM {name}")[0][0] for name in own}  # noqa: S608


def result_of(user_id: str) -> Envelope[GraphGenerationResult]:
    return Envelope(
        task_id="late",
        task_type="GRAPH_GENERATION_RESULT",
        timestamp=datetime(2026, 5, 24, tzinfo=UTC),
        payload=GraphGenerationResult(user_id=user_id, status="COMPLETED", result_s3_key="gone.json"),
        attempt=1,
    )


@pytest.fixture
def ada_and_eve(query: Query) -> None:
    for user in ("ada", "eve"):
        query(BELONGINGS.replace("USER", f"'{user}'"))


@pytest.mark.usefixtures("ada_and_eve")
def test_all_rows_of_the_user_are_deleted_and_no_others(query: Query) -> None:
    before = count_rows(query)

    forget_user("ada")

    assert all(before.values()), "a table has no row that could be deleted"
    assert count_rows(query) == {table: count // 2 for table, count in before.items()}


@pytest.mark.usefixtures("ada_and_eve")
def test_returns_the_number_of_rows_and_the_named_objects() -> None:
    removed = forget_user("ada")

    assert removed.s3_keys == ["images/", "in.pdf", "n.json", "r.json"]
    assert removed.rows == {
        "graphs": 1,
        "graph_summaries": 1,
        "microscope_documents": 2,
        "microscope_workspaces": 1,
        "notifications": 1,
        "device_tokens": 1,
        "tasks": 1,
        "task_attempts": 1,
        "deleted_letters": 1,
    }


def test_an_unknown_user_is_forgotten_too(query: Query) -> None:
    assert sum(forget_user("nobody").rows.values()) == 0
    assert query("SELECT user_id FROM forgotten_users") == [("nobody",)]


@both
@pytest.mark.usefixtures("any_key")
def test_a_late_result_is_superseded_before_its_documents_are_fetched(query: Query) -> None:
    forget_user("ada")

    assert is_repeated(result_of("ada"), user_id="ada")

    assert query("SELECT status, warnings FROM tasks") == [("SUPERSEDED", {"the user was forgotten": 1})]
    assert query("SELECT * FROM graphs") == []


@both
@pytest.mark.usefixtures("any_key")
def test_a_user_who_is_forgotten_while_documents_are_fetched_stays_forgotten(query: Query) -> None:
    assert not is_repeated(result_of("ada"), user_id="ada")
    forget_user("ada")

    with effects_of(result_of("ada"), user_id="ada") as effects:
        assert effects.repeated

    assert query("SELECT status FROM tasks") == [("SUPERSEDED",)]


@both
@pytest.mark.usefixtures("any_key")
def test_a_task_that_is_registered_after_it_is_handled(query: Query) -> None:
    forget_user("ada")
    query(
        "INSERT INTO tasks (task_id, task_type, user_id, status)"
        " VALUES ('late', 'GRAPH_GENERATION_RESULT', 'ada', 'PENDING')"
    )

    assert not is_repeated(result_of("ada"), user_id="ada")
    with effects_of(result_of("ada"), user_id="ada") as effects:
        assert not effects.repeated


#: The subject of a late failure.
LATE = Subject("late", "GRAPH_GENERATION_RESULT", "ada")


@both
def test_a_failure_of_a_forgotten_users_message_counts_and_names_nothing(query: Query) -> None:
    forget_user("ada")

    counts = [record_failure("m-1", reason="R", error="about ada", subject=LATE) for _ in range(2)]
    record_dead_letter("m-2", attempt=8, reason="R", error="about ada", subject=LATE)

    assert counts == [1, 2]
    assert query("SELECT message_id, task_id, task_type, user_id, error FROM task_attempts ORDER BY id") == [
        ("m-1", None, None, None, "of a forgotten user"),
        ("m-1", None, None, None, "of a forgotten user"),
        ("m-2", None, None, None, "of a forgotten user"),
    ]


@both
@pytest.mark.usefixtures("any_key")
def test_a_superseded_task_does_not_bring_a_forgotten_user_back_into_the_attempts(query: Query) -> None:
    forget_user("ada")
    assert is_repeated(result_of("ada"), user_id="ada")

    record_failure("m-1", reason="R", error="about ada", subject=LATE._replace(user_id=None))

    assert query("SELECT user_id, error FROM task_attempts") == [(None, "of a forgotten user")]


@both
def test_a_failure_of_a_task_that_is_registered_later_is_kept(query: Query) -> None:
    forget_user("ada")
    query("INSERT INTO tasks (task_id, task_type, user_id, status) VALUES ('late', 'X', 'ada', 'PENDING')")

    record_failure("m-1", reason="R", error="about ada", subject=LATE)

    assert query("SELECT user_id, error FROM task_attempts") == [("ada", "about ada")]


@pytest.mark.usefixtures("ada_and_eve")
@both
def test_a_failure_during_the_forgetting_waits_for_its_end(query: Query, database_url: str) -> None:
    """The last deletion waits for a row that another session has locked."""
    with (
        ThreadPoolExecutor(2) as threads,
        closing(psycopg2.connect(database_url)) as other,
        other.cursor() as cursor,
    ):
        cursor.execute("SELECT FROM deleted_letters WHERE user_id = 'ada' FOR UPDATE")
        forgetting = threads.submit(forget_user, "ada")
        wait_until(query, "SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted")
        failing = threads.submit(record_failure, "m-1", reason="R", error="about ada", subject=LATE)
        wait_until(query, "SELECT 1 FROM pg_locks WHERE locktype = 'relation' AND NOT granted")
        other.commit()
        forgetting.result()
        failing.result()

    assert query("SELECT user_id, error FROM task_attempts WHERE message_id = 'm-1'") == [(None, "of a forgotten user")]


def test_a_user_may_be_forgotten_twice(query: Query) -> None:
    forget_user("ada")
    forget_user("ada")

    assert query("SELECT user_id FROM forgotten_users") == [("ada",)]
    assert query("SELECT count(*) FROM forgotten_users") == [(1,)]


@pytest.mark.usefixtures("ada_and_eve")
def test_the_command_asks_first_and_prints_the_keys_alone_on_its_output(database_url: str, query: Query) -> None:
    runner = CliRunner(env={"DATABASE_URL": database_url})

    refused = runner.invoke(commands, ["forget", "ada"], input="n\n")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "This cannot be undone." in refused.stderr
    assert query("SELECT count(*) FROM graphs") == [(2,)]

    done = runner.invoke(commands, ["forget", "ada", "--yes"])
    assert (done.exit_code, done.stdout) == (0, "images/\nin.pdf\nn.json\nr.json\n")
    assert "microscope_documents           2 removed" in done.stderr
    assert query("SELECT user_id FROM graphs") == [("eve",)]
