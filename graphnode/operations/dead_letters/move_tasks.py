"""SQS's own redrive: a message move task moves all letters of a queue without a client.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from graphnode.operations.dead_letters.reader import LetterQueue

#: The highest MaxNumberOfMessagesPerSecond (an SQS quota).
FASTEST = 500

#: The states of a task that still moves messages.
RUNNING = ("RUNNING", "CANCELLING")


class MoveTask(NamedTuple):
    """A message move task.

    Parameters:
      status: SQS's status, such as COMPLETED.
      moved, total: about how many letters are moved so far, and are to be moved.
      handle: cancels the task; None unless it is running.
      failure: why it failed.
    """

    status: str
    moved: int
    total: int | None
    handle: str | None
    failure: str | None


def start_move(sqs: SQSClient, queue: LetterQueue, *, per_second: int | None = None) -> None:
    """Start a task that moves all letters to their source queue. Raises botocore's errors, also if one is running."""
    # Without a destination SQS moves only letters that a redrive policy brought, not those that a worker sent.
    arguments: dict[str, Any] = {"SourceArn": queue.arn, "DestinationArn": queue.source_arn}
    if per_second is not None:
        arguments["MaxNumberOfMessagesPerSecond"] = min(per_second, FASTEST)
    sqs.start_message_move_task(**arguments)


def newest_move(sqs: SQSClient, queue: LetterQueue) -> MoveTask | None:
    """The newest move task of a queue; None if it never had one."""
    tasks = sqs.list_message_move_tasks(SourceArn=queue.arn, MaxResults=1).get("Results", [])
    if not tasks:
        return None
    task = tasks[0]
    return MoveTask(
        task.get("Status", "UNKNOWN"),
        task.get("ApproximateNumberOfMessagesMoved", 0),
        task.get("ApproximateNumberOfMessagesToMove"),
        task.get("TaskHandle"),
        task.get("FailureReason"),
    )


def cancel_move(sqs: SQSClient, handle: str) -> None:
    """Cancel a move task. Letters that it has moved stay moved."""
    sqs.cancel_message_move_task(TaskHandle=handle)
