"""Pruning deletes old rows in batches, and `graphnode prune` reports its progress."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from click.testing import CliRunner

from graphnode import cli
from graphnode.storage import pruning
from graphnode.storage.pruning import prune
from tests.integration.conftest import Query

BEFORE = datetime.now(UTC) - timedelta(days=90)

NOTIFICATION = (
    "INSERT INTO notifications (id, user_id, type, payload, event, push_status, created_at, due_at)"
    " VALUES (%s, 'ada', 'T', '{}', %s, %s, now() - %s::interval, CASE WHEN %s THEN now() END)"
)
TASK = (
    "INSERT INTO tasks (task_id, task_type, user_id, status, finished_at)"
    " VALUES (%s, 'T', 'ada', %s, now() - %s::interval)"
)
ATTEMPT = (
    "INSERT INTO task_attempts (task_id, task_type, attempt, reason, error, given_up, failed_at)"
    " VALUES (%s, 'T', 1, 'TRANSIENT', 'busy', false, now() - %s::interval)"
)

DELETED = (
    "INSERT INTO deleted_letters (message_id, queue, reason, because, deleted_by, body_sha256, deleted_at)"
    " VALUES (%s, 'results', 'TRANSIENT', 'sent twice', 'ada@host', '', now() - %s::interval)"
)

#: Tables with one old and one new row.
OTHERS = {"task_attempts": 1, "deleted_letters": 1}


@pytest.fixture
def storage_role() -> str:
    """The operator's role."""
    return "graphnode_operator"


@pytest.fixture(autouse=True)
def rows(storage: None, query: Query) -> None:
    """Rows whose names say whether they are old."""
    for status in ("SENT", "SKIPPED", "FAILED"):
        query(NOTIFICATION, f"old-{status}", f"old-{status}", status, "91 days", False)
        query(NOTIFICATION, f"new-{status}", f"new-{status}", status, "89 days", False)
    query(NOTIFICATION, "new-pending", "pending", "PENDING", "91 days", True)
    query(NOTIFICATION, "new-with-devices-left", "left", "SENT", "91 days", True)
    for status in ("COMPLETED", "FAILED", "SUPERSEDED"):
        query(TASK, f"old-{status}", status, "91 days")
        query(TASK, f"new-{status}", status, "89 days")
    query(TASK, "new-progress", "PROGRESS", None)
    query(ATTEMPT, "old", "91 days")
    query(ATTEMPT, "new", "89 days")
    query(DELETED, "old", "91 days")
    query(DELETED, "new", "89 days")


def left(query: Query) -> list[str]:
    ids = (
        "SELECT id FROM notifications UNION ALL SELECT task_id FROM tasks"
        " UNION ALL SELECT task_id FROM task_attempts"
        " UNION ALL SELECT message_id FROM deleted_letters"
    )
    return [name for (name,) in query(ids)]


def pruned(*, dry_run: bool = False) -> dict[str, int]:
    """Number of deleted rows by table, after all of it was searched."""
    last = {one.table: one for one in prune(BEFORE, dry_run=dry_run)}
    assert all(one.share == 1.0 for one in last.values())
    return {table: one.rows for table, one in last.items()}


def test_old_settled_rows_are_deleted_and_all_others_stay(query: Query) -> None:
    assert pruned() == {"notifications": 3, "tasks": 3, **OTHERS}
    assert len(left(query)) == 5 + 4 + 1 + 1
    assert all(name.startswith("new") for name in left(query))


def test_a_dry_run_counts_and_deletes_nothing(query: Query) -> None:
    assert pruned(dry_run=True) == {"notifications": 3, "tasks": 3, **OTHERS}
    assert len(left(query)) == 8 + 7 + 2 + 2


def test_batches_are_bounded_and_report_their_progress(query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    query(
        "INSERT INTO tasks (task_id, task_type, user_id, status, finished_at)"
        " SELECT 'old-' || n, 'T', 'ada', 'COMPLETED', now() - interval '1 year' FROM generate_series(1, 3000) AS n"
    )
    monkeypatch.setattr(pruning, "BATCH_PAGES", 5)

    progress = [one for one in prune(BEFORE) if one.table == "tasks"]

    assert len(progress) >= 5
    assert [one.share for one in progress] == sorted(one.share for one in progress)
    assert progress[-1][1:] == (3003, 1.0)
    batches = [later.rows - earlier.rows for earlier, later in pairwise(progress)]
    assert max(batches) < 1000


def test_a_batch_reads_its_own_pages_only(query: Query) -> None:
    values = "ctid >= '(0,0)'::tid AND ctid < '(5,0)'::tid AND " + pruning.OLD["tasks"] % {"before": "now()"}

    # Enough pages, and fresh statistics: PostgreSQL always reads a table of one page as a whole.
    query(
        "INSERT INTO tasks (task_id, task_type, user_id, status, finished_at)"
        " SELECT 'many-' || n, 'T', 'ada', 'COMPLETED', now() - interval '1 hour' FROM generate_series(1, 2000) AS n"
    )
    query("ANALYZE tasks")

    plan = query(f"EXPLAIN DELETE FROM tasks WHERE {values}")  # noqa: S608

    assert any("Tid Range Scan" in line for (line,) in plan)


def test_the_command_reports_its_progress_and_warns_of_a_short_age(
    query: Query, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    counted = CliRunner().invoke(cli.commands, ["prune", "--older-than", "90d", "--dry-run"])
    deleted = CliRunner().invoke(cli.commands, ["prune", "--older-than", "24h"])

    assert counted.exit_code == deleted.exit_code == 0
    # The number of lines before the last of each table depends on the pages that earlier tests have left.
    assert [line for line in counted.output.splitlines() if "100%" in line] == [
        "notifications: 100% looked through, 3 rows would go",
        "tasks: 100% looked through, 3 rows would go",
        "task_attempts: 100% looked through, 1 rows would go",
        "deleted_letters: 100% looked through, 1 rows would go",
    ]
    assert "SQS can deliver a result for 28 days" in deleted.output
    assert left(query) == ["new-pending", "new-with-devices-left", "new-progress"]
