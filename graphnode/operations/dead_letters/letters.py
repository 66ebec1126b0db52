"""A dead letter as it is read: what it says, and what can be told of one that says nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from graphnode.contract.envelopes import NOTIFICATION_QUEUE, RESULT_QUEUE, Outline, outline, to_message
from graphnode.contract.task_ids import parse_task_id
from graphnode.errors import InvalidMessage, PermanentError
from graphnode.operations.dead_letters.advice import UNEXPLAINED
from graphnode.sqs import dramatiq_messages
from graphnode.sqs.dead_letter import ATTRIBUTES, shorten

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueOutputTypeDef, MessageTypeDef

#: The queue of requests, beside the two that the worker consumes.
REQUEST_QUEUE = "requests"

#: Characters that are kept of an ID or a type: a body that breaks the contract may hold a megabyte of it.
LONGEST_NAME = 400

#: Characters that are kept of an error's first line.
LONGEST_LINE = 300


class Letter(NamedTuple):
    """A message on a dead-letter queue.

    Parameters:
      attributes: its message attributes.
      received: how often it was received, this time included (SQS's ApproximateReceiveCount).
      sent_at: when it was put on the queue; of one that SQS moved, when it was first sent.
      moved_by_sqs: whether a redrive policy put it there, and not a worker.
    """

    message_id: str
    body: str
    attributes: Mapping[str, MessageAttributeValueOutputTypeDef]
    receipt_handle: str
    received: int
    sent_at: datetime
    moved_by_sqs: bool


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a list says of a letter.

    Parameters:
      queue: `results`, `notifications` or `requests`.
      stated: whether the letter itself gives its reason; if not, it was worked out from the body.
      error: its first line.
      task_type: the envelope's; of the worker's own messages, the actor.
      attempts: after how many a worker gave it up; None: no worker says.
      received: how often it was received, this look included.
      since: when it became a dead letter; of one that SQS moved, when it was first sent.
    """

    queue: str
    message_id: str
    reason: str
    stated: bool
    error: str
    task_id: str | None
    task_type: str | None
    user_id: str | None
    notification_id: str | None
    attempts: int | None
    received: int
    since: datetime
    worker: str | None
    body_bytes: int


class Wanted(NamedTuple):
    """Which letters are meant: those that match all that is given."""

    reason: str | None = None
    task_id: str | None = None
    task_type: str | None = None
    older_than: timedelta | None = None

    def matches(self, facts: Facts, *, now: datetime) -> bool:
        """Whether this letter is meant."""
        return (
            (self.reason is None or self.reason == facts.reason)
            and (self.task_id is None or self.task_id == facts.task_id)
            and (self.task_type is None or self.task_type == facts.task_type)
            and (self.older_than is None or now - facts.since >= self.older_than)
        )


def letter_of(message: MessageTypeDef) -> Letter:
    """A letter from what ReceiveMessage says, asked for all attributes of both kinds."""
    system: Mapping[str, str] = message.get("Attributes", {})  # type: ignore[assignment]
    return Letter(
        message_id=message["MessageId"],
        body=message["Body"],
        attributes=message.get("MessageAttributes", {}),
        receipt_handle=message["ReceiptHandle"],
        received=int(system["ApproximateReceiveCount"]),
        sent_at=datetime.fromtimestamp(int(system["SentTimestamp"]) / 1000, UTC),
        moved_by_sqs="DeadLetterQueueSourceArn" in system,
    )


def facts_of(letter: Letter, queue: str) -> Facts:
    """What is known of a letter from itself.

    Parameters:
      queue: `results`, `notifications` or `requests`.
    """
    said = {name: value["StringValue"] for name, value in letter.attributes.items() if "StringValue" in value}
    # A worker's letter is sent. On one that SQS moved, a reason is of an earlier death: a move task had kept it.
    stated = "reason" in said and not letter.moved_by_sqs
    reason, error = (said["reason"], said.get("error", "")) if stated else worked_out(letter, queue)
    found = outline_of(letter.body, queue)
    task_id = found.task_id or (said.get("task_id") if stated else None)
    return Facts(
        queue=queue,
        message_id=letter.message_id,
        reason=reason,
        stated=stated,
        error=shorten(next(iter(error.strip().splitlines()), ""), LONGEST_LINE),
        task_id=_short(task_id),
        task_type=_short(found.task_type or (said.get("task_type") if stated else None)),
        user_id=_short(found.user_id or (parse_task_id(task_id).user_id if task_id else None)),
        notification_id=_short(found.notification_id),
        attempts=_number(said.get("attempt")) if stated else None,
        received=letter.received,
        since=(_moment(said.get("failed_at")) if stated else None) or letter.sent_at,
        worker=said.get("worker") if stated else None,
        body_bytes=len(letter.body.encode(errors="surrogatepass")),
    )


def worked_out(letter: Letter, queue: str) -> tuple[str, str]:
    """The reason and the error of a letter that has none: those of decoding it, if that fails."""
    try:
        if queue == RESULT_QUEUE:
            to_message(letter.body, message_id=letter.message_id, sent_at=letter.sent_at, receive_count=letter.received)
    except PermanentError as error:
        return error.reason, str(error)
    if letter.moved_by_sqs:
        return UNEXPLAINED, f"SQS moved it here, no worker gave a verdict; received {letter.received} times by now"
    return UNEXPLAINED, "it was put here without a reason"


def outline_of(body: str, queue: str) -> Outline:
    """What a body names, as far as it can be read."""
    if queue != NOTIFICATION_QUEUE:
        return outline(body)
    try:
        message = dramatiq_messages.read(body)
    except InvalidMessage:
        return Outline()
    named = message.kwargs.get("notification_id")
    return Outline(task_type=message.actor_name, notification_id=named if isinstance(named, str) else None)


def without_ours(letter: Letter) -> dict[str, MessageAttributeValueOutputTypeDef]:
    """The attributes that a letter had before it was one: all but the reason and what came with it."""
    if "reason" not in letter.attributes:
        return dict(letter.attributes)
    return {name: value for name, value in letter.attributes.items() if name not in ATTRIBUTES}


def count_by_reason(letters: Iterable[Facts]) -> Counter[str]:
    """How many letters there are of each reason."""
    return Counter(facts.reason for facts in letters)


def _short(name: str | None) -> str | None:
    return shorten(name, LONGEST_NAME) if name else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
