"""What a user is told, and how it reads on the phone."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple


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


def push_text(event: str, payload: Mapping[str, Any]) -> PushText:
    """Title and body of a pushed notification."""
    text = PUSH_TEXTS[event]
    return text._replace(body=text.body.format_map(payload))


def push_data(event: str, notification_id: str, payload: Mapping[str, Any]) -> dict[str, str]:
    """The push's data: strings only, with `type` and `taskId` always (the contract)."""
    values = {key: str(value) for key, value in payload.items() if value is not None}
    return {"taskId": "", **values, "type": event, "notificationId": notification_id}
