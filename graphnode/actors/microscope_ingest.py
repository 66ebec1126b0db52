"""Stores what the AI server found in a document, and completes the workspace with its last document."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import dramatiq

from graphnode.actors.effects import Effects
from graphnode.actors.results import handle_result
from graphnode.clients.memory import MICROSCOPE
from graphnode.clients.s3 import read_document
from graphnode.contract.decoding import decode_microscope
from graphnode.contract.envelopes import RESULT_QUEUE, Envelope, MicroscopeIngestResult
from graphnode.contract.notifications import DocumentCompleted, DocumentFailed, workspace_completed
from graphnode.contract.task_ids import View, parse_task_id
from graphnode.errors import InvalidEnvelope, WrongOwner
from graphnode.rules.microscope_documents import view_keys
from graphnode.rules.microscope_views import stored_view, view_of
from graphnode.settings import settings
from graphnode.storage import microscope
from graphnode.storage.microscope import DocumentStatus, Recorded


class StoredView(NamedTuple):
    """A view of a document: its S3 key, and the graph as it is stored."""

    key: str
    graph: Any


Views = dict[View, StoredView]


@dramatiq.actor(actor_name="microscope_ingest", queue_name=RESULT_QUEUE)
def microscope_ingest(envelope: Envelope[MicroscopeIngestResult]) -> None:
    """Store a document's result, or that of one of its halves."""
    handle_result(envelope, user_id=owner_of(envelope), fetch=fetch, store=store, fail=fail)


def owner_of(envelope: Envelope[MicroscopeIngestResult]) -> str:
    """The user of the document. Raises InvalidEnvelope when nothing names one, and WrongOwner."""
    task = parse_task_id(envelope.task_id)
    user_id = envelope.payload.user_id or task.user_id or microscope.owner(task.document_id)
    if user_id is None:
        raise InvalidEnvelope(
            f"payload.userId: not given, taskId {envelope.task_id!r} names no user, and the document is not known"
        )
    if task.user_id not in (None, user_id):
        raise WrongOwner(f"Task {envelope.task_id} names user {task.user_id!r}, its result names {user_id!r}")
    return user_id


def fetch(envelope: Envelope[MicroscopeIngestResult], warnings: Counter[str]) -> Views:
    """Read the views that the result brings. Of two of one kind, the one in its own field counts."""
    task = parse_task_id(envelope.task_id)
    views: Views = {}
    keys = view_keys(task.half, envelope.payload.standardized_s3_key, envelope.payload.block_graph_s3_key)
    for key, named in keys.items():
        document = decode_microscope(read_document(key, MICROSCOPE), half=task.half, warnings=warnings)
        view = view_of(document)
        if view in views:
            warnings["views of the same kind"] += 1
        if view == named or view not in views:
            graph = stored_view(document, document_id=task.document_id, warnings=warnings)
            views[view] = StoredView(key, graph)
    return views


def store(effects: Effects[MicroscopeIngestResult], views: Views) -> None:
    """Write the result into the document's row, and its views; tell the user if the document has ended."""
    document_id = parse_task_id(effects.envelope.task_id).document_id
    recorded = record(effects, views)
    microscope.store_graphs(document_id, {view: stored.graph for view, stored in views.items()})
    effects.finish()
    if recorded.status != recorded.status_before:
        notify(effects, document_id, recorded)


def fail(effects: Effects[MicroscopeIngestResult]) -> None:
    """Write the failure into the document's row: it has no views."""
    store(effects, {})


def record(effects: Effects[MicroscopeIngestResult], views: Views) -> Recorded:
    """Write the result into the document's row. Without a number of chunks in it, their count is used.

    Each view's key goes into its own column, whichever field carried it.
    """
    result, task = effects.payload, parse_task_id(effects.envelope.task_id)
    non_block, block = views.get("non_block"), views.get("block")
    chunks = len(non_block.graph) if non_block else 0
    return microscope.record_result(
        task.document_id,
        user_id=effects.user_id,
        workspace_id=result.group_id,
        registered_only=settings().registered_only,
        half=task.half,
        status=result.status,
        error=result.error_text if result.status == "FAILED" else None,
        source_id=result.source_id,
        chunks_count=chunks or None if result.chunks_count is None else result.chunks_count,
        schema_name=result.schema_name,
        ingest_stats=result.ingest_stats,
        standardized_s3_key=non_block and non_block.key,
        block_graph_s3_key=block and block.key,
        images_s3_prefix=result.images_s3_prefix,
    )


def notify(effects: Effects[MicroscopeIngestResult], document_id: str, recorded: Recorded) -> None:
    """Notify the user of a document that has ended, and of its workspace if it was the last one."""
    document: dict[str, Any] = {
        "document_id": document_id,
        "group_id": recorded.workspace_id,
        "source_id": recorded.source_id,
    }
    if recorded.status == DocumentStatus.COMPLETED:
        effects.notify(DocumentCompleted(**document, chunks_count=recorded.chunks_count))
    elif recorded.status == DocumentStatus.FAILED:
        effects.notify(DocumentFailed(**document, error=recorded.error))
    else:
        return
    workspace_id = recorded.workspace_id
    if workspace_id and (tally := microscope.finish_workspace_if_last(workspace_id)):
        effects.notify(
            workspace_completed(workspace_id, *tally),
            # A task may end twice, FAILED and then COMPLETED, and complete the workspace each time.
            key=f"{workspace_id}:{recorded.status}",
        )
