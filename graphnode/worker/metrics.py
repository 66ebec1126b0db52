"""Metrics for Prometheus, beside Dramatiq's own. `exporter.py` serves both.

The steps and events of `steps.py` are the source; here they get names and units. Labels have few values: never a user,
a task or a message.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq import Broker, MessageProxy, Worker
from dramatiq.middleware import prometheus
from dramatiq.middleware.prometheus import Prometheus

from graphnode.broker import SQSBroker
from graphnode.errors import GraphNodeError, SettingsError
from graphnode.sqs.deliveries import Delivery, State
from graphnode.sqs.letter_sender import LetterHooks
from graphnode.sqs.liveness import is_running
from graphnode.sqs.queues import visible_messages
from graphnode.sqs.verdicts import Abandon, Ack, DeadLetter, Discard, Nack, Park, Retry
from graphnode.steps import EVENTS, STEPS, Step, subscribe
from graphnode.storage import notifications
from graphnode.storage.notifications import OpenPushes
from graphnode.worker import exporter
from graphnode.worker.exporter import metrics_directory

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client import Counter as Counted

#: Seconds between two counts of the messages in flight.
SAMPLE_S = 2.0

#: The outcome of an attempt, by the class of its verdict.
OUTCOMES = {
    Ack: "done",
    Discard: "discarded",
    Retry: "retried",
    DeadLetter: "dead_letter",
    Park: "held",
    Nack: "given_back",
    Abandon: "lost",
    type(None): "undecided",
}

#: Buckets in seconds: for a step, from a commit to a big features file, and for a message's age.
STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60, 300)
AGE_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)

#: The counter of each event of `steps.py`: its name, without `_total`, and its description.
COUNTERS = {
    "received": ("graphnode_messages_received", "Messages that SQS delivered, repeats included."),
    "deferred": ("graphnode_messages_deferred", "Messages that went back because too many of their user waited."),
    "poll_failed": ("graphnode_poll_errors", "Polls that failed."),
    "extended": ("graphnode_visibility_extensions", "Visibilities that were extended."),
    "extension_failed": ("graphnode_visibility_extension_errors", "Visibilities that a failed call did not extend."),
    "lost": ("graphnode_visibility_losses", "Messages whose visibility ran out in flight: another worker has them."),
    "delete_failed": ("graphnode_delete_errors", "Handled messages that a try did not delete."),
    "retried": ("graphnode_retries", "Failed attempts that will be tried again, by the error's reason code."),
    "dead_letter": ("graphnode_dead_letters", "Messages put on a dead-letter queue, by the error's reason code."),
    "letter_refused": ("graphnode_dead_letter_errors", "Dead letters that SQS refused: their messages stay."),
    "outage_seconds": ("graphnode_outage_seconds", "Seconds for which the intake was closed, by the service away."),
    "push_settled": ("graphnode_pushes", "Attempts to push a notification, by the status it has then."),
}

#: The gauge of each event that begins and ends: its name and its description.
GAUGES = {
    "outage": ("graphnode_outage_active", "1 while a service is away and nothing is taken."),
    "polls_failing": ("graphnode_polls_failing", "1 while a queue's polls have failed for a minute or longer."),
}


log = structlog.get_logger("graphnode.metrics")


class Instruments:
    """This project's metrics.

    Parameters:
      registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        # Imported here: at its import prometheus_client decides whether it works for many processes.
        from prometheus_client import Counter, Gauge, Histogram

        self._counters: dict[str, Counted] = {
            event: Counter(name, says, EVENTS[event], registry=registry) for event, (name, says) in COUNTERS.items()
        }
        # They start at 0: of a series that begins with its first dead letter, Prometheus sees no increase.
        for reason in reasons(GraphNodeError):
            self._counters["dead_letter"].labels(reason)
        self._handled = Counter(
            "graphnode_messages_handled",
            "Attempts at messages, by actor and outcome.",
            ["actor", "outcome"],
            registry=registry,
        )
        self._handling = Histogram(
            "graphnode_handling_duration_seconds",
            "Seconds that an attempt took.",
            ["actor"],
            buckets=STEP_BUCKETS,
            registry=registry,
        )
        self._age = Histogram(
            "graphnode_message_age_seconds",
            "Seconds from a message's sending to the start of its first attempt.",
            ["queue"],
            buckets=AGE_BUCKETS,
            registry=registry,
        )
        steps = Histogram(
            "graphnode_step_duration_seconds",
            "Seconds that a step on a message's way took (steps.py).",
            ["step"],
            buckets=STEP_BUCKETS,
            registry=registry,
        )
        self._steps = {step: steps.labels(step) for step in STEPS}
        self._in_hand = Gauge(
            "graphnode_messages_in_hand",
            "Messages that are received and not settled.",
            ["queue", "state"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._troubles = {
            event: Gauge(name, says, EVENTS[event], multiprocess_mode="livemax", registry=registry)
            for event, (name, says) in GAUGES.items()
        }
        # These are the same for all processes: one process of a command measures them.
        self._waiting = Gauge(
            "graphnode_queue_messages",
            "Messages that are visible on an SQS queue, about.",
            ["queue"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._open_pushes = Gauge(
            "graphnode_open_notifications",
            "Notifications whose push is not over, by status.",
            ["status"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._oldest_push = Gauge(
            "graphnode_oldest_open_notification_age_seconds",
            "Seconds since the oldest of them was written, 0 without any.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )

    def around(self, step: Step) -> AbstractContextManager[object]:
        """Time a step."""
        return self._steps[step].time()

    def count(self, event: str, amount: float, labels: dict[str, str]) -> None:
        """Count an event."""
        if event in self._troubles:
            self._troubles[event].labels(**labels).set(amount)
            return
        counter = self._counters[event]
        (counter.labels(**labels) if labels else counter).inc(amount)

    def handled(self, delivery: Delivery) -> None:
        """Record an attempt that is over."""
        self._handled.labels(delivery.actor_name, OUTCOMES[type(delivery.verdict)]).inc()
        if not delivery.started:
            return
        seconds = time.monotonic() - delivery.started
        self._handling.labels(delivery.actor_name).observe(seconds)
        if delivery.receive_count == 1:
            age = (datetime.now(UTC) - delivery.sent_at).total_seconds() - seconds
            self._age.labels(delivery.queue_name).observe(max(0.0, age))

    def in_flight(self, deliveries: Iterable[Delivery], *, queues: Iterable[str]) -> None:
        """Set the number of messages in flight."""
        found = Counter((delivery.queue_name, delivery.state) for delivery in deliveries)
        for queue in queues:
            for state in State:
                self._in_hand.labels(queue, state.value).set(found[queue, state])

    def waiting(self, messages: Mapping[str, int]) -> None:
        """Set how many messages are visible, by queue."""
        for queue, count in messages.items():
            self._waiting.labels(queue).set(count)

    def open_pushes(self, found: OpenPushes) -> None:
        """Set the number of open notifications, by push status."""
        for status, count in found.by_status.items():
            self._open_pushes.labels(status).set(count)
        self._oldest_push.set(found.oldest_age_s)


class Metrics(LetterHooks, Prometheus):
    """Dramatiq's middleware for Prometheus, and this project's metrics. The outermost, so that it sees verdicts."""

    instruments: Instruments
    _directory: Path

    @property
    def forks(self) -> list[Callable[[], int]]:
        """The process that serves the metrics, for Dramatiq to fork."""
        return [exporter.serve]

    def after_process_boot(self, broker: Broker) -> None:
        """Make the metrics, in the worker process. It ends if their directory is not its user's alone."""
        try:
            self._directory = metrics_directory()
        except SettingsError as error:
            log.critical("the worker does not start", reason=error.reason, error=str(error))
            raise SystemExit(1) from None
        forget_ended_processes(self._directory)
        # Dramatiq takes a directory of this name as it finds it, in the temporary directory, which is everybody's.
        prometheus.DB_PATH = str(self._directory)
        super().after_process_boot(broker)  # type: ignore[no-untyped-call]
        from prometheus_client import CollectorRegistry

        self.instruments = Instruments(CollectorRegistry())
        subscribe(around=self.instruments.around, count=self.instruments.count)

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Begin to count the messages in flight."""
        threading.Thread(target=self._sample, args=(broker,), name="metrics", daemon=True).start()

    def _sample(self, broker: SQSBroker) -> None:
        while True:
            self.instruments.in_flight(broker.in_flight.snapshot(), queues=broker.queue_names)
            time.sleep(SAMPLE_S)

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Count the attempt."""
        assert isinstance(message, Delivery)  # noqa: S101
        super().after_process_message(broker, message, result=result, exception=exception)  # type: ignore[no-untyped-call]
        self.instruments.handled(message)

    after_skip_message = after_process_message

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Count nothing: each failed attempt comes here. Dramatiq's counter is of dead letters."""

    def after_dead_letter(self, message: Delivery, dead: DeadLetter) -> None:
        """Let Dramatiq count the dead letter."""
        super().after_nack(None, message)  # type: ignore[no-untyped-call]

    def measure(self, broker: SQSBroker) -> None:
        """Measure what is the same for all processes: the queues' lengths, and the open notifications."""
        # One process of a command does it.
        if not _holds_lock(str(self._directory / "first.lock")):
            return
        urls = {name: broker.options.queues[name].url for name in broker.queue_names}
        urls |= {f"{name}-dead-letters": broker.dead_letters(name).url for name in broker.queue_names}
        self.instruments.waiting({name: visible_messages(broker.client, url) for name, url in urls.items()})
        self.instruments.open_pushes(notifications.open_pushes())


def reasons(error: type[GraphNodeError]) -> set[str]:
    """The reason codes of an error's class and of those derived from it."""
    return {error.reason}.union(*map(reasons, error.__subclasses__()))


def forget_ended_processes(directory: Path) -> None:
    """Remove the gauges of processes that were killed, and of an earlier process with this one's number."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if pid == os.getpid() or not is_running(pid):
            file.unlink(missing_ok=True)


_locks: dict[str, int] = {}


def _holds_lock(path: str) -> bool:
    """Whether this process has the lock. It keeps the lock until it ends."""
    if path in _locks:
        return True
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _locks[path] = descriptor
        return True
    os.close(descriptor)
    return False
