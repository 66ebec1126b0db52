"""What the API server writes while the worker works: requests that are under way, and documents that will come."""

from __future__ import annotations

from typing import Any

from graphnode.storage.database import connection, database
from tests.any_order.state import Document, Workspace


def request(user_id: str, *, under_way: str) -> None:
    """Note that a graph (CREATING) or new nodes (UPDATING) were asked for."""
    _execute(
        """
        INSERT INTO graphs (user_id, status, status_before) VALUES (%(user_id)s, %(under_way)s, 'NOT_CREATED')
        ON CONFLICT (user_id) DO UPDATE SET
            status = EXCLUDED.status,
            status_before = CASE
                WHEN graphs.status IN ('CREATING', 'UPDATING') THEN graphs.status_before ELSE graphs.status
            END
        """,
        user_id=user_id,
        under_way=under_way,
    )


def register_task(task_id: str, task_type: str, *, user_id: str) -> None:
    """Make a task's row, unless a result of it was faster."""
    _execute(
        """
        INSERT INTO tasks (task_id, task_type, user_id, status)
        VALUES (%(task_id)s, %(task_type)s, %(user_id)s, 'PENDING') ON CONFLICT DO NOTHING
        """,
        task_id=task_id,
        task_type=task_type,
        user_id=user_id,
    )


def add_document(document: Document, workspace: Workspace) -> None:
    """Put a document into a workspace of its user, and make what is missing of both."""
    _execute(
        """
        INSERT INTO microscope_workspaces (id, user_id, name) VALUES (%(workspace_id)s, %(user_id)s, %(name)s)
        ON CONFLICT DO NOTHING;
        INSERT INTO microscope_documents (id, workspace_id, user_id, status)
        SELECT %(document_id)s, id, user_id, 'PENDING' FROM microscope_workspaces
        WHERE id = %(workspace_id)s AND user_id = %(user_id)s
        ON CONFLICT DO NOTHING
        """,
        document_id=document.id,
        workspace_id=workspace.id,
        user_id=document.user_id,
        name=workspace.name,
    )


def _execute(statement: str, **values: Any) -> None:
    with connection():
        database.execute_sql(statement, values)
