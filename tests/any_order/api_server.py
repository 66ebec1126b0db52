"""Writes of others: the API server's requests, tasks and documents while the worker works; an old version's rows."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from graphnode.errors import TaskHasFailed, WrongOwner
from graphnode.storage import graphs, tasks
from graphnode.storage.database import database, user_transaction
from tests.chaos.model.state import Document, Workspace


def request(user_id: str, *, under_way: str) -> None:
    """Store a request for a graph (CREATING) or for new nodes (UPDATING), as `graphnode.requests` does."""
    with user_transaction(user_id):
        {"CREATING": graphs.request_graph, "UPDATING": graphs.request_add_node}[under_way](user_id)


def register_task(task_id: str, task_type: str, *, user_id: str) -> None:
    """Insert a task's row, unless its result was faster, as `graphnode.requests` does."""
    with suppress(TaskHasFailed, WrongOwner), user_transaction(user_id):
        tasks.register(task_id, task_type, user_id=user_id, s3_keys=[])


def let_time_pass(task_id: str, task_type: str) -> None:
    """Make the task's last news a day older."""
    _execute(
        """
        UPDATE tasks SET updated_at = updated_at - interval '1 day'
        WHERE task_id = %(task_id)s AND task_type = %(task_type)s
        """,
        task_id=task_id,
        task_type=task_type,
    )


def add_document(document: Document, workspace: Workspace) -> None:
    """Put a document into a workspace of its user. Insert each of the two rows that is missing."""
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


def rename_file(user_id: str, *, file_id: str, name: str) -> None:
    """Store a file's node by a longer name, as an earlier version did."""
    _execute(
        "UPDATE graph_nodes SET orig_id = %(name)s WHERE user_id = %(user_id)s AND orig_id = %(file_id)s",
        user_id=user_id,
        file_id=file_id,
        name=name,
    )


def _execute(statement: str, **values: Any) -> None:
    database.execute_sql(statement, values)
