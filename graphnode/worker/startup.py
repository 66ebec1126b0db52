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

import structlog
from dramatiq import Worker

from graphnode.broker import SQSBroker
from graphnode.clients import fcm, s3
from graphnode.contract import envelopes
from graphnode.contract.envelopes import NOTIFICATION_QUEUE, RESULT_QUEUE
from graphnode.errors import AwsOutage, DatabaseOutage, OutageError, ServiceBusy, sorted_error
from graphnode.settings import read_log_settings, settings
from graphnode.sqs.outages import PROBE_MAX_S, Outages
from graphnode.sqs.queues import Options, Queue
from graphnode.sqs.verdicts import RetryPolicy
from graphnode.storage import database, notifications, schema
from graphnode.telemetry import error_reports
from graphnode.telemetry.logs import configure_logs, watch_for_storms
from graphnode.worker import runtime, traces
from graphnode.worker.health import HealthReports
from graphnode.worker.ledger import DatabaseLedger
from graphnode.worker.metrics import SWITCH, Metrics
from graphnode.worker.middleware import worker_middleware
from graphnode.worker.overdue import sweep_overdue, waiting_messages
from graphnode.worker.registry import Presence
from graphnode.worker.sweeps import Sweep, Sweeps

#: The most notifications that a sweep puts on their queue at a time: about what a process pushes until the next one.
MOST_SWEPT = 500


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
                ledger=DatabaseLedger(),
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


def sweep_pushes(broker: SQSBroker) -> None:
    """Put the notifications that are due on their queue: what a crash left, and pushes to try again."""
    if fcm.firebase().pause.left_s():
        return
    deliver = broker.get_actor("deliver_notification")
    for notification_id in notifications.take_due(limit=MOST_SWEPT):
        deliver.send(notification_id=notification_id)


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
