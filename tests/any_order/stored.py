"""The tables as they are stored, read on the worker's own connection."""

from __future__ import annotations

from typing import Any

from graphnode.storage.database import connection, database
from tests.chaos.model import tables
from tests.chaos.model.tables import Tables


def stored_tables() -> Tables:
    """The rows of each table, in the order in which the model has its own."""
    with connection():
        return tables.read_tables(database.execute_sql)


def faults() -> dict[str, list[Any]]:
    """What is wrong in the tables by themselves."""
    with connection():
        return tables.faults(database.execute_sql)


def pending_pushes() -> set[str]:
    """The IDs of the notifications that nobody has pushed."""
    with connection():
        rows = database.execute_sql("SELECT id FROM notifications WHERE push_status = 'PENDING'")
        return {notification_id for (notification_id,) in rows}
