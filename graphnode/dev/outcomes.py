"""The outcome of a message: the row of its task, or its dead letter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import psycopg2

from graphnode.contract.envelopes import ROUTES

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef
    from psycopg2.extensions import connection

#: Seconds between two looks.
POLL_S = 0.1

#: The visibility timeout of dead letters while they are read, in seconds. They become visible again right after.
LOOK_S = 10

T = TypeVar("T")


class TaskRow(NamedTuple):
    """The columns of a task's row that describe its outcome."""

    status: str
    attempts: int
    reason: str | None
    error: str | None
    warnings: dict[str, Any] | None
    updated_at: datetime


class QueuedLetter(NamedTuple):
    """The body and the message attributes of a message on a dead-letter queue."""

    body: str
    attributes: dict[str, str]


@contextmanager
def reading(database_url: str) -> Iterator[connection]:
    """A database connection in autocommit mode, for queries.

    It changes no session setting, not even to read-only: behind PgBouncer, the worker gets the same session next.
    """
    with closing(psycopg2.connect(database_url)) as database:
        database.autocommit = True
        yield database


def rows(database: connection, query: str, **values: Any) -> list[tuple[Any, ...]]:
    """The rows of a query. It names its parameters as %(name)s."""
    with database.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def task(database: connection, *, task_id: str, task_type: str) -> TaskRow | None:
    """The task's row, or None. Progress is stored in the row of the result that ends the task."""
    found = rows(
        database,
        "SELECT status, attempts, reason, error, warnings, updated_at FROM tasks"
        " WHERE task_id = %(task_id)s AND task_type = %(task_type)s",
        task_id=task_id,
        task_type=ROUTES[task_type].task_type,
    )
    return TaskRow(*found[0]) if found else None


def dead_letters(sqs: SQSClient, queue_url: str) -> list[QueuedLetter]:
    """All visible messages of a dead-letter queue. They stay there."""
    seen: list[MessageTypeDef] = []
    try:
        while batch := sqs.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=10, VisibilityTimeout=LOOK_S, MessageAttributeNames=["All"]
        ).get("Messages"):
            seen += batch
    finally:
        for message in seen:
            sqs.change_message_visibility(
                QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )
    return [QueuedLetter(message["Body"], text_attributes(message.get("MessageAttributes", {}))) for message in seen]


def text_attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The text attributes of a message, by name."""
    return {name: value["StringValue"] for name, value in attributes.items() if "StringValue" in value}


def is_empty(sqs: SQSClient, queue_url: str) -> bool:
    """Whether a queue has no messages: none visible, in flight or delayed."""
    counts = sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=[
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ],
    )["Attributes"]
    return not any(map(int, counts.values()))


def wait_for(look: Callable[[], T | None], *, timeout_s: float) -> T | None:
    """Call `look` until it returns something; None after the timeout."""
    deadline = time.monotonic() + timeout_s
    while (found := look()) is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return found
