"""The worker in this process: with real rules and a real database, and with a bucket and a queue in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from graphnode.dev import samples
from graphnode.storage.database import database
from tests.any_order.delivery import Bench, bench, deliver, set_up
from tests.chaos.model.state import Message

NOW = datetime(2026, 5, 24, 12, tzinfo=UTC)

#: The rows of every table, as PostgreSQL's text.
Snapshot = dict[str, list[str]]

#: Delivers a packaged result of a kind, with its documents in the bucket and these changes of its payload.
Play = Callable[..., None]


@pytest.fixture
def in_this_process(storage: None, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The worker's surroundings: the documents that it finds, and the notifications that it enqueues."""
    set_up(monkeypatch)
    return bench


@pytest.fixture
def play(in_this_process: Bench) -> Play:
    def deliver_it(kind: str, *, user_id: str = "ada", task_id: str | None = None, **changes: Any) -> None:
        known = samples.KINDS[kind]
        documents = samples.packaged_documents(known, user_id=user_id)
        result = samples.result_of(known, user_id=user_id, documents=documents, task_id=task_id)
        in_this_process.documents |= {key: json.loads(content) for key, content in result.documents.items()}
        body = json.loads(result.body)
        body["payload"] |= changes
        deliver(Message(body, NOW, {}), attempt=1)

    return deliver_it


@pytest.fixture
def snapshot(in_this_process: Bench) -> Callable[[], Snapshot]:
    """Reads every row of every table."""

    def look() -> Snapshot:
        names = database.execute_sql("SELECT tablename FROM pg_tables WHERE schemaname = current_schema").fetchall()
        return {
            name: sorted(row for (row,) in database.execute_sql(f'SELECT t::text FROM "{name}" AS t'))  # noqa: S608
            for (name,) in names
        }

    return look
