"""Putting the worker together: its broker, its middleware, and what must be true before it takes a message."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import structlog
from dramatiq import Worker

from graphnode.broker import SQSBroker
from graphnode.clients import fcm, s3
from graphnode.contract import envelopes
from graphnode.contract.envelopes import NOTIFICATION_QUEUE, RESULT_QUEUE
from graphnode.contract.task_ids import parse_task_id
from graphnode.contract.timeouts import task_timeouts
from graphnode.errors import AwsOutage, DatabaseOutage, GraphNodeError, OutageError, ServiceBusy, sorted_error
from graphnode.settings import read_log_settings, settings
from graphnode.sqs.deliveries import Delivery
from graphnode.sqs.outages import PROBE_MAX_S, Outages
from graphnode.sqs.queues import Options, Queue
from graphnode.sqs.verdicts import Dead, RetryPolicy
from graphnode.storage import database, failures, notifications, schema, tasks
from graphnode.storage.failures import Subject
from graphnode.telemetry import error_reports
from graphnode.telemetry.logs import configure_logs, watch_for_storms
from graphnode.telemetry.stacks import stack_of
from graphnode.worker import runtime, traces
from graphnode.worker.health import HealthReports
from graphnode.worker.metrics import SWITCH, Metrics
from graphnode.worker.middleware import Ledger, worker_middleware
from graphnode.worker.registry import Presence
from graphnode.worker.sweeps import Sweep, Sweeps

if TYPE_CHECKING:
    from mypy_boto3_sqs.literals import QueueAttributeNameType

#: The most notifications that a sweep puts on their queue at a time: about what a process pushes until the next one.
MOST_SWEPT = 500

#: The most overdue tasks that a sweep ends, each in a transaction of its own.
MOST_OVERDUE = 100

log = structlog.get_logger("graphnode.startup")


def worker_broker(*, check: Callable[[], None]) -> SQSBroker:
    """The broker of a worker process. Nothing is read or opened before the worker boots.

    Parameters:
      check: raises DeclarationError when what the code declares does not fit together.
    """
    presence = Presence(interval_s=lambda: settings().sweep_interval)
    metrics = [Metrics()] if os.environ.get(SWITCH) else []
    broker = SQSBroker(
        broker_options,
        outages=Outages({DatabaseOutage.service: database.probe, AwsOutage.service: lambda: probe_aws(broker)}),
        middleware=[
            *metrics,
            *([traces.Traces()] if traces.are_wanted(os.environ) else []),
            HealthReports(),
            *worker_middleware(
                prepare=lambda worker: prepare(broker, worker, check),
                policy=retry_policy,
                ledger=Ledger(count=count_failure, clear=clear_failures, give_up=give_up),
                shutdown_timeout_s=lambda: settings().shutdown_timeout,
                document_memory=lambda: settings().document_memory,
            ),
            presence,
            Sweeps(
                [
                    Sweep("pushes", lambda: sweep_pushes(broker)),
                    Sweep("overdue tasks", lambda: sweep_overdue(broker)),
                    Sweep("workers", lambda: presence.note(broker), in_outages=True),
                    *([Sweep("metrics", lambda: sweep_metrics(broker, metrics[0]))] if metrics else []),
                ],
                interval_s=lambda: settings().sweep_interval,
            ),
        ],
    )
    return broker


def broker_options() -> Options:
    """The broker's options, from the settings."""
    known = settings()
    return Options(
        queues={
            RESULT_QUEUE: Queue(url=known.sqs_result_queue_url, decode=envelopes.to_message, describe=envelopes.peek),
            # Pushes wait for FCM, results do not wait for pushes.
            NOTIFICATION_QUEUE: Queue(url=known.sqs_notification_queue_url, thread_share=0.5),
        },
        region=known.aws_region,
        endpoint_url=known.aws_endpoint_url,
        visibility_s=known.visibility_timeout,
        poll_wait_s=known.poll_wait,
        poll_grace_s=known.poll_grace,
        max_attempts=known.max_attempts,
        message_attributes=traces.CARRIER if traces.are_wanted(os.environ) else (),
    )


def retry_policy() -> RetryPolicy:
    """The retry policy, from the settings."""
    known = settings()
    return RetryPolicy(
        max_attempts=known.max_attempts,
        backoff_min_s=known.backoff_min,
        backoff_max_s=known.backoff_max,
    )


def count_failure(delivery: Delivery, error: GraphNodeError) -> int:
    """Note a message's failure in the database; how often it has failed by now."""
    return failures.record_failure(
        delivery.message_id,
        reason=error.reason,
        error=str(error),
        stack=stack_of(error),
        subject=subject_of(delivery),
    )


def clear_failures(delivery: Delivery) -> None:
    """Forget a message's failures: it is done with."""
    failures.clear_failures(delivery.message_id)


def give_up(delivery: Delivery, dead: Dead, error: GraphNodeError) -> None:
    """Note in the database that a message becomes a dead letter."""
    failures.give_up(
        delivery.message_id,
        attempt=dead.attempt,
        reason=dead.reason,
        error=dead.error,
        stack=stack_of(error),
        subject=subject_of(delivery),
    )


def subject_of(delivery: Delivery) -> Subject | None:
    """The task that a message is about; None for the worker's own messages."""
    fields = delivery.options.get("log_fields", {})
    if "task_id" not in fields:
        return None
    user_id = fields.get("user_id") or parse_task_id(fields["task_id"]).user_id
    return Subject(fields["task_id"], fields["task_type"], user_id)


def sweep_pushes(broker: SQSBroker) -> None:
    """Put the notifications that are due on their queue: what a crash left, and pushes to try again."""
    if fcm.firebase().pause.left_s():
        return
    deliver = broker.get_actor("deliver_notification")
    for notification_id in notifications.take_due(limit=MOST_SWEPT):
        deliver.send(notification_id=notification_id)


def sweep_overdue(broker: SQSBroker) -> None:
    """End the tasks of which there was no news for too long, as their actors end those that have failed."""
    timeouts = task_timeouts(settings().task_timeout)
    for ended in range(MOST_OVERDUE):
        task = tasks.take_overdue(timeouts)
        if task is None or (ended == 0 and results_wait(broker)):
            return
        envelope = envelopes.overdue(*task, timeout=timeouts[task.task_type])
        log.warning("task is overdue", task_id=task.task_id, task_type=task.task_type, user_id=task.user_id)
        broker.get_actor(envelopes.ROUTES[task.task_type].actor).fn(envelope)


def results_wait(broker: SQSBroker) -> bool:
    """Whether messages wait on the result queue: that of an overdue task may be among them."""
    return waiting_messages(broker, settings().sqs_result_queue_url) > 0


def waiting_messages(broker: SQSBroker, url: str) -> int:
    """How many messages are visible on a queue, about."""
    name: QueueAttributeNameType = "ApproximateNumberOfMessages"
    return int(broker.client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def sweep_metrics(broker: SQSBroker, metrics: Metrics) -> None:
    """Measure what is the same for all processes: the queues' lengths, and what is left to push."""
    if not metrics.is_first():
        return
    urls = {name: broker.options.queues[name].url for name in broker.queue_names}
    urls |= {f"{name}-dead-letters": broker.dead_letters(name).url for name in broker.queue_names}
    metrics.instruments.waiting({name: waiting_messages(broker, url) for name, url in urls.items()})
    metrics.instruments.open_pushes(notifications.open_pushes())


def prepare(broker: SQSBroker, worker: Worker, check: Callable[[], None]) -> None:
    """Get a worker process ready: wait for services that are away.

    Raises DeclarationError, SettingsError or SchemaError for what does not mend by itself.
    """
    runtime.keep_pauses_short()
    runtime.keep_no_freed_memory()
    configure_logs(read_log_settings(os.environ))
    check()
    known = settings()
    watch_for_storms()
    error_reports.open_reports(known.sentry_dsn)
    fcm.firebase()
    database.open_database(known.database_url, max_connections=worker.worker_threads + database.SPARE_CONNECTIONS)
    wait_for(check_schema)
    wait_for(schema.check_rights)
    wait_for(s3.probe)
    wait_for(lambda: broker.connect(threads=worker.worker_threads))


def check_schema() -> None:
    """See that this worker can work with the database's schema. Raises SchemaError."""
    if newer := schema.check_schema():
        log.info("the database is newer than this worker, which can work with it", migrations=newer)


def wait_for(step: Callable[[], None]) -> None:
    """Run a step of the start; while the service it needs is away or busy, say so once and try again until it is there.

    A SIGTERM meanwhile ends the process at once, for it holds nothing yet.
    """
    with ended_by_sigterm():
        failing = False
        while True:
            try:
                step()
            except Exception as raised:
                error = sorted_error(raised)
                if not isinstance(error, OutageError | ServiceBusy):
                    raise error from None
                if not failing:
                    log.warning("waiting to start", error=error.log_text)
                    failing = True
                time.sleep(PROBE_MAX_S)
            else:
                return


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end the process, instead of being noticed when the start is over. In a main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def probe_aws(broker: SQSBroker) -> None:
    """Ask S3 and SQS. Raises botocore's errors while one of them is away."""
    s3.probe()
    broker.client.get_queue_attributes(QueueUrl=settings().sqs_result_queue_url, AttributeNames=["QueueArn"])
