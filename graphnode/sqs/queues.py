"""The queues that a broker consumes: how they are used, and the dead-letter queue behind each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import dramatiq
import msgspec
import structlog
from botocore.exceptions import ClientError

from graphnode.clients.aws import Aws
from graphnode.errors import NoSuchQueue, SettingsError, is_missing_queue
from graphnode.sqs.verdicts import RetryPolicy

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: The most bytes of a message: its body and its attributes' names, types and values together.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LARGEST_MESSAGE_BYTES = 1024 * 1024

#: The most messages that one call sends, receives, deletes or extends (an SQS quota).
BATCH_ENTRIES = 10

#: A queue's maxReceiveCount should be at least this many times the attempts: stops and outages use up receives too.
SAFE_REDRIVE = 3

#: Task IDs and types of an undecodable body that a log line may show.
IDENTIFIER = re.compile(r"[\w.:-]{1,200}")

#: The command that mends a redrive policy.
SET_REDRIVE = "aws sqs set-queue-attributes --queue-url … --attributes RedrivePolicy=…"

Item = TypeVar("Item")

log = structlog.get_logger("graphnode.broker")


@dataclass(frozen=True, kw_only=True)
class Queue:
    """An SQS queue behind a Dramatiq queue.

    Parameters:
      url: the queue's URL.
      decode: turns a body, with SQS's `message_id`, `sent_at` (SentTimestamp) and `receive_count` as keywords, into a
        Dramatiq message, or raises a PermanentError. None: the queue carries Dramatiq's own messages.
      ids_of_body: the task ID and the task type that a body names, for its dead letter.
      lane_of_body: the key of a body's lane: messages with the same key are handled one at a time. It is read at the
        receipt, before anything is decoded: quick, bounded, and never failing. None: a lane of its own.
      thread_share: the largest share of the worker threads that its messages may take, from 0 to 1; one thread always.
        The rest is for the other queues, however slow this one's messages are.
    """

    url: str
    decode: Callable[..., dramatiq.Message[None]] | None = None
    ids_of_body: Callable[[str], tuple[str | None, str | None]] = field(default=lambda _body: (None, None))
    lane_of_body: Callable[[str], str | None] = field(default=lambda _body: None)
    thread_share: float = 1.0

    def task_of_body(self, body: str) -> dict[str, str]:
        """Task ID and type of an undecodable body, if they look like identifiers."""
        ids = zip(("task_id", "task_type"), self.ids_of_body(body), strict=True)
        return {name: value for name, value in ids if value and IDENTIFIER.fullmatch(value)}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the broker reaches and uses SQS.

    Parameters:
      queues: by the name that actors use.
      aws: makes the SQS clients. Let it make the actors' clients, too: its clients share their credentials.
      retry: how often and how fast a message is tried again. SQS's native redrive must come much later.
      visibility_s: seconds a message in flight stays hidden between two extensions.
      poll_wait_s: seconds a poll waits for messages.
      poll_grace_s: seconds a stop waits for a poll in progress.
      shutdown_timeout_s: seconds a stop waits for running messages.
      message_attributes: what polls ask for beside the body.
    """

    queues: Mapping[str, Queue]
    aws: Aws
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    visibility_s: int = 60
    poll_wait_s: int = 20
    poll_grace_s: float = 20.0
    shutdown_timeout_s: float = 25.0
    message_attributes: Sequence[str] = ()


class DeadLetterQueue(NamedTuple):
    """Where a queue's dead letters go, and the most bytes that one may have."""

    url: str
    largest_bytes: int


class RedrivePolicy(NamedTuple):
    """Where SQS itself moves a queue's messages, and after how many receives."""

    arn: str
    max_receive_count: int


def redrive_policy(sqs: SQSClient, url: str) -> RedrivePolicy | None:
    """A queue's redrive policy, if it has one. Raises botocore's errors."""
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"]).get("Attributes", {})
    if "RedrivePolicy" not in policy:
        return None
    redrive = msgspec.json.decode(policy["RedrivePolicy"])
    return RedrivePolicy(redrive["deadLetterTargetArn"], int(redrive["maxReceiveCount"]))


def queue_url(sqs: SQSClient, arn: str) -> str:
    """The URL of the queue with this ARN."""
    *_, account, name = arn.split(":")
    return sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]


@contextmanager
def named_if_missing(queue: str) -> Iterator[None]:
    """Raise NoSuchQueue where SQS says that a queue does not exist: its own answer does not name the queue.

    Parameters:
      queue: the URL or ARN of the queue that the block asks for.
    """
    try:
        yield
    except ClientError as error:
        if is_missing_queue(error):
            raise NoSuchQueue(queue) from None
        raise


def visible_messages(sqs: SQSClient, url: str) -> int:
    """The approximate number of visible messages on a queue. Raises botocore's errors."""
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"])


def find_dead_letters(sqs: SQSClient, url: str, *, max_attempts: int) -> DeadLetterQueue:
    """The dead-letter queue that a queue's redrive policy names. Warns of a native redrive that comes too early.

    Parameters:
      url: the queue.
      max_attempts: after how many failures a worker makes a message a dead letter.

    Raises SettingsError when the policy is missing, or names a queue that cannot take dead letters, and botocore's
    errors.
    """
    policy = redrive_policy(sqs, url)
    if policy is None:
        raise SettingsError(
            f"The queue {url} has no dead-letter queue: a message that cannot be handled would have nowhere to go. "
            f"Give it a redrive policy: {SET_REDRIVE}"
        )
    if policy.arn.split(":")[-2:] == url.split("/")[-2:]:
        raise SettingsError(
            f"The queue {url} is its own dead-letter queue: a message that cannot be handled would come back for ever. "
            f"Create another queue, and name it in the redrive policy: {SET_REDRIVE}"
        )
    if policy.arn.endswith(".fifo"):
        raise SettingsError(
            f"The dead-letter queue of {url} is a FIFO queue, {policy.arn}: it takes no dead letters of a standard "
            f"queue. Create a standard queue, and name it in the redrive policy: {SET_REDRIVE}"
        )
    most, wanted = policy.max_receive_count, SAFE_REDRIVE * max_attempts
    if most < wanted:
        log.warning(
            "native redrive comes too early: messages can become dead letters without a reason",
            queue=url,
            max_receive_count=most,
            max_attempts=max_attempts,
            advice=f"set maxReceiveCount to {wanted} or more",
        )
    found = queue_url(sqs, policy.arn)
    known = sqs.get_queue_attributes(QueueUrl=found, AttributeNames=["MaximumMessageSize"]).get("Attributes", {})
    return DeadLetterQueue(found, int(known.get("MaximumMessageSize", LARGEST_MESSAGE_BYTES)))


def batches_of(items: Iterable[Item], *, size: Callable[[Item], int] = lambda _item: 0) -> Iterator[list[Item]]:
    """Items in batches that one batch call takes: at most BATCH_ENTRIES, with LARGEST_MESSAGE_BYTES together.

    Parameters:
      size: the bytes of an item; an item that is too large has a batch of its own.
    """
    batch: list[Item] = []
    total = 0
    for item in items:
        total += size(item)
        if batch and (len(batch) == BATCH_ENTRIES or total > LARGEST_MESSAGE_BYTES):
            yield batch
            batch, total = [], size(item)
        batch.append(item)
    if batch:
        yield batch
