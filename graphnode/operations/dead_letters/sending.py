"""Putting messages on a queue, in batches within SQS's limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from graphnode.sqs.queues import BATCH_ENTRIES as BATCH
from graphnode.sqs.queues import LARGEST_MESSAGE_BYTES

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueOutputTypeDef, SendMessageBatchRequestEntryTypeDef

#: Tries of an entry that SQS did not take, by its own fault.
TRIES = 3

#: The parts of an attribute that SQS takes.
PARTS = ("DataType", "StringValue", "BinaryValue")


class Outgoing(NamedTuple):
    """A message to be sent.

    Parameters:
      key: what the caller knows it by.
    """

    key: str
    body: str
    attributes: Mapping[str, MessageAttributeValueOutputTypeDef]

    @property
    def size(self) -> int:
        """The bytes that count against SQS's limit."""
        parts: list[Any] = [
            part for name, value in self.attributes.items() for part in (name, *(value.get(part, "") for part in PARTS))
        ]
        return len(self.body.encode()) + sum(len(part if isinstance(part, bytes) else part.encode()) for part in parts)


class Sent(NamedTuple):
    """What became of messages: the keys of those that SQS has, and by key why it did not take the others."""

    taken: set[str]
    refused: dict[str, str]


def send(sqs: SQSClient, queue_url: str, messages: Sequence[Outgoing]) -> Sent:
    """Put messages on a queue, each once as far as SQS says. Raises botocore's errors when it does not answer."""
    sent = Sent(set(), {})
    for batch in _batches(messages):
        left = {str(index): message for index, message in enumerate(batch)}
        for _ in range(TRIES):
            if not left:
                break
            answer = sqs.send_message_batch(
                QueueUrl=queue_url, Entries=[_entry(key, message) for key, message in left.items()]
            )
            for taken in answer.get("Successful", []):
                message = left.pop(taken["Id"])
                sent.taken.add(message.key)
                sent.refused.pop(message.key, None)
            for failure in answer.get("Failed", []):
                message = left.pop(failure["Id"]) if failure["SenderFault"] else left[failure["Id"]]
                sent.refused[message.key] = f"{failure['Code']}: {failure.get('Message', 'SQS says no more')}"
    return sent


def _batches(messages: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    batch: list[Outgoing] = []
    for message in messages:
        if batch and (len(batch) == BATCH or sum(m.size for m in batch) + message.size > LARGEST_MESSAGE_BYTES):
            yield batch
            batch = []
        batch.append(message)
    if batch:
        yield batch


def _entry(key: str, message: Outgoing) -> SendMessageBatchRequestEntryTypeDef:
    attributes: Any = {
        name: {part: value[part] for part in PARTS if part in value}  # type: ignore[literal-required]
        for name, value in message.attributes.items()
    }
    return {"Id": key, "MessageBody": message.body, "MessageAttributes": attributes}
