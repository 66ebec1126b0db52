"""Overdue tasks: those without news for too long end as those that have failed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from graphnode.broker import SQSBroker
from graphnode.contract import envelopes
from graphnode.contract.envelopes import ROUTES, Envelope, ResultPayload
from graphnode.contract.timeouts import duration_text, task_timeouts
from graphnode.settings import settings
from graphnode.storage import tasks

if TYPE_CHECKING:
    from mypy_boto3_sqs.literals import QueueAttributeNameType

log = structlog.get_logger("graphnode.startup")

#: The most overdue tasks that a sweep ends, each in a transaction of its own.
MOST_OVERDUE = 100


def sweep_overdue(broker: SQSBroker) -> None:
    """End the tasks of which there was no news for too long, as their actors end those that have failed."""
    timeouts = task_timeouts(settings().task_timeout)
    for ended in range(MOST_OVERDUE):
        task = tasks.claim_overdue(timeouts)
        if task is None or (ended == 0 and results_wait(broker)):
            return
        envelope = overdue(*task, timeout=timeouts[task.task_type])
        log.warning("task is overdue", task_id=task.task_id, task_type=task.task_type, user_id=task.user_id)
        broker.get_actor(envelopes.ROUTES[task.task_type].actor).fn(envelope)


def results_wait(broker: SQSBroker) -> bool:
    """Whether messages wait on the result queue: that of an overdue task may be among them."""
    return waiting_messages(broker, settings().sqs_result_queue_url) > 0


def waiting_messages(broker: SQSBroker, url: str) -> int:
    """How many messages are visible on a queue, about."""
    name: QueueAttributeNameType = "ApproximateNumberOfMessages"
    return int(broker.client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def overdue(
    task_id: str, task_type: str, user_id: str, news_at: datetime, *, timeout: timedelta
) -> Envelope[ResultPayload]:
    """The envelope of a task that has had its time: what the AI server would say of a failure.

    Parameters:
      task_type: one that a result ends.
      news_at: when there was news of it last.
      timeout: how long it may be without.
    """
    error = f"There was no result within {duration_text(timeout)}."
    payload = ROUTES[task_type].payload(status="FAILED", user_id=user_id, error=error)
    assert isinstance(payload, ResultPayload), "progress ends no task"  # noqa: S101
    return Envelope(
        task_id=task_id,
        task_type=task_type,
        timestamp=news_at + timeout,
        payload=payload,
        attempt=0,
        no_news_since=news_at,
    )
