"""The registry of worker processes: a row in the database for each, for `graphnode status`."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import structlog
from dramatiq import Broker, MessageProxy, Worker
from ulid import ULID

from graphnode import __version__
from graphnode.broker import SQSBroker
from graphnode.errors import log_text
from graphnode.settings import settings
from graphnode.sqs.circuit_breaker import Ongoing
from graphnode.sqs.deliveries import Delivery, State
from graphnode.sqs.letter_sender import LetterHooks
from graphnode.sqs.poll_failures import failing_polls
from graphnode.sqs.verdicts import Ack, DeadLetter, Retry
from graphnode.storage import workers
from graphnode.storage.schema import newest_migration
from graphnode.storage.workers import RunningActor, WorkerRecord

# Alerts and filters of operators know this name.
log = structlog.get_logger("graphnode.presence")


class Registry(LetterHooks):
    """Counts messages by their verdicts, and keeps this process's row. A sweep writes the row; a clean stop removes it.

    A dead letter counts once SQS has taken it.
    """

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._writing = threading.Lock()
        self._counts: Counter[type] = Counter()
        self._is_over = False
        self._id, self._threads, self._started_at = "", 0, datetime.now(UTC)
        self._newest_migration = ""

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Begin. This runs in the worker process, after Dramatiq has forked."""
        self._id, self._threads, self._started_at = str(ULID()), worker.worker_threads, datetime.now(UTC)
        self._newest_migration = newest_migration()

    def after_ack(self, broker: Broker, message: MessageProxy) -> None:
        """Count a message by its verdict."""
        if isinstance(message, Delivery) and not isinstance(message.verdict, DeadLetter):
            with self._counting:
                self._counts[type(message.verdict)] += 1

    after_nack = after_ack

    def after_dead_letter(self, message: Delivery, dead: DeadLetter) -> None:
        """Count a dead letter."""
        with self._counting:
            self._counts[DeadLetter] += 1

    def write_row(self, broker: SQSBroker) -> None:
        """Write the row. Raises what peewee raises."""
        # A stop waits for a write in progress: it would bring back the row that the stop has removed.
        with self._writing:
            if not self._is_over:
                workers.save_process(self._process(broker))

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Remove the row. If that fails, the row is forgotten after an hour."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        with self._writing:
            self._is_over = True
        if not broker.breaker.is_closed:
            return
        try:
            workers.remove_process(self._id)
        except Exception as error:
            log.info("not removed from the workers", error=log_text(error))

    def _process(self, broker: SQSBroker) -> WorkerRecord:
        deliveries = broker.in_flight.snapshot()
        running = [delivery for delivery in deliveries if delivery.state is State.RUNNING]
        now, monotonic = datetime.now(UTC), time.monotonic()
        outage = broker.breaker.ongoing or outage_of_polls()
        return WorkerRecord(
            id=self._id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            newest_migration=self._newest_migration,
            threads=self._threads,
            interval_s=settings().sweep_interval,
            started_at=self._started_at,
            in_hand=len(deliveries),
            running=len(running),
            runs=[
                RunningActor(delivery.actor_name, now - timedelta(seconds=monotonic - delivery.started))
                for delivery in running
            ],
            outage_service=outage.service if outage else None,
            outage_since=outage.since if outage else None,
            outage_error=outage.error if outage else None,
            outage_advice=outage.advice if outage else None,
            handled=self._counts[Ack],
            retried=self._counts[Retry],
            dead=self._counts[DeadLetter],
        )


def outage_of_polls() -> Ongoing | None:
    """The queues whose polls fail, as one outage of SQS; None if all can be polled."""
    if not (failing := failing_polls()):
        return None
    queues: dict[str, list[str]] = {}
    for polls in failing:
        queues.setdefault(polls.error, []).append(polls.queue_name)
    errors = [f"polls of {' and '.join(names)} fail: {error}" for error, names in queues.items()]
    advice = dict.fromkeys(polls.advice for polls in failing)
    return Ongoing("SQS", failing[0].since, "; ".join(errors), " ".join(advice))
