"""Ends overdue tasks: those without news for too long end as a FAILED result would end them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from graphnode.broker import SQSBroker
from graphnode.contract.envelopes import RESULT_QUEUE, ROUTES, Envelope, ResultPayload, failed_payload
from graphnode.contract.timeouts import duration_text, task_timeouts
from graphnode.errors import UserLocked
from graphnode.settings import settings
from graphnode.sqs.queues import visible_messages
from graphnode.storage import graph_status, tasks
from graphnode.storage.database import user_transaction
from graphnode.worker.sweeps import sweep

#: The most overdue tasks that a sweep ends, and the most statuses that it derives, each in a transaction of its own.
MOST_OVERDUE = 100

# Alerts and filters of operators know this name.
log = structlog.get_logger("graphnode.startup")


@sweep("overdue tasks")
def end_overdue_tasks(broker: SQSBroker) -> None:
    """End the tasks without news for longer than their time-out, unless their result may be waiting.

    The actor that handles a task type's results handles this end as well: the routing table names it.
    """
    read_up_to = results_read_up_to(broker)
    if read_up_to is None:
        return
    timeouts = task_timeouts(settings().task_timeout)
    # A message in its back-off is visible again after it, and received within a visibility timeout.
    backoff = timedelta(seconds=broker.options.retry.backoff_max_s + broker.options.visibility_s)
    for _ in range(MOST_OVERDUE):
        task = tasks.claim_overdue(timeouts, before=read_up_to, backoff=backoff)
        if task is None:
            return
        log.warning("task is overdue", task_id=task.task_id, task_type=task.task_type, user_id=task.user_id)
        actor = broker.get_actor(ROUTES[task.task_type].actor)
        try:
            actor.fn(overdue_result(*task, timeout=timeouts[task.task_type]))
        except UserLocked:
            # Another session works on this user, perhaps on this task. A later sweep looks again.
            continue


@sweep("graph statuses")
def settle_stale_statuses(_broker: SQSBroker) -> None:
    """Derive the statuses that have said for longer than the time-out that a task is open, while none is."""
    timeouts = task_timeouts(settings().task_timeout)
    longest = max(timeouts[task_type] for task_type in graph_status.TASK_TYPES)
    for user_id in graph_status.stale_statuses(older_than=longest, most=MOST_OVERDUE):
        log.warning("graph has no open task, its status is derived", user_id=user_id)
        try:
            with user_transaction(user_id):
                graph_status.derive_status(user_id)
        except UserLocked:
            # Another session works on this user. A later sweep looks again.
            continue


def results_read_up_to(broker: SQSBroker) -> datetime | None:
    """The time before which no waiting result was sent; None if that is unknown.

    Its time is that of the oldest result that came lately, or is in flight: an older one that waited would have come as
    well. If none has come, the queue must be empty.
    """
    url = broker.options.queues[RESULT_QUEUE].url
    oldest = broker.in_flight.oldest_sent(url)
    if oldest is None and not visible_messages(broker.client, url):
        return datetime.now(UTC)
    return oldest


def overdue_result(
    task_id: str, task_type: str, user_id: str, news_at: datetime, *, timeout: timedelta
) -> Envelope[ResultPayload]:
    """The FAILED result that ends an overdue task, as the AI server would send it.

    Parameters:
      task_type: the type of a result.
      news_at: the time of the task's last news.
      timeout: the task type's time-out.
    """
    error = f"There was no result within {duration_text(timeout)}."
    return Envelope(
        task_id=task_id,
        task_type=task_type,
        timestamp=news_at + timeout,
        payload=failed_payload(task_type, user_id=user_id, error=error),
        attempt=0,
        no_news_since=news_at,
    )
