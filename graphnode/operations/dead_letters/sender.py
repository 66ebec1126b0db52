"""Sending messages in batches within SQS's limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from graphnode.sqs.queues import batches_of

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueOutputTypeDef, SendMessageBatchRequestEntryTypeDef

#: Attempts at a message that SQS refuses by a fault of its own.
TRIES = 3

#: The parts of an attribute that SQS takes.
PARTS = ("DataType", "StringValue", "BinaryValue")


class OutgoingMessage(NamedTuple):
    """A message to send.

    Parameters:
      key: identifies it in the SendResult.
      group_id: its MessageGroupId, if it has one.
    """

    key: str
    body: str
    attributes: Mapping[str, MessageAttributeValueOutputTypeDef]
    group_id: str | None = None

    @property
    def size(self) -> int:
        """The bytes that count towards SQS's limit."""
        parts: list[Any] = [
            part for name, value in self.attributes.items() for part in (name, *(value.get(part, "") for part in PARTS))
        ]
        return len(self.body.encode()) + sum(len(part if isinstance(part, bytes) else part.encode()) for part in parts)


class SendResult(NamedTuple):
    """By key: SQS's IDs of the messages that it accepted, and why it refused the others."""

    accepted: dict[str, str]
    refused: dict[str, str]


def send_messages(sqs: SQSClient, queue_url: str, messages: Sequence[OutgoingMessage]) -> SendResult:
    """Send messages to a queue. Raises botocore's errors when SQS does not answer."""
    result = SendResult({}, {})
    for batch in batches_of(messages, size=lambda message: message.size):
        left = {str(index): message for index, message in enumerate(batch)}
        for _ in range(TRIES):
            if not left:
                break
            answer = sqs.send_message_batch(
                QueueUrl=queue_url, Entries=[_entry(entry_id, message) for entry_id, message in left.items()]
            )
            for success in answer.get("Successful", []):
                message = left.pop(success["Id"])
                result.accepted[message.key] = success["MessageId"]
                result.refused.pop(message.key, None)
            for failure in answer.get("Failed", []):
                message = left.pop(failure["Id"]) if failure["SenderFault"] else left[failure["Id"]]
                result.refused[message.key] = f"{failure['Code']}: {failure.get('Message', 'SQS says no more')}"
    return result


def _entry(entry_id: str, message: OutgoingMessage) -> SendMessageBatchRequestEntryTypeDef:
    attributes: Any = {
        name: {part: value[part] for part in PARTS if part in value}  # type: ignore[literal-required]
        for name, value in message.attributes.items()
    }
    entry: SendMessageBatchRequestEntryTypeDef = {
        "Id": entry_id,
        "MessageBody": message.body,
        "MessageAttributes": attributes,
    }
    if message.group_id:
        entry["MessageGroupId"] = message.group_id
    return entry
