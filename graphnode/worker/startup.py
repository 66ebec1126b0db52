"""Puts a worker process together: its broker, its middleware, and what must be true before it takes a message."""

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
from graphnode.clients.spool import spool_fault
from graphnode.errors import DatabaseFault, S3Fault, ServiceFault, SettingsError, classify_error
from graphnode.settings import read_log_settings, settings
from graphnode.sqs.circuit_breaker import PROBE_MAX_S, CircuitBreaker
from graphnode.storage import database, schema, stuck_sessions
from graphnode.storage.rehearsal import rehearse
from graphnode.telemetry import error_reports
from graphnode.telemetry.logs import configure_logs, watch_suppressed_lines
from graphnode.worker import runtime, sweeps, traces
from graphnode.worker.exporter import SWITCH
from graphnode.worker.health import HealthReports
from graphnode.worker.ledger import DatabaseLedger
from graphnode.worker.metrics import Metrics
from graphnode.worker.middleware import worker_middleware
from graphnode.worker.options import broker_options
from graphnode.worker.outbox import Pushes
from graphnode.worker.parent import ParentWatch
from graphnode.worker.registry import Registry
from graphnode.worker.sweeps import Sweep, Sweeps

log = structlog.get_logger("graphnode.startup")


def worker_broker(*, check: Callable[[], None]) -> SQSBroker:
    """The broker of a worker process. It reads and opens nothing before the worker boots.

    Parameters:
      check: raises DeclarationError when the declared routes and actors do not fit together.
    """
    metrics = [Metrics()] if os.environ.get(SWITCH) else []
    registry = Registry()
    own_sweeps = [
        Sweep("workers", registry.write_row, in_outages=True),
        Sweep("stuck sessions", end_stuck_sessions),
        *(Sweep("metrics", each.measure) for each in metrics),
    ]

    def prepare(broker: SQSBroker, worker: Worker) -> None:
        prepare_process(broker, worker, check)

    broker = SQSBroker(
        broker_options,
        breaker=CircuitBreaker(
            {
                DatabaseFault.service: lambda _fault: rehearse(lambda: registry.write_row(broker)),
                S3Fault.service: lambda fault: s3.probe(fault.key if isinstance(fault, S3Fault) else None),
            }
        ),
        middleware=[
            *metrics,
            *([traces.Traces()] if traces.are_wanted(os.environ) else []),
            HealthReports(),
            ParentWatch(),
            *worker_middleware(prepare=prepare, ledger=DatabaseLedger()),
            registry,
            Sweeps(sweeps.DECLARED, own_sweeps),
            Pushes(),
        ],
    )
    return broker


def prepare_process(broker: SQSBroker, worker: Worker, check: Callable[[], None]) -> None:
    """Prepare a worker process. Waits for services that are away.

    Raises DeclarationError, SettingsError or SchemaError for what an operator must mend.
    """
    runtime.shorten_pauses()
    runtime.return_freed_memory()
    configure_logs(read_log_settings(os.environ))
    check()
    known = settings()
    watch_suppressed_lines()
    error_reports.open_reports(known.sentry_dsn)
    fcm.firebase()
    check_spool()
    database.open_database(known.database_url)
    wait_for(check_schema)
    wait_for(schema.check_rights)
    # The main thread needs it no more.
    database.database.abandon()
    wait_for(s3.probe)
    wait_for(lambda: broker.connect(threads=worker.worker_threads))


def end_stuck_sessions(_broker: SQSBroker) -> None:
    """End the sessions of stopped processes, which keep their users' locks."""
    for session in stuck_sessions.end_stuck_sessions():
        log.warning("ended a stuck session of the database", pid=session.pid, age_s=session.age_s)


def check_spool() -> None:
    """Check that features can be spooled. Raises SettingsError."""
    known = settings()
    if fault := spool_fault(known.spool_dir, max_features_bytes=known.max_features_bytes):
        raise SettingsError(fault)


def check_schema() -> None:
    """Check that this worker can work with the database's schema. Raises SchemaError."""
    if newer := schema.check_schema():
        log.info("the database is newer than this worker, which can work with it", migrations=newer)


def wait_for(step: Callable[[], None]) -> None:
    """Run a step of the start. While its service is away or busy, log that once and try again.

    A SIGTERM meanwhile ends the process at once: it holds no message yet.
    """
    with ended_by_sigterm():
        failing = False
        while True:
            try:
                step()
            except Exception as raised:
                error = classify_error(raised)
                if not isinstance(error, ServiceFault) or error.is_refusal:
                    raise error from None
                if not failing:
                    log.warning("waiting to start", error=error.log_text)
                    failing = True
                time.sleep(PROBE_MAX_S)
            else:
                return


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """End the process at a SIGTERM during the block. Only in a main thread."""
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
