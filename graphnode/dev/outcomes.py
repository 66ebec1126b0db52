"""What has become of a message: the row of its task, or its dead letter."""

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

#: Seconds for which a look hides dead letters from others, at most: they are given back when it ends.
LOOK_S = 10

T = TypeVar("T")


class Task(NamedTuple):
    """A task's row, as far as it tells how the task ended."""

    status: str
    attempts: int
    error: str | None
    warnings: dict[str, Any] | None
    updated_at: datetime


class DeadLetter(NamedTuple):
    """A message on a dead-letter queue, with its message attributes."""

    body: str
    attributes: dict[str, str]


@contextmanager
def reading(database_url: str) -> Iterator[connection]:
    """A database connection that sees what others commit as they do.

    It sets nothing of the session, such as that it only reads: behind PgBouncer the session is the worker's next.
    """
    with closing(psycopg2.connect(database_url)) as database:
        database.autocommit = True
        yield database


def rows(database: connection, query: str, **values: Any) -> list[tuple[Any, ...]]:
    """The rows of a query, its values written as %(name)s."""
    with database.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def task(database: connection, *, task_id: str, task_type: str) -> Task | None:
    """The task's row, if there is one. It is kept under the type of the result that ends it."""
    found = rows(
        database,
        "SELECT status, attempts, error, warnings, updated_at FROM tasks"
        " WHERE task_id = %(task_id)s AND task_type = %(task_type)s",
        task_id=task_id,
        task_type=ROUTES[task_type].task_type,
    )
    return Task(*found[0]) if found else None


def dead_letters(sqs: SQSClient, queue_url: str) -> list[DeadLetter]:
    """All that lies visible on a dead-letter queue, which keeps it."""
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
    return [DeadLetter(message["Body"], text_attributes(message.get("MessageAttributes", {}))) for message in seen]


def text_attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Message attributes by name, those that are text."""
    return {name: value["StringValue"] for name, value in attributes.items() if "StringValue" in value}


def is_empty(sqs: SQSClient, queue_url: str) -> bool:
    """Whether nothing is left on a queue, neither waiting nor in anybody's hands."""
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
    """Look until there is something to see, or the time is over (None)."""
    deadline = time.monotonic() + timeout_s
    while (found := look()) is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return found
