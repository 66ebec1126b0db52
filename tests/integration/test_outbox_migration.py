"""The migration 0003_outbox on a database in use, while workers of the previous version run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from graphnode.storage import notifications
from graphnode.storage.database import close_database, open_database
from graphnode.storage.schema import migrate
from tests.integration.conftest import Query, querying

OUTBOX = "0003_outbox"

INSERT = (
    "INSERT INTO notifications (id, user_id, type, payload, event, push_status)"
    " VALUES (%s, 'ada', 'GRAPH_GENERATION_FAILED', '{}', %s, %s)"
)


@pytest.fixture
def database(empty_database_url: str, migrate_to_before: Callable[[str], None]) -> Iterator[Query]:
    """Run a statement on a database with all migrations before the outbox."""
    open_database(empty_database_url)
    migrate_to_before(OUTBOX)
    with querying(empty_database_url) as run:
        yield run
    close_database()


def test_open_notifications_are_due_afterwards_and_settled_ones_are_not(database: Query) -> None:
    for status in ("PENDING", "SENDING", "SENT", "SKIPPED", "FAILED"):
        database(INSERT, status, status, status)

    assert OUTBOX in migrate()

    dated = database("SELECT id FROM notifications WHERE due_at IS NOT NULL ORDER BY id")
    assert dated == [("PENDING",), ("SENDING",)]
    database("UPDATE notifications SET due_at = due_at - interval '1 minute'")
    assert sorted(claimed.id for claimed in notifications.claim_pushes(limit=10)) == ["PENDING", "SENDING"]


def test_a_row_that_an_older_worker_writes_afterwards_is_due(database: Query) -> None:
    migrate()

    database(INSERT, "01", "01", "PENDING")

    assert database("SELECT due_at > now() FROM notifications") == [(True,)]
