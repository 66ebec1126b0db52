"""Writes of others: the API server's requests, tasks and documents while the worker works; an old version's rows."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from graphnode.contract.requests import (
    AddNodeRequest,
    AnyRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestFromNodeRequest,
    MicroscopeIngestRequest,
)
from graphnode.errors import TaskHasFailed, WrongOwner
from graphnode.requests import Request, Requests
from graphnode.storage import tasks
from graphnode.storage.database import database, user_transaction
from tests.chaos.model.state import Document, Workspace

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


#: SQS's answer for each message that it does not accept.
REFUSAL = {"Code": "Full", "Message": "no room"}


#: What documents are made of.
INPUT, FILE_NAME = "in/a.pdf", "a.pdf"
NODE = "n1"


class RequestQueue:
    """boto3's SQS client for a request queue that accepts every request, or none."""

    def __init__(self, *, accepts: bool) -> None:
        self.accepts = accepts

    def send_message_batch(self, *, Entries: list[dict[str, str]], **_queue: str) -> dict[str, Any]:  # noqa: N803
        """SQS's answer."""
        return {} if self.accepts else {"Failed": [{"Id": entry["Id"], **REFUSAL} for entry in Entries]}


def request(kind: str, task_id: str, *, user_id: str, accepts: bool) -> str | None:
    """Request a graph, a summary or new nodes. Returns the task's error if the request queue does not accept it.

    Parameters:
      kind: a key of the model's `REQUESTS`.
      accepts: whether the request queue accepts it.
    """
    payloads: dict[str, AnyRequest] = {
        "GRAPH_GENERATION": GraphGenerationRequest(user_id=user_id, s3_key="in/"),
        "GRAPH_SUMMARY": GraphSummaryRequest(user_id=user_id, graph_s3_key="graph.json"),
        "ADD_CONVERSATION": AddNodeRequest(user_id=user_id, s3_key="in/"),
    }
    payload = payloads[kind]
    _requests(accepts=accepts).many([Request(payload, task_id, even_if_running=True)])
    return None if accepts else _refusal(payload, task_id)


def request_document(
    document: Document, workspace: Workspace, *, halves: tuple[str, ...], accepts: bool
) -> dict[str, str]:
    """Request a microscope document. Returns the errors by task ID if the request queue does not accept the requests.

    Parameters:
      halves: the endings of its task IDs: ("",) if it is requested whole.
      accepts: whether the request queue accepts them.
    """
    user_id = document.user_id
    payload: AnyRequest = MicroscopeIngestFromNodeRequest(
        user_id=user_id, node_id=NODE, node_type="note", group_id=workspace.id
    )
    if "_file_" in document.id:
        payload = MicroscopeIngestRequest(user_id=user_id, s3_key=INPUT, group_id=workspace.id, file_name=FILE_NAME)
    request = Request(payload, document.id, in_halves=len(halves) > 1, workspace_name=workspace.name)
    _requests(accepts=accepts).many([request])
    return {} if accepts else {document.id + half: _refusal(payload, document.id + half) for half in halves}


def _requests(*, accepts: bool) -> Requests:
    return Requests(cast("SQSClient", RequestQueue(accepts=accepts)), queue_url="requests")


def _refusal(payload: AnyRequest, task_id: str) -> str:
    """The error of a task whose request the queue does not accept."""
    return f"{payload.request_type} {task_id} was not put on the request queue: Full: no room"


def register_task(task_id: str, task_type: str, *, user_id: str) -> None:
    """Insert a task's row alone, unless its result was faster."""
    with suppress(TaskHasFailed, WrongOwner), user_transaction(user_id):
        tasks.register(task_id, task_type, user_id=user_id, s3_keys=[])


def lie_about_status(user_id: str, *, status: str, status_before: str | None) -> None:
    """Store a status that the tasks do not explain, as workers of 0.1 leave it."""
    _execute(
        "UPDATE graphs SET status = %(status)s, status_before = %(before)s WHERE user_id = %(user_id)s",
        user_id=user_id,
        status=status,
        before=status_before,
    )


def poison_times(user_id: str, *, at: datetime) -> None:
    """Store a producer's times that are in the future, as workers of 0.1 did."""
    _execute(
        """
        UPDATE graphs SET source_timestamp = %(at)s WHERE user_id = %(user_id)s AND source_timestamp IS NOT NULL;
        UPDATE graph_summaries SET source_timestamp = %(at)s WHERE user_id = %(user_id)s;
        UPDATE tasks SET progress_at = %(at)s WHERE user_id = %(user_id)s AND progress_at IS NOT NULL
        """,
        user_id=user_id,
        at=at,
    )


def let_time_pass(task_id: str, task_type: str, *, days: int = 1) -> None:
    """Make the task's last news some days older."""
    _execute(
        """
        UPDATE tasks SET updated_at = updated_at - make_interval(days => %(days)s)
        WHERE task_id = %(task_id)s AND task_type = %(task_type)s
        """,
        task_id=task_id,
        task_type=task_type,
        days=days,
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
