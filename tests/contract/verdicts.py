"""Whether the worker's own decoders read a message, document or notification whole."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from graphnode.contract.bodies import ids_of_body, to_message
from graphnode.contract.decoding import (
    decode_add_node_batch,
    decode_block_graph,
    decode_chunks,
    decode_graph,
    decode_summary,
)
from graphnode.contract.envelopes import LONGEST_TASK_ID
from graphnode.contract.notifications import NOTICES
from graphnode.contract.repairs import NUL_REMOVED, Warnings
from graphnode.contract.requests import REQUESTS
from graphnode.errors import GraphNodeError
from tests.features import read_features

SENT_AT = datetime(2026, 5, 24, tzinfo=UTC)


DOCUMENTS: dict[str, Callable[..., Any]] = {
    "graph": decode_graph,
    "features": lambda raw, warnings: read_features(raw),
    "summary": decode_summary,
    "add-node-batch": decode_add_node_batch,
    "microscope-standardized": decode_chunks,
    "microscope-block-graph": decode_block_graph,
}


class RequestEnvelope(msgspec.Struct, rename="camel", kw_only=True):
    task_type: str
    task_id: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TASK_ID)]
    timestamp: str
    payload: Any


def read_request(task_type: str, value: Any) -> None:
    envelope = msgspec.convert(value, RequestEnvelope)
    if envelope.task_type != task_type:
        raise msgspec.ValidationError(f"it is a {envelope.task_type}")
    check_time(envelope.timestamp)
    msgspec.convert(envelope.payload, REQUESTS[task_type])


def check_time(text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from None


def read_notification(event: str, value: Any) -> None:
    msgspec.convert(value, NOTICES[event])
    check_time(msgspec.convert(value, TaskOfNotification).timestamp)
    names = [field.encode_name for field in msgspec.structs.fields(NOTICES[event])]
    if nulls := [name for name in names if name in value and value[name] is None]:
        raise msgspec.ValidationError(f"{', '.join(nulls)} must be left out")


class TaskOfNotification(msgspec.Struct, rename="camel"):
    task_id: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TASK_ID)]
    timestamp: str


def read_result(task_type: str, raw: bytes) -> Warnings:
    message = to_message(raw.decode(), message_id="m", sent_at=SENT_AT, receive_count=1)
    if (found := ids_of_body(raw.decode())[1]) != task_type:
        raise msgspec.ValidationError(f"it is a {found}")
    (envelope,) = message.args
    if NUL_REMOVED in envelope.warnings:
        raise msgspec.ValidationError("it holds U+0000")
    warnings: Warnings = envelope.warnings
    return warnings


def refusal(path: str, value: Any) -> str | None:
    """Why the worker refuses a value, or which parts of it are malformed; None if it reads the value without loss."""
    room, _, name = path.partition("/")
    raw = msgspec.json.encode(value)
    warnings: Warnings = {}
    try:
        if room == "documents":
            DOCUMENTS[name](raw, warnings=warnings)
        elif room == "notifications":
            read_notification(name, value)
        elif name.endswith("_REQUEST"):
            read_request(name, value)
        else:
            warnings = read_result(name, raw)
    except (GraphNodeError, msgspec.ValidationError) as error:
        return str(error)
    lost = [name for name in warnings if name.startswith(("malformed", "unreadable")) or name.endswith("read as text")]
    return ", ".join(lost) or None
