"""A dead letter as SQS delivers it, and what is known of it: reason, task, user, attempts, age."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from graphnode.contract.bodies import BodySummary, summarize_body, to_message
from graphnode.contract.envelopes import REQUEST_QUEUE, RESULT_QUEUE
from graphnode.contract.message_groups import message_group_of
from graphnode.contract.task_ids import parse_task_id
from graphnode.errors import InvalidMessage, PermanentError
from graphnode.operations.dead_letters.advice import UNEXPLAINED
from graphnode.sqs import dramatiq_messages
from graphnode.sqs.dead_letter import ATTRIBUTES, shorten

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueOutputTypeDef, MessageTypeDef

#: The longest ID or type that is kept, in characters: a body that breaks the contract may have one of a megabyte.
LONGEST_NAME = 400

#: The longest first line of an error that is kept, in characters.
LONGEST_LINE = 300


class Letter(NamedTuple):
    """A message on a dead-letter queue.

    Parameters:
      attributes: its message attributes.
      received: SQS's ApproximateReceiveCount, this receive included.
      sent_at: when it was sent to the dead-letter queue; if SQS moved it there, when it was first sent.
      moved_by_sqs: whether a redrive policy put it there, not a worker.
      group_id: its MessageGroupId, if it has one.
    """

    message_id: str
    body: str
    attributes: Mapping[str, MessageAttributeValueOutputTypeDef]
    receipt_handle: str
    received: int
    sent_at: datetime
    moved_by_sqs: bool
    group_id: str | None = None

    @property
    def original_message_id(self) -> str | None:
        """SQS's ID of the message that failed; None if a worker of version 0.1 wrote the letter."""
        if self.moved_by_sqs:
            # SQS's move keeps the ID. An attribute is left from an earlier life of the message.
            return self.message_id
        named = self.attributes.get("original_message_id")
        return named.get("StringValue") if named else None


class LetterInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a letter says, without its body.

    Parameters:
      queue: `results` or `requests`.
      original_message_id: SQS's ID of the message that failed, which log lines have; None if it is unknown.
      stated: whether a worker wrote the reason; if not, it was inferred from the body.
      error: its first line.
      task_type: the envelope's task type; of the worker's own messages, the actor's name.
      attempts: how many a worker made; None if no worker wrote it.
      received: SQS's receive count, this receive included.
      since: when it became a dead letter; if SQS moved it, when it was first sent.
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
    original_message_id: str | None = None


class LetterFilter(NamedTuple):
    """Conditions on a letter; None matches every letter."""

    reason: str | None = None
    task_id: str | None = None
    task_type: str | None = None
    older_than: timedelta | None = None
    user_id: str | None = None
    message_ids: frozenset[str] | None = None

    def __str__(self) -> str:
        """The conditions in words, after `none`."""
        parts = {
            "with this reason": self.reason,
            "of this task": self.task_id,
            "of this type": self.task_type,
            "of this age": self.older_than,
        }
        return " and ".join(words for words, value in parts.items() if value is not None)

    def matches(self, info: LetterInfo, *, now: datetime) -> bool:
        """Whether a letter meets all conditions."""
        return (
            self.reason in (None, info.reason)
            and self.task_id in (None, info.task_id)
            and self.task_type in (None, info.task_type)
            and self.user_id in (None, info.user_id)
            and (self.message_ids is None or info.message_id in self.message_ids)
            and (self.older_than is None or now - info.since >= self.older_than)
        )


def letter_from_sqs(message: MessageTypeDef) -> Letter:
    """A letter from a message of ReceiveMessage, received with all attributes of both kinds."""
    system: Mapping[str, str] = message.get("Attributes", {})  # type: ignore[assignment]
    return Letter(
        message_id=message["MessageId"],
        body=message["Body"],
        attributes=message.get("MessageAttributes", {}),
        receipt_handle=message["ReceiptHandle"],
        received=int(system["ApproximateReceiveCount"]),
        sent_at=datetime.fromtimestamp(int(system["SentTimestamp"]) / 1000, UTC),
        moved_by_sqs="DeadLetterQueueSourceArn" in system,
        group_id=system.get("MessageGroupId"),
    )


def letter_info(letter: Letter, queue: str) -> LetterInfo:
    """What a letter's attributes and body say.

    Parameters:
      queue: `results` or `requests`.
    """
    said = {name: value["StringValue"] for name, value in letter.attributes.items() if "StringValue" in value}
    # A letter that SQS moved may have a reason from an earlier redrive by a move task, which keeps attributes.
    is_stated = "reason" in said and not letter.moved_by_sqs
    if not is_stated:
        said = dict(zip(("reason", "error"), infer_reason(letter, queue), strict=True))
    body = summarize(letter.body, queue)
    task_id = body.task_id or said.get("task_id")
    return LetterInfo(
        queue=queue,
        message_id=letter.message_id,
        reason=said["reason"],
        stated=is_stated,
        error=shorten(next(iter(said.get("error", "").strip().splitlines()), ""), LONGEST_LINE),
        task_id=_short(task_id),
        task_type=_short(body.task_type or said.get("task_type")),
        user_id=_short(body.user_id or (parse_task_id(task_id).user_id if task_id else None)),
        notification_id=_short(body.notification_id),
        attempts=_number(said.get("attempt")),
        received=letter.received,
        since=_time(said.get("failed_at")) or letter.sent_at,
        worker=said.get("worker"),
        body_bytes=len(letter.body.encode(errors="surrogatepass")),
        original_message_id=letter.original_message_id,
    )


def infer_reason(letter: Letter, queue: str) -> tuple[str, str]:
    """Reason and error of a letter that no worker wrote: what decoding its body raises, or UNEXPLAINED."""
    try:
        if queue == RESULT_QUEUE:
            to_message(letter.body, message_id=letter.message_id, sent_at=letter.sent_at, receive_count=letter.received)
    except PermanentError as error:
        return error.reason, str(error)
    if letter.moved_by_sqs:
        return UNEXPLAINED, f"SQS moved it here, no worker gave a verdict; received {letter.received} times by now"
    return UNEXPLAINED, "it was put here without a reason"


def summarize(body: str, queue: str) -> BodySummary:
    """The IDs and the type in a body, as far as it can be decoded."""
    if queue in (RESULT_QUEUE, REQUEST_QUEUE):
        return summarize_body(body)
    try:
        message = dramatiq_messages.read(body)
    except InvalidMessage:
        return BodySummary()
    notification_id = message.kwargs.get("notification_id")
    return BodySummary(
        task_type=message.actor_name, notification_id=notification_id if isinstance(notification_id, str) else None
    )


def sender_attributes(letter: Letter) -> dict[str, MessageAttributeValueOutputTypeDef]:
    """The attributes of the original message: without those that a worker added."""
    if "reason" not in letter.attributes:
        return dict(letter.attributes)
    return {name: value for name, value in letter.attributes.items() if name not in ATTRIBUTES}


def sender_group(letter: Letter) -> str | None:
    """The MessageGroupId for the source queue: the letter's own; without one, its user's."""
    return letter.group_id or message_group_of(letter.body)


def count_by_reason(letters: Iterable[LetterInfo]) -> Counter[str]:
    """The number of letters by reason."""
    return Counter(info.reason for info in letters)


def _short(name: str | None) -> str | None:
    return shorten(name, LONGEST_NAME) if name else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
