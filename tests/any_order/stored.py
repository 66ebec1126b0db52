"""The stored tables, read on the worker's own connection."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from graphnode.storage.database import database
from tests.chaos.model import tables
from tests.chaos.model.state import Notification, State
from tests.chaos.model.tables import Tables


def stored_tables() -> Tables:
    """The rows of each table, in the model's order."""
    return tables.read_tables(database.execute_sql)


def expected_tables(state: State) -> Tables:
    """The model's tables. Without Firebase credentials nothing is pushed, and the model knows of none."""
    expected = state.tables()
    told = [Notification(user, type_, told, "SKIPPED", at) for user, type_, told, _, at in expected["notifications"]]
    return expected | {"notifications": sorted(told, key=repr)}


def faults() -> dict[str, list[Any]]:
    """The faults of the tables that need no model: wrong counts and broken references."""
    return tables.faults(database.execute_sql)


def content_times() -> dict[str, datetime]:
    """By user, when the content of their graph last changed."""
    query = "SELECT user_id, content_updated_at FROM graphs WHERE content_updated_at IS NOT NULL"
    return dict(database.execute_sql(query))


def pending_pushes() -> set[str]:
    """The IDs of the notifications whose push is pending."""
    rows = database.execute_sql("SELECT id FROM notifications WHERE push_status = 'PENDING'")
    return {notification_id for (notification_id,) in rows}
