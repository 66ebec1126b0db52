"""A workspace completes once, and again when another of its documents ends. No other user's result changes it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import pytest

from graphnode.errors import WrongOwner
from graphnode.storage.database import database
from tests.any_order import api_server
from tests.any_order.delivery import deliver
from tests.any_order.messages import WHOLE
from tests.chaos.model.state import Document, Message, Workspace

pytestmark = pytest.mark.usefixtures("in_this_process")

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)
FIRST, SECOND = (f"task_microscope_file_ada_{ulid}" for ulid in WHOLE)
WORKSPACE = Workspace("w1", "ada", "Thesis")


def result(task_id: str, status: str = "COMPLETED", **payload: Any) -> Message:
    payload = {"userId": "ada", "status": status, **payload}
    return Message({"taskType": "MICROSCOPE_INGEST_RESULT", "taskId": task_id, "payload": payload}, NOON, {})


def completions() -> list[tuple[int, int]]:
    """The numbers of completed and failed documents in each notification of a completion."""
    rows = database.execute_sql(
        "SELECT payload FROM notifications WHERE type = 'MICROSCOPE_WORKSPACE_COMPLETED' ORDER BY created_at"
    )
    return [(payload["completedCount"], payload["failedCount"]) for (payload,) in rows]


@pytest.fixture
def add_document(in_this_process: object) -> Callable[[str], None]:
    """Puts a document into ada's workspace, as the API server does."""
    return lambda document_id: api_server.add_document(Document(document_id, "w1", "ada", "PENDING"), WORKSPACE)


def test_a_workspace_completes_with_its_last_document_and_not_before(add_document: Callable[[str], None]) -> None:
    add_document(FIRST)
    add_document(SECOND)

    deliver(result(FIRST), attempt=1)
    assert completions() == []

    deliver(result(SECOND, "FAILED"), attempt=1)
    assert completions() == [(1, 1)]


def test_a_workspace_completes_once_when_its_last_two_documents_end_at_the_same_time(
    add_document: Callable[[str], None],
) -> None:
    add_document(FIRST)
    add_document(SECOND)
    start = Barrier(2)

    def deliver_with_the_other(task_id: str) -> None:
        start.wait()
        deliver(result(task_id), attempt=1)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(deliver_with_the_other, (FIRST, SECOND)))

    assert completions() == [(2, 0)]


def test_a_workspace_completes_once_when_a_document_ends_twice(add_document: Callable[[str], None]) -> None:
    add_document(FIRST)

    for attempt in (1, 2, 3):
        deliver(result(FIRST), attempt=attempt)

    assert completions() == [(1, 0)]


def test_a_workspace_completes_again_when_a_failed_document_completes_later(
    add_document: Callable[[str], None],
) -> None:
    add_document(FIRST)
    deliver(result(FIRST, "FAILED"), attempt=1)
    assert completions() == [(0, 1)]

    for attempt in (1, 2):
        deliver(result(FIRST), attempt=attempt)

    assert completions() == [(0, 1), (1, 0)]


def test_a_workspace_completes_again_with_a_document_that_was_added_after_its_completion(
    add_document: Callable[[str], None],
) -> None:
    add_document(FIRST)
    deliver(result(FIRST), attempt=1)
    add_document(SECOND)
    assert completions() == [(1, 0)]

    deliver(result(SECOND), attempt=1)

    assert completions() == [(1, 0), (2, 0)]


@pytest.mark.parametrize(
    "named", [{"userId": "eve"}, {"groupId": "w-eve"}], ids=["another user's result", "another user's workspace"]
)
def test_a_result_that_names_another_users_document_or_workspace_stores_nothing(
    add_document: Callable[[str], None], named: dict[str, str]
) -> None:
    add_document(FIRST)
    api_server.add_document(Document("d-eve", "w-eve", "eve", "PENDING"), Workspace("w-eve", "eve", "Hers"))

    with pytest.raises(WrongOwner):
        deliver(result(FIRST, **named), attempt=1)

    assert list(database.execute_sql("SELECT task_id FROM tasks")) == []
    assert list(database.execute_sql("SELECT DISTINCT status FROM microscope_documents")) == [("PENDING",)]
    assert completions() == []
