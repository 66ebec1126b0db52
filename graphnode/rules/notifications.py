"""What a user is told, and how it reads on the phone."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

import msgspec

from graphnode.rules.printable import printable

#: The most bytes of a push's payload: FCM's limit of 4,096, less what it adds for APNs (`gcm.message_id`, `google.c.…`,
#: `aps`). https://firebase.google.com/docs/cloud-messaging/concept-options
LARGEST_PAYLOAD_BYTES = 4096 - 384

#: Bytes that a body keeps, if it has them: before it gets shorter than that, the data does.
LEAST_BODY_BYTES = 512

#: Data that an app finds the notification by: never shortened.
KEYS = ("type", "taskId", "notificationId")

ELLIPSIS = "…"

#: What belongs to the character before it: the joiner of emoji, and their skin tones. Marks have their categories.
ZERO_WIDTH_JOINER = "\u200d"
SKIN_TONES = range(0x1F3FB, 0x1F400)


class Event(StrEnum):
    """The types of notification (the contract)."""

    GRAPH_COMPLETED = "GRAPH_GENERATION_COMPLETED"
    GRAPH_FAILED = "GRAPH_GENERATION_FAILED"
    GRAPH_PROGRESS = "GRAPH_GENERATION_PROGRESS_UPDATED"
    SUMMARY_COMPLETED = "GRAPH_SUMMARY_COMPLETED"
    SUMMARY_FAILED = "GRAPH_SUMMARY_FAILED"
    NODES_COMPLETED = "ADD_CONVERSATION_COMPLETED"
    NODES_FAILED = "ADD_CONVERSATION_FAILED"
    DOCUMENT_COMPLETED = "MICROSCOPE_DOCUMENT_COMPLETED"
    DOCUMENT_FAILED = "MICROSCOPE_DOCUMENT_FAILED"
    WORKSPACE_COMPLETED = "MICROSCOPE_WORKSPACE_COMPLETED"


class Notice(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the app is told of an event, beside the task's ID: the payload of a notification.

    Parameters:
      event: its type.
    """

    event: ClassVar[Event]

    def payload(self, task_id: str) -> dict[str, Any]:
        """The payload as it is stored."""
        return {"taskId": task_id, **msgspec.to_builtins(self)}


class GraphCompleted(Notice, frozen=True, kw_only=True):
    """The user has a new graph."""

    event = Event.GRAPH_COMPLETED

    node_count: int
    """How many nodes it has."""
    edge_count: int
    """How many edges it has."""
    cluster_count: int
    """How many clusters it has."""
    summary_included: bool
    """Whether its summary came with it."""


class GraphFailed(Notice, frozen=True, kw_only=True):
    """There is no new graph. One that the user had is still there."""

    event = Event.GRAPH_FAILED

    error: str
    """Why, in the AI server's words."""


class GraphProgress(Notice, frozen=True, kw_only=True):
    """How far the AI server is with a graph. Stored only, not pushed."""

    event = Event.GRAPH_PROGRESS

    current_stage: str
    """What the AI server is doing, in its own words."""
    progress_percent: float | None
    """How much is done, 0 to 100."""
    eta_seconds: float | None
    """How long it will take from then on, in seconds."""
    timestamp: str
    """When the AI server said so: ISO 8601, in UTC."""


class SummaryCompleted(Notice, frozen=True, kw_only=True):
    """The user's graph has a new summary."""

    event = Event.SUMMARY_COMPLETED

    detail_level: str | None
    """`brief`, `standard` or `detailed`."""


class SummaryFailed(Notice, frozen=True, kw_only=True):
    """There is no new summary. One that the user had is still there."""

    event = Event.SUMMARY_FAILED

    error: str
    """Why, in the AI server's words."""


class NodesCompleted(Notice, frozen=True, kw_only=True):
    """New sources are in the user's graph."""

    event = Event.NODES_COMPLETED

    node_count: int
    """How many nodes are new."""
    edge_count: int
    """How many edges are new."""
    error: str | None
    """What a part of the sources failed of, if any did."""


class NodesFailed(Notice, frozen=True, kw_only=True):
    """Nothing was added to the user's graph."""

    event = Event.NODES_FAILED

    error: str
    """Why, in the AI server's words."""


class DocumentEnded(Notice, frozen=True, kw_only=True):
    """A microscope document has ended."""

    document_id: str
    """The document: its task's ID, without the suffix of a half."""
    group_id: str | None
    """Its workspace."""
    source_id: str | None
    """What it was made of."""


class DocumentCompleted(DocumentEnded, frozen=True, kw_only=True):
    """A document of a workspace is there. Stored only, not pushed."""

    event = Event.DOCUMENT_COMPLETED

    chunks_count: int | None
    """How many chunks it has."""


class DocumentFailed(DocumentEnded, frozen=True, kw_only=True):
    """A document of a workspace could not be made. Stored only, not pushed."""

    event = Event.DOCUMENT_FAILED

    error: str | None
    """Why, in the AI server's words."""


class WorkspaceCompleted(Notice, frozen=True, kw_only=True):
    """The last document of a workspace has ended."""

    event = Event.WORKSPACE_COMPLETED

    group_id: str
    """The workspace."""
    workspace_name: str
    """What it is called; without a name, its ID."""
    completed_count: int
    """How many of its documents are there."""
    failed_count: int
    """How many failed."""


#: What each event tells.
NOTICES: tuple[type[Notice], ...] = (
    GraphCompleted,
    GraphFailed,
    GraphProgress,
    SummaryCompleted,
    SummaryFailed,
    NodesCompleted,
    NodesFailed,
    DocumentCompleted,
    DocumentFailed,
    WorkspaceCompleted,
)


class PushText(NamedTuple):
    """What stands on the phone; `body` takes its values from the notification's payload."""

    title: str
    body: str


#: Types without a text are stored for the app to read, and not pushed.
PUSH_TEXTS: Mapping[str, PushText] = {
    Event.GRAPH_COMPLETED: PushText("Graph Ready", "Your knowledge graph ({nodeCount} nodes) is ready!"),
    Event.GRAPH_FAILED: PushText("Graph Generation Failed", "Failed to generate knowledge graph. Please try again."),
    Event.SUMMARY_COMPLETED: PushText("Graph Summary Ready", "The summary of your knowledge graph is ready!"),
    Event.SUMMARY_FAILED: PushText(
        "Graph Summary Failed", "Failed to summarize your knowledge graph. Please try again."
    ),
    Event.NODES_COMPLETED: PushText(
        "Graph Updated", "{nodeCount} nodes and {edgeCount} connections were added to your knowledge graph."
    ),
    Event.NODES_FAILED: PushText("Graph Update Failed", "Failed to update your knowledge graph. Please try again."),
    Event.WORKSPACE_COMPLETED: PushText(
        "Microscope Workspace Ready",
        'Your workspace "{workspaceName}" is ready! ({completedCount} passed, {failedCount} failed)',
    ),
}


def is_pushed(event: str) -> bool:
    """Whether this type of notification goes to the user's phone."""
    return event in PUSH_TEXTS


def workspace_completed(workspace_id: str, name: str | None, completed: int, failed: int) -> WorkspaceCompleted:
    """What the app is told of a workspace whose documents have all ended.

    Parameters:
      completed, failed: how many of them ended so.
    """
    return WorkspaceCompleted(
        group_id=workspace_id,
        workspace_name=name or workspace_id,
        completed_count=completed,
        failed_count=failed,
    )


def push_text(event: str, payload: Mapping[str, Any]) -> PushText:
    """Title and body of a pushed notification: of names in it, what is for the eye."""
    text = PUSH_TEXTS[event]
    shown = {name: printable(value) if isinstance(value, str) else value for name, value in payload.items()}
    return text._replace(body=text.body.format_map(shown))


def push_data(event: str, notification_id: str, payload: Mapping[str, Any]) -> dict[str, str]:
    """The push's data: strings only, with `type` and `taskId` always (the contract). What is no string becomes JSON."""
    values = {
        key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for key, value in payload.items()
        if value is not None
    }
    return {"taskId": "", **values, "type": event, "notificationId": notification_id}


def fitted(text: PushText, data: Mapping[str, str]) -> tuple[PushText, dict[str, str]]:
    """Text and data within FCM's limit: the body is shortened, and the longest data where that is not enough.

    The app finds the whole by the notification's ID.
    """
    room = LARGEST_PAYLOAD_BYTES - len(msgspec.json.encode({"title": text.title, "body": "", **data}))
    least = min(_size(text.body), LEAST_BODY_BYTES)
    fitting = dict(data)
    while room < least and (others := [key for key in fitting if key not in KEYS and fitting[key] != ELLIPSIS]):
        longest = max(others, key=lambda key: _size(fitting[key]))
        size = _size(fitting[longest])
        fitting[longest] = shortened(fitting[longest], max_bytes=max(size - (least - room), size // 2))
        room += size - _size(fitting[longest])
    return text._replace(body=shortened(text.body, max_bytes=room)), fitting


def shortened(text: str, *, max_bytes: int) -> str:
    """The text, cut to so many bytes of JSON: between two characters as a reader sees them, with an ellipsis."""
    if _size(text) <= max_bytes:
        return text
    room, end = max_bytes - _size(ELLIPSIS), 0
    while end < len(text) and (room := room - _size(text[end])) >= 0:
        end += 1
    while end > 0 and _belong_together(text[end - 1], text[end]):
        end -= 1
    return text[:end].rstrip() + ELLIPSIS


def _belong_together(left: str, right: str) -> bool:
    is_mark = unicodedata.category(right).startswith("M") or ord(right) in SKIN_TONES
    return is_mark or ZERO_WIDTH_JOINER in (left, right)


def _size(text: str) -> int:
    """Bytes as JSON, without the quotes."""
    return len(msgspec.json.encode(text)) - 2
