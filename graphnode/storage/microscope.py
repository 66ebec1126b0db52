"""Microscope: documents, the graphs made from them, and the workspaces they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from peewee import EXCLUDED, CompositeKey, IntegerField, TextField, fn
from playhouse.postgres_ext import DateTimeTZField

from graphnode.contract.task_ids import Half, View
from graphnode.errors import NotRegistered, WrongOwner
from graphnode.rules.microscope_documents import document_status
from graphnode.steps import is_step
from graphnode.storage.database import JsonField, Record
from graphnode.storage.statements import Statement, given, given_json, run


class DocumentStatus(StrEnum):
    """The statuses of a document and of its halves (the contract)."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class WorkspaceRecord(Record):
    """A workspace: a group of documents. `updated_at` also moves when one of them changes."""

    id = TextField(primary_key=True)
    user_id = TextField()
    name = TextField(null=True)
    completed_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField(null=True)
    updated_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "microscope_workspaces"


class DocumentRecord(Record):
    """A document of a workspace. The statuses of the halves are None if it was requested as a whole.

    Only a request says what it is made of: a file (`file_name`, `input_s3_key`) or a node (`node_id`, `node_type`).
    """

    id = TextField(primary_key=True)
    workspace_id = TextField(null=True)
    user_id = TextField()
    status = TextField()
    block_status = TextField(null=True)
    non_block_status = TextField(null=True)
    source_id = TextField(null=True)
    chunks_count = IntegerField(null=True)
    schema_name = TextField(null=True)
    ingest_stats = JsonField(null=True)
    standardized_s3_key = TextField(null=True)
    block_graph_s3_key = TextField(null=True)
    images_s3_prefix = TextField(null=True)
    error = TextField(null=True)
    file_name = TextField(null=True)
    node_id = TextField(null=True)
    node_type = TextField(null=True)
    input_s3_key = TextField(null=True)
    created_at = DateTimeTZField(null=True)
    updated_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "microscope_documents"


class DocumentGraphRecord(Record):
    """The graph that the AI server made for one view of a document."""

    document_id = TextField()
    view = TextField()
    graph = JsonField()

    class Meta:
        table_name = "microscope_graphs"
        primary_key = CompositeKey("document_id", "view")


class DocumentSource(NamedTuple):
    """What a document is made of: a file, or a node of the user's graph."""

    file_name: str | None = None
    input_s3_key: str | None = None
    node_id: str | None = None
    """The node's original ID."""
    node_type: str | None = None


class Recorded(NamedTuple):
    """A document after a result was stored."""

    status_before: str | None
    """None: the document was unknown."""
    status: str
    workspace_id: str | None
    """None: neither the result nor the document names one."""
    source_id: str | None
    chunks_count: int | None
    error: str | None


class WorkspaceTally(NamedTuple):
    """How many documents of a finished workspace are COMPLETED and FAILED."""

    name: str | None
    completed: int
    failed: int


#: Inserts a workspace, or says that its user's has changed, with its document.
TOUCH_WORKSPACE = Statement(
    WorkspaceRecord.insert(
        {
            WorkspaceRecord.id: given("id"),
            WorkspaceRecord.user_id: given("user_id"),
            WorkspaceRecord.name: given("name"),
        }
    )
    .on_conflict(
        conflict_target=[WorkspaceRecord.id],
        update={WorkspaceRecord.updated_at: fn.now()},
        where=WorkspaceRecord.user_id == EXCLUDED.user_id,
    )
    .returning(WorkspaceRecord.id)
)

STORE_GRAPH = Statement(
    DocumentGraphRecord.insert(
        {
            DocumentGraphRecord.document_id: given("document_id"),
            DocumentGraphRecord.view: given("view"),
            DocumentGraphRecord.graph: given_json("graph"),
        }
    ).on_conflict(
        conflict_target=[DocumentGraphRecord.document_id, DocumentGraphRecord.view],
        preserve=[DocumentGraphRecord.graph],
    )
)

#: Completes a workspace if all its documents have ended.
FINISH_WORKSPACE = Statement("""
UPDATE microscope_workspaces SET completed_at = now(), updated_at = now()
FROM (
    SELECT count(*) AS documents, count(*) FILTER (WHERE status = 'COMPLETED') AS completed,
        count(*) FILTER (WHERE status = 'FAILED') AS failed
    FROM microscope_documents WHERE workspace_id = %(id)s
) AS tally
WHERE id = %(id)s AND documents > 0 AND completed + failed = documents
RETURNING name, completed, failed
""")


def find_document(document_id: str) -> DocumentRecord | None:
    """The document, if it is known."""
    return DocumentRecord.get_or_none(DocumentRecord.id == document_id)


def find_workspace(workspace_id: str | None) -> WorkspaceRecord | None:
    """The workspace, if it is known."""
    return WorkspaceRecord.get_or_none(WorkspaceRecord.id == workspace_id)


def owner(document_id: str) -> str | None:
    """The user that the document belongs to; None if it is unknown."""
    document = find_document(document_id)
    return document.user_id if document else None


def register_document(
    document_id: str,
    *,
    user_id: str,
    workspace_id: str,
    workspace_name: str | None,
    half: Half | None,
    source: DocumentSource,
) -> None:
    """Insert or update the document that will be requested, and insert its workspace if that is unknown.

    Parameters:
      workspace_name: the name of a new workspace.
      half: the half that is requested; None if the document is requested as a whole.

    Raises:
      WrongOwner: The document or the workspace belongs to another user.
    """
    document, is_new = _document_of(document_id, user_id=user_id, workspace_id=workspace_id)
    _check_workspace(workspace_id, user_id, name=workspace_name)
    single = _single_result(document) if half else None
    _set_status(document, half, DocumentStatus.PROCESSING, single=single)
    if document.status == DocumentStatus.PROCESSING:
        document.error = None
    for name, value in source._asdict().items():
        setattr(document, name, value)
    _save(document, is_new=is_new)


@is_step("document")
def record_result(
    document_id: str,
    *,
    user_id: str,
    workspace_id: str | None,
    half: Half | None,
    status: Literal["COMPLETED", "FAILED"],
    registered_only: bool = False,
    error: str | None = None,
    source_id: str | None = None,
    chunks_count: int | None = None,
    schema_name: str | None = None,
    ingest_stats: Any = None,
    standardized_s3_key: str | None = None,
    block_graph_s3_key: str | None = None,
    images_s3_prefix: str | None = None,
) -> Recorded:
    """Store the result of a document, or of one half of it; insert the document and its workspace if unknown.

    Parameters that are None leave the stored values as they are.

    Parameters:
      workspace_id: the workspace that the result names; used only if the document has none yet.
      half: the half that the result is about; None if the document was requested as a whole.
      status: the status of the result. The document's status follows from it and from earlier results.
      registered_only: refuse a workspace that is unknown.
      error: why it failed. It stays until the document is COMPLETED.

    Raises:
      WrongOwner: The document or the workspace belongs to another user.
      NotRegistered: The workspace is unknown, and such are refused.
    """
    document, is_new = _document_of(document_id, user_id=user_id, workspace_id=workspace_id)
    if registered_only and document.workspace_id and not find_workspace(document.workspace_id):
        raise NotRegistered(f"Nobody has made workspace {document.workspace_id} (GRAPHNODE_REGISTERED_ONLY)")
    status_before = document.status
    if document.workspace_id:
        _check_workspace(document.workspace_id, user_id, name=None)
    if workspace_id not in (None, document.workspace_id):
        # The document stays in its workspace, but a result must not name a workspace of another user.
        _refuse_foreign(find_workspace(workspace_id), user_id)

    _set_status(document, half, status, single=status if half is None else _single_result(document))
    given = {
        "error": error,
        "source_id": source_id,
        "chunks_count": chunks_count,
        "schema_name": schema_name,
        "ingest_stats": ingest_stats,
        "standardized_s3_key": standardized_s3_key,
        "block_graph_s3_key": block_graph_s3_key,
        "images_s3_prefix": images_s3_prefix,
    }
    for name, value in given.items():
        if value is not None:
            setattr(document, name, value)
    if document.status == DocumentStatus.COMPLETED:
        document.error = None
    _save(document, is_new=is_new)
    return Recorded(
        status_before,
        document.status,
        document.workspace_id,
        document.source_id,
        document.chunks_count,
        document.error,
    )


@is_step("view")
def store_graphs(document_id: str, graphs: Mapping[View, Any]) -> None:
    """Store the graphs of a document's views; each replaces an earlier one.

    Parameters:
      graphs: any JSON value by view.
    """
    if graphs:
        run(*(STORE_GRAPH.bind(document_id=document_id, view=view, graph=graph) for view, graph in graphs.items()))


@is_step("workspace")
def finish_workspace_if_last(workspace_id: str) -> WorkspaceTally | None:
    """Complete the workspace if all its documents have ended; otherwise None.

    Call it only when a document has ended: every call that finds all documents ended completes the workspace again. So
    does a document that ends a second time or is added later.
    """
    finished = FINISH_WORKSPACE(id=workspace_id).fetchone()
    return WorkspaceTally(*finished) if finished else None


def _document_of(document_id: str, *, user_id: str, workspace_id: str | None) -> tuple[DocumentRecord, bool]:
    """The document, in this workspace unless it has one, and whether it has no row yet. Raises WrongOwner."""
    stored = find_document(document_id)
    document = stored or DocumentRecord(id=document_id, user_id=user_id)
    if document.user_id != user_id:
        raise WrongOwner(f"Document {document_id} belongs to user {document.user_id!r}, not {user_id!r}")
    document.workspace_id = document.workspace_id or workspace_id
    return document, stored is None


def _check_workspace(workspace_id: str, user_id: str, *, name: str | None) -> None:
    """Insert the workspace for this user if it is unknown; else say that it has changed, with its document.

    Raises WrongOwner if it belongs to another user, also if that one's row comes meanwhile.
    """
    # Before the upsert, which would wait for a transaction of the other user that holds the row.
    _refuse_foreign(find_workspace(workspace_id), user_id)
    if not TOUCH_WORKSPACE(id=workspace_id, user_id=user_id, name=name).fetchone():
        _refuse_foreign(find_workspace(workspace_id), user_id)


def _save(document: DocumentRecord, *, is_new: bool) -> None:
    document.updated_at = fn.now()
    document.save(force_insert=is_new)


def _refuse_foreign(workspace: WorkspaceRecord | None, user_id: str) -> None:
    if workspace and workspace.user_id != user_id:
        raise WrongOwner(f"Workspace {workspace.id} belongs to user {workspace.user_id!r}, not {user_id!r}")


def _set_status(document: DocumentRecord, half: Half | None, status: str, *, single: str | None) -> None:
    """Set the status of a half, if one is named, and the document's status that follows."""
    if half == "block":
        document.block_status = status
    elif half == "non_block":
        document.non_block_status = status
    document.status = document_status(block=document.block_status, non_block=document.non_block_status, single=single)


def _single_result(document: DocumentRecord) -> str | None:
    """The status of the document as a whole, if it does not follow from the statuses of its halves."""
    of_halves = document_status(block=document.block_status, non_block=document.non_block_status, single=None)
    if document.status in (DocumentStatus.COMPLETED, DocumentStatus.FAILED) and document.status != of_halves:
        return str(document.status)
    return None
