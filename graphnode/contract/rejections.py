"""The FAILED result that ends a task in place of a result that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import dramatiq
import msgspec

from graphnode.contract.bodies import result_message, summarize_body, to_message
from graphnode.contract.envelopes import (
    LONGEST_ID,
    LONGEST_TASK_ID,
    ROUTES,
    Envelope,
    MicroscopeIngestResult,
    ResultPayload,
    failed_payload,
)
from graphnode.contract.task_ids import parse_task_id
from graphnode.errors import NotRegistered, PermanentError, WrongOwner

#: The text for the user's app, by the dead letter's reason.
TEXTS: Mapping[str, str] = {
    "INVALID_ENVELOPE": "The result could not be read.",
    "INVALID_DOCUMENT": "The result could not be read.",
    "OBJECT_NOT_FOUND": "The result did not arrive.",
    "DOCUMENT_TOO_LARGE": "The result is too large.",
    "TIME_LIMIT": "Storing the result took too long.",
}
#: Reasons that may be the workspace's, which the FAILED result would meet again.
OF_A_WORKSPACE = frozenset({WrongOwner.reason, NotRegistered.reason})

OTHER_TEXT = "The result could not be stored."


def rejected(envelope: Envelope[Any], reason: str) -> Envelope[ResultPayload] | None:
    """The FAILED result in place of one that cannot be used; None for an envelope that ends no task.

    Parameters:
      reason: the dead letter's.
    """
    payload = envelope.payload
    if not isinstance(payload, ResultPayload):
        return None
    left_out = list(payload.s3_fields)
    if reason in OF_A_WORKSPACE and isinstance(payload, MicroscopeIngestResult):
        left_out.append("group_id")
    failed = msgspec.structs.replace(
        payload, status="FAILED", error=TEXTS.get(reason, OTHER_TEXT), **dict.fromkeys(left_out, None)
    )
    return msgspec.structs.replace(envelope, payload=failed, is_rejected=True)


def to_message_or_rejection(
    body: str, *, message_id: str, sent_at: datetime, receive_count: int
) -> dramatiq.Message[None]:
    """Like `to_message`, but a body that is no valid envelope and names its task and its user ends that task.

    Such a message has a FAILED result for the actor, and its error as the option `rejection`: when the task has ended,
    the message becomes a dead letter for this error.

    Raises PermanentError.
    """
    try:
        return to_message(body, message_id=message_id, sent_at=sent_at, receive_count=receive_count)
    except PermanentError as error:
        envelope = _rejected_body(body, error.reason, sent_at=sent_at, receive_count=receive_count)
        if envelope is None:
            raise
        return result_message(envelope, message_id=message_id, sent_at=sent_at, options={"rejection": error})


def _rejected_body(body: str, reason: str, *, sent_at: datetime, receive_count: int) -> Envelope[ResultPayload] | None:
    """The FAILED result in place of a body that is no valid envelope; None if it does not name its task and user."""
    found = summarize_body(body)
    route, task_id = ROUTES.get(found.task_type or ""), found.task_id
    if route is None or not issubclass(route.payload, ResultPayload) or not task_id or len(task_id) > LONGEST_TASK_ID:
        return None
    user_id = found.user_id or parse_task_id(task_id).user_id
    if not user_id or len(user_id) > LONGEST_ID or "\0" in task_id + user_id:
        return None
    return Envelope(
        task_id=task_id,
        task_type=route.task_type,
        timestamp=sent_at,
        payload=failed_payload(route.task_type, user_id=user_id, error=TEXTS.get(reason, OTHER_TEXT)),
        attempt=receive_count,
        is_rejected=True,
    )
