"""SQS's own redrive: it moves all letters of a queue by itself, whoever watches.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from graphnode.operations.dead_letters.reading import LetterQueue

#: The most messages a second that a move task can be limited to (an SQS quota).
FASTEST = 500

#: A task in one of these states is at work.
AT_WORK = ("RUNNING", "CANCELLING")


class Move(NamedTuple):
    """The newest move task of a queue.

    Parameters:
      status: SQS's word for it.
      moved, of: letters moved so far, and to be moved in all, about.
      handle: what cancels it, while it runs.
      failure: why it failed.
    """

    status: str
    moved: int
    of: int | None
    handle: str | None
    failure: str | None


def start(sqs: SQSClient, queue: LetterQueue, *, per_second: int | None = None) -> None:
    """Have SQS move all letters to their queue. Raises botocore's errors, also when a task is at work already."""
    # Without a destination SQS would move only what its own redrive policy brought: a worker's letters have no origin.
    arguments: dict[str, Any] = {"SourceArn": queue.arn, "DestinationArn": queue.source_arn}
    if per_second is not None:
        arguments["MaxNumberOfMessagesPerSecond"] = min(per_second, FASTEST)
    sqs.start_message_move_task(**arguments)


def newest(sqs: SQSClient, queue: LetterQueue) -> Move | None:
    """The newest move task of a queue; None: it never had one."""
    tasks = sqs.list_message_move_tasks(SourceArn=queue.arn, MaxResults=1).get("Results", [])
    if not tasks:
        return None
    task = tasks[0]
    return Move(
        task.get("Status", "UNKNOWN"),
        task.get("ApproximateNumberOfMessagesMoved", 0),
        task.get("ApproximateNumberOfMessagesToMove"),
        task.get("TaskHandle"),
        task.get("FailureReason"),
    )


def cancel(sqs: SQSClient, handle: str) -> None:
    """Have a move task stop: what it has moved stays moved."""
    sqs.cancel_message_move_task(TaskHandle=handle)
