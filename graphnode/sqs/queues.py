"""The queues that a broker consumes: what is said of them, and the dead-letter queue behind each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import dramatiq
import msgspec
import structlog

from graphnode.errors import SettingsError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: The most bytes of a message, its body and its attributes' names, types and values together (an SQS quota).
LARGEST_MESSAGE_BYTES = 1024 * 1024

#: A queue's maxReceiveCount should be at least this many times the attempts: stops and outages use up receives too.
SAFE_REDRIVE = 3

log = structlog.get_logger("graphnode.broker")


class Origin(NamedTuple):
    """What SQS says of a message beside its body: ID, SentTimestamp, ApproximateReceiveCount."""

    message_id: str
    sent_at: datetime
    receive_count: int


@dataclass(frozen=True, kw_only=True)
class Queue:
    """An SQS queue behind a Dramatiq queue.

    Parameters:
      url: the queue's URL.
      decode: turns a body and the fields of its Origin (as keywords) into a Dramatiq message, or raises a
        PermanentError. None: the queue carries Dramatiq's own messages.
      describe: the task ID and the task type that a body tells, for its dead letter.
      thread_share: the most that its messages may take of the worker threads, from 0 to 1; one thread always. What is
        left over is for the other queues, however slow this one's messages are.
    """

    url: str
    decode: Callable[..., dramatiq.Message[None]] | None = None
    describe: Callable[[str], tuple[str | None, str | None]] = field(default=lambda _body: (None, None))
    thread_share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the broker reaches and uses SQS.

    Parameters:
      queues: by the name that actors use.
      region: the AWS region.
      endpoint_url: another SQS than AWS's own.
      visibility_s: seconds a message in hand stays hidden between two extensions.
      poll_wait_s: seconds a poll waits for messages.
      poll_grace_s: seconds a stop waits for a poll in progress.
      max_attempts: after how many failures a message is a dead letter; SQS's own redrive must come much later.
      message_attributes: what polls ask for beside the body.
    """

    queues: Mapping[str, Queue]
    region: str
    endpoint_url: str | None = None
    visibility_s: int = 60
    poll_wait_s: int = 20
    poll_grace_s: float = 20.0
    max_attempts: int = 8
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
    """The URL of a queue with this ARN."""
    *_, account, name = arn.split(":")
    return sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]


def find_dead_letters(sqs: SQSClient, url: str, *, max_attempts: int) -> DeadLetterQueue:
    """The dead-letter queue that a queue's redrive policy names.

    Native redrive should come much later than a worker's own verdict: if it does not, that is warned of.

    Parameters:
      url: the queue.
      max_attempts: after how many failures a worker gives a message up.

    Raises SettingsError when there is none, and botocore's errors.
    """
    policy = redrive_policy(sqs, url)
    if policy is None:
        raise SettingsError(
            f"The queue {url} has no dead-letter queue: a message that cannot be handled would have nowhere to go. "
            "Give it a redrive policy: aws sqs set-queue-attributes --queue-url … --attributes RedrivePolicy=…"
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
