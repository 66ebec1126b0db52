"""The payload and the push text of each type of notification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import msgspec


class PushText(NamedTuple):
    """Title and body of a push; `{…}` in the body is replaced by fields of the payload."""

    title: str
    body: str


class Notice(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The payload of a notification, without the task ID and the time. A field that is None is left out.

    Parameters:
      event: the notification's type in the contract.
      push: the text of the push. None: it is stored for the app to read, but not pushed.
    """

    event: ClassVar[str]
    push: ClassVar[PushText | None] = None

    @property
    def is_pushed(self) -> bool:
        """Whether it is pushed to the user's devices."""
        return self.push is not None

    def payload(self, task_id: str) -> dict[str, Any]:
        """The payload with the task ID. Storage adds the time."""
        return {"taskId": task_id, **msgspec.to_builtins(self)}


class RequestFailed(Notice, frozen=True, kw_only=True):
    """A request could not be published. Stored only, not pushed."""

    error: str
    """Why, in words for the user."""


class GraphRequested(Notice, frozen=True, kw_only=True):
    """A graph was requested. Stored only, not pushed."""

    event = "GRAPH_GENERATION_REQUESTED"


class GraphRequestFailed(RequestFailed, frozen=True, kw_only=True):
    """The request for a graph could not be published. Stored only, not pushed."""

    event = "GRAPH_GENERATION_REQUEST_FAILED"


class SummaryRequested(Notice, frozen=True, kw_only=True):
    """A summary was requested. Stored only, not pushed."""

    event = "GRAPH_SUMMARY_REQUESTED"


class SummaryRequestFailed(RequestFailed, frozen=True, kw_only=True):
    """The request for a summary could not be published. Stored only, not pushed."""

    event = "GRAPH_SUMMARY_REQUEST_FAILED"


class NodesRequested(Notice, frozen=True, kw_only=True):
    """New sources are to be added to the user's graph. Stored only, not pushed."""

    event = "ADD_CONVERSATION_REQUESTED"


class NodesRequestFailed(RequestFailed, frozen=True, kw_only=True):
    """The request to add new sources could not be published. Stored only, not pushed."""

    event = "ADD_CONVERSATION_REQUEST_FAILED"


class DocumentRequested(Notice, frozen=True, kw_only=True):
    """A microscope document was requested: one for both halves. Stored only, not pushed."""

    event = "MICROSCOPE_INGEST_REQUESTED"


class DocumentRequestFailed(RequestFailed, frozen=True, kw_only=True):
    """The request for a microscope document, or for a half, could not be published. Stored only, not pushed."""

    event = "MICROSCOPE_INGEST_REQUEST_FAILED"


class GraphCompleted(Notice, frozen=True, kw_only=True):
    """The user has a new graph."""

    event = "GRAPH_GENERATION_COMPLETED"
    push = PushText("Graph Ready", "Your knowledge graph ({nodeCount} nodes) is ready!")

    node_count: int
    """How many nodes it has."""
    edge_count: int
    """How many edges it has."""
    cluster_count: int
    """How many clusters it has."""
    summary_included: bool
    """Whether its summary came with it."""


class GraphFailed(Notice, frozen=True, kw_only=True):
    """The graph generation failed. The user keeps the graph they had."""

    event = "GRAPH_GENERATION_FAILED"
    push = PushText("Graph Generation Failed", "Failed to generate knowledge graph. Please try again.")

    error: str
    """Why, in the AI server's words."""


class GraphProgress(Notice, frozen=True, kw_only=True):
    """How far the AI server is with a graph, by its own clock. Stored only, not pushed."""

    event = "GRAPH_GENERATION_PROGRESS_UPDATED"

    current_stage: str
    """What the AI server is doing, in its own words."""
    progress_percent: float | None = None
    """How much is done, 0 to 100."""
    eta_seconds: float | None = None
    """How long it will take after `timestamp`, in seconds."""


class SummaryCompleted(Notice, frozen=True, kw_only=True):
    """The user's graph has a new summary."""

    event = "GRAPH_SUMMARY_COMPLETED"
    push = PushText("Graph Summary Ready", "The summary of your knowledge graph is ready!")

    detail_level: str | None = None
    """`brief`, `standard` or `detailed`."""


class SummaryFailed(Notice, frozen=True, kw_only=True):
    """The summary failed. The user keeps the summary they had."""

    event = "GRAPH_SUMMARY_FAILED"
    push = PushText("Graph Summary Failed", "Failed to summarize your knowledge graph. Please try again.")

    error: str
    """Why, in the AI server's words."""


class NodesCompleted(Notice, frozen=True, kw_only=True):
    """New sources are in the user's graph."""

    event = "ADD_CONVERSATION_COMPLETED"
    push = PushText("Graph Updated", "Your conversations are successfully added to your knowledge graph.")

    node_count: int
    """How many nodes are new."""
    edge_count: int
    """How many edges are new."""
    error: str | None = None
    """Why a part of the sources failed, if any did."""


class NodesFailed(Notice, frozen=True, kw_only=True):
    """Nothing was added to the user's graph."""

    event = "ADD_CONVERSATION_FAILED"
    push = PushText("Graph Update Failed", "Failed to update your knowledge graph. Please try again.")

    error: str
    """Why, in the AI server's words."""


class DocumentEnded(Notice, frozen=True, kw_only=True):
    """A microscope document has ended."""

    document_id: str
    """The document: its task ID without the suffix of a half."""
    group_id: str | None = None
    """Its workspace."""
    source_id: str | None = None
    """What it was made of."""


class DocumentCompleted(DocumentEnded, frozen=True, kw_only=True):
    """A document of a workspace is completed. Stored only, not pushed."""

    event = "MICROSCOPE_DOCUMENT_COMPLETED"

    chunks_count: int | None = None
    """How many chunks it has."""


class DocumentFailed(DocumentEnded, frozen=True, kw_only=True):
    """A document of a workspace failed. Stored only, not pushed."""

    event = "MICROSCOPE_DOCUMENT_FAILED"

    error: str | None = None
    """Why, in the AI server's words."""


class WorkspaceCompleted(Notice, frozen=True, kw_only=True):
    """The last document of a workspace has ended."""

    event = "MICROSCOPE_WORKSPACE_COMPLETED"
    push = PushText(
        "Microscope Workspace Ready",
        'Your workspace "{workspaceName}" is ready! ({completedCount} passed, {failedCount} failed)',
    )

    group_id: str
    """The workspace."""
    workspace_name: str
    """Its name, or its ID if it has no name."""
    completed_count: int
    """How many of its documents are completed."""
    failed_count: int
    """How many of its documents failed."""


def _below(kind: type[Notice]) -> Iterator[type[Notice]]:
    """The subclasses that have a type of notification."""
    for each in kind.__subclasses__():
        yield from [each] if "event" in vars(each) else _below(each)


#: The payload of each type of notification.
NOTICES: Mapping[str, type[Notice]] = {kind.event: kind for kind in _below(Notice)}


def workspace_completed(workspace_id: str, name: str | None, completed: int, failed: int) -> WorkspaceCompleted:
    """The notification for a workspace whose documents have all ended.

    Parameters:
      completed, failed: how many documents ended with that status.
    """
    return WorkspaceCompleted(
        group_id=workspace_id,
        workspace_name=name or workspace_id,
        completed_count=completed,
        failed_count=failed,
    )
