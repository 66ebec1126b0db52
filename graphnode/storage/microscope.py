"""Microscope: documents, the graphs made of them, and the workspaces they belong to."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, NamedTuple

from peewee import CompositeKey, IntegerField, TextField, fn
from playhouse.postgres_ext import DateTimeTZField

from graphnode.contract.task_ids import Half, View
from graphnode.errors import WrongOwner
from graphnode.rules.microscope import document_status
from graphnode.steps import is_step
from graphnode.storage.database import JsonField, Record, connection


class DocumentStatus(StrEnum):
    """The statuses of a document, and of each half it may be ingested in."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class WorkspaceRecord(Record):
    """A workspace: documents that are looked at together."""

    id = TextField(primary_key=True)
    user_id = TextField()
    name = TextField(null=True)
    completed_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "microscope_workspaces"


class DocumentRecord(Record):
    """A document of a workspace. One that was sent once has no half statuses."""

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

    class Meta:
        table_name = "microscope_documents"


class DocumentGraphRecord(Record):
    """One view of a document, as the AI server drew it."""

    document_id = TextField()
    view = TextField()
    graph = JsonField()

    class Meta:
        table_name = "microscope_graphs"
        primary_key = CompositeKey("document_id", "view")


class Recorded(NamedTuple):
    """What a result made of its document."""

    status_before: str | None
    """None: the document was not known."""
    status: str
    workspace_id: str | None
    """None: neither the result nor the document's row names one."""
    source_id: str | None
    chunks_count: int | None
    error: str | None


class WorkspaceTally(NamedTuple):
    """How the documents of a finished workspace ended."""

    name: str | None
    completed: int
    failed: int


def find_document(document_id: str) -> DocumentRecord | None:
    """The document's row, if there is one."""
    return DocumentRecord.get_or_none(DocumentRecord.id == document_id)


def find_workspace(workspace_id: str | None) -> WorkspaceRecord | None:
    """The workspace's row, if there is one."""
    return WorkspaceRecord.get_or_none(WorkspaceRecord.id == workspace_id)


def owner(document_id: str) -> str | None:
    """Whose the document is; None when it is not known."""
    with connection():
        document = find_document(document_id)
        return document.user_id if document else None


def register_document(
    document_id: str, *, user_id: str, workspace_id: str, workspace_name: str | None, half: Half | None
) -> None:
    """Make the row of a document, or of one half of it, that is about to be requested, and its workspace's.

    Parameters:
      workspace_name: for a workspace that is not known.
      half: the half that is requested; None: the document is sent once.

    Raises:
      WrongOwner: The document or the workspace is someone else's.
    """
    stored = find_document(document_id)
    document = stored or DocumentRecord(id=document_id, user_id=user_id, workspace_id=workspace_id)
    if document.user_id != user_id:
        raise WrongOwner(f"Document {document_id} belongs to user {document.user_id!r}, not {user_id!r}")
    _claim_workspace(workspace_id, user_id, name=workspace_name)
    document.workspace_id = document.workspace_id or workspace_id
    single = _single_result(document) if half else None
    if half == "block":
        document.block_status = DocumentStatus.PROCESSING
    elif half == "non_block":
        document.non_block_status = DocumentStatus.PROCESSING
    document.status = document_status(block=document.block_status, non_block=document.non_block_status, single=single)
    if document.status == DocumentStatus.PROCESSING:
        document.error = None
    document.save(force_insert=stored is None)


@is_step("document")
def record_result(
    document_id: str,
    *,
    user_id: str,
    workspace_id: str | None,
    half: Half | None,
    status: Literal["COMPLETED", "FAILED"],
    error: str | None = None,
    source_id: str | None = None,
    chunks_count: int | None = None,
    schema_name: str | None = None,
    ingest_stats: dict[str, Any] | None = None,
    standardized_s3_key: str | None = None,
    block_graph_s3_key: str | None = None,
    images_s3_prefix: str | None = None,
) -> Recorded:
    """Write a result into its document's row, and make that row, and its workspace's, if they are not known.

    What a result does not give (None) stays as it is stored.

    Parameters:
      workspace_id: where the document belongs, if the result says so; what is stored counts more.
      half: the half that the result is of; None: the document was sent once.
      status: the result's; the document's follows from it and from earlier ones.
      error: why it failed. It stays until the document is COMPLETED.

    Raises:
      WrongOwner: The document or the workspace is someone else's.
    """
    stored = find_document(document_id)
    document = stored or DocumentRecord(id=document_id, user_id=user_id, workspace_id=workspace_id)
    status_before = document.status
    if document.user_id != user_id:
        raise WrongOwner(f"Document {document_id} belongs to user {document.user_id!r}, not {user_id!r}")
    document.workspace_id = document.workspace_id or workspace_id
    if document.workspace_id:
        _claim_workspace(document.workspace_id, user_id, name=None)
    if workspace_id not in (None, document.workspace_id):
        # The document stays where it is; that the result names someone else's workspace is wrong all the same.
        _refuse_foreign(find_workspace(workspace_id), user_id)

    single = status if half is None else _single_result(document)
    if half == "block":
        document.block_status = status
    elif half == "non_block":
        document.non_block_status = status
    document.status = document_status(block=document.block_status, non_block=document.non_block_status, single=single)
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
    document.save(force_insert=stored is None)
    return Recorded(
        status_before,
        document.status,
        document.workspace_id,
        document.source_id,
        document.chunks_count,
        document.error,
    )


@is_step("view")
def store_graph(document_id: str, view: View, graph: Any) -> None:
    """Put a graph in the place of the document's earlier one of the same view.

    Parameters:
      graph: what JSON can say.
    """
    DocumentGraphRecord.insert(document_id=document_id, view=view, graph=graph).on_conflict(
        conflict_target=[DocumentGraphRecord.document_id, DocumentGraphRecord.view],
        update={DocumentGraphRecord.graph: graph},
    ).execute()


@is_step("workspace")
def finish_workspace_if_last(workspace_id: str) -> WorkspaceTally | None:
    """Complete the workspace if each of its documents has ended; None if not.

    Call it when a document has ended, and at no other time: each call that finds the workspace complete is a
    completion. A document that ends anew, or is added later, completes the workspace anew.
    """
    documents = (
        DocumentRecord.select(DocumentRecord.status, fn.COUNT("*"))
        .where(DocumentRecord.workspace_id == workspace_id)
        .group_by(DocumentRecord.status)
    )
    tally = dict(documents.tuples().iterator())
    if not tally or tally.keys() - {DocumentStatus.COMPLETED, DocumentStatus.FAILED}:
        return None
    finished = (
        WorkspaceRecord.update(completed_at=fn.now())
        .where(WorkspaceRecord.id == workspace_id)
        .returning(WorkspaceRecord)
        .execute()
    )
    for workspace in finished:
        return WorkspaceTally(
            workspace.name, tally.get(DocumentStatus.COMPLETED, 0), tally.get(DocumentStatus.FAILED, 0)
        )
    return None


def _claim_workspace(workspace_id: str, user_id: str, *, name: str | None) -> None:
    """See that the workspace is the user's; one that is not known becomes theirs, with this name."""
    WorkspaceRecord.insert(id=workspace_id, user_id=user_id, name=name).on_conflict(
        action="IGNORE", conflict_target=[WorkspaceRecord.id]
    ).execute()
    _refuse_foreign(find_workspace(workspace_id), user_id)


def _refuse_foreign(workspace: WorkspaceRecord | None, user_id: str) -> None:
    if workspace and workspace.user_id != user_id:
        raise WrongOwner(f"Workspace {workspace.id} belongs to user {workspace.user_id!r}, not {user_id!r}")


def _single_result(document: DocumentRecord) -> str | None:
    """The result that the document had when it was sent once: its status, if that does not follow from its halves."""
    of_halves = document_status(block=document.block_status, non_block=document.non_block_status, single=None)
    if document.status in (DocumentStatus.COMPLETED, DocumentStatus.FAILED) and document.status != of_halves:
        return str(document.status)
    return None
