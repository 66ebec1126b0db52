"""A dead letter's message attributes: why the message is on the dead-letter queue."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from graphnode.sqs.queues import LARGEST_MESSAGE_BYTES

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

#: The longest error text that a dead letter carries, in characters.
LONGEST_ERROR = 1024

#: The end of a shortened text.
SHORTENED = " […]"

#: The attributes, the most important first: when a body leaves too little room, the last ones are left out.
ATTRIBUTES = (
    "reason",
    "original_message_id",
    "error",
    "task_id",
    "task_type",
    "attempt",
    "failed_at",
    "worker",
    "trace_id",
)

#: Characters that SQS does not accept in an attribute: all except those of XML 1.0.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
REFUSED_CHARACTERS = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def attributes(
    body: str,
    *,
    reason: str,
    error: str,
    attempt: int,
    task_id: str | None,
    task_type: str | None,
    failed_at: datetime,
    worker: str,
    original_message_id: str | None = None,
    trace_id: str | None = None,
    largest_bytes: int = LARGEST_MESSAGE_BYTES,
) -> dict[str, MessageAttributeValueTypeDef]:
    """The message attributes of a dead letter with this body, within SQS's limits.

    Parameters:
      body: the original body; it is never shortened.
      reason: the error's reason code.
      error: its text; it is shortened if it is too long.
      attempt: the number of the failed attempt, from 1.
      task_id, task_type: None when the body names none.
      failed_at: when it failed.
      worker: the process in which it failed.
      original_message_id: SQS's ID of the message that failed; the letter has another.
      trace_id: OpenTelemetry's; None without traces.
      largest_bytes: the most bytes that the dead-letter queue accepts.
    """
    values = {
        "reason": reason,
        "original_message_id": original_message_id,
        "error": shorten(error, LONGEST_ERROR),
        "task_id": task_id,
        "task_type": task_type,
        "attempt": str(attempt),
        "failed_at": failed_at.isoformat(),
        "worker": worker,
        "trace_id": trace_id,
    }
    room = largest_bytes - len(body.encode())
    chosen: dict[str, MessageAttributeValueTypeDef] = {}
    for name in ATTRIBUTES:
        text = REFUSED_CHARACTERS.sub("\ufffd", values[name] or "")
        size = len(name) + len("String") + len(text.encode())
        if text and size <= room:
            chosen[name] = {"DataType": "String", "StringValue": text}
            room -= size
    return chosen


def shorten(text: str, longest: int) -> str:
    """The text, cut to at most `longest` characters; a mark says that something is missing."""
    return text if len(text) <= longest else text[: longest - len(SHORTENED)] + SHORTENED
