"""What happens around an actor, one idea a class. `worker_middleware` has their order."""

from __future__ import annotations

import math
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import structlog
from dramatiq import Broker, MessageProxy, Middleware, Worker
from dramatiq.common import iter_queue
from dramatiq.middleware import Shutdown, SkipMessage, TimeLimit
from dramatiq.threading import raise_thread_exception

from graphnode.broker import SQSBroker
from graphnode.clients.memory import Admission, Claim, current_claim
from graphnode.errors import (
    GraphNodeError,
    PermanentError,
    Postponed,
    TransientError,
    Unexpected,
    classify_error,
    log_text,
)
from graphnode.settings import settings
from graphnode.sqs.consumer import SQSConsumer
from graphnode.sqs.deliveries import Delivery, State
from graphnode.sqs.letter_sender import LetterHooks
from graphnode.sqs.verdicts import Ack, DeadLetter, Discard, Park, Retry
from graphnode.steps import count_event
from graphnode.storage.database import database
from graphnode.telemetry import error_reports
from graphnode.telemetry.logs import finish_logs
from graphnode.telemetry.stacks import unexpected_stack
from graphnode.worker.blame import is_excused
from graphnode.worker.rejected_tasks import Rejections

#: Milliseconds that an actor may run, unless it declares another `time_limit`.
DEFAULT_TIME_LIMIT_MS = 5 * 60 * 1000

#: The hard limit, as a multiple of the actor's `time_limit`.
HARD_LIMIT_FACTOR = 2.0

#: Milliseconds that an idle thread waits for a message. Dramatiq's own second would add up in a stop.
WORKER_TIMEOUT_MS = 250

#: The share of a process's threads that may work on big documents; one thread always. They compute more than they wait,
#: and Python computes in one thread at a time: a second one would gain little, and slow all small messages down.
BIG_DOCUMENTS_SHARE = 0.125

#: Seconds until a message starts again whose failure did not count: the least and the most.
AGAIN_S = (0.5, 1.0)

#: Messages whose letter a process remembers to have sent.
MOST_REMEMBERED = 10_000

log = structlog.get_logger("graphnode.worker")


class Ledger(Protocol):
    """Counts the failures of messages."""

    def count(self, delivery: Delivery, error: GraphNodeError) -> int:
        """Record a failure of a message; how often it has failed by now."""

    def clear(self, delivery: Delivery) -> None:
        """Forget the failures of a message that has succeeded."""

    def give_up(self, delivery: Delivery, dead: DeadLetter) -> None:
        """Record that SQS has taken a message's dead letter."""

    def is_given_up(self, delivery: Delivery) -> bool:
        """Whether SQS has taken a message's dead letter."""


class ReceiveCounts:
    """A ledger without a database: SQS's receive count stands for the number of failures."""

    def count(self, delivery: Delivery, error: GraphNodeError) -> int:
        """How often SQS has delivered the message."""
        return delivery.receive_count

    def clear(self, delivery: Delivery) -> None:
        """Nothing is stored."""

    def give_up(self, delivery: Delivery, dead: DeadLetter) -> None:
        """Nothing is stored."""

    def is_given_up(self, delivery: Delivery) -> bool:
        """Nothing is stored."""
        return False


class Preparation(Middleware):
    """Prepares a worker process, or ends it with one plain line.

    Parameters:
      prepare: called in the worker process. Raises a GraphNodeError when the worker must not start.
    """

    def __init__(self, prepare: Callable[[SQSBroker, Worker], None]) -> None:
        self.prepare = prepare

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Prepare."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        worker.worker_timeout = WORKER_TIMEOUT_MS
        try:
            self.prepare(broker, worker)
        except GraphNodeError as error:
            # It quotes settings at most, and none that is a secret.
            log.critical("the worker does not start", reason=error.reason, error=str(error))
            raise SystemExit(1) from None


class GracefulStop(Middleware):
    """Ends the intake at the first SIGTERM, and gives back at once what no thread has started."""

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Begin the stop at the signal itself: Dramatiq checks only once a second."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            previous = signal.getsignal(number)
            if callable(previous):
                signal.signal(number, self._handler(broker, worker, previous))

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Begin the stop, if no signal has."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        broker.stop.request()
        self._wind_down(worker)

    def _handler(self, broker: SQSBroker, worker: Worker, previous: Any) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            if not broker.stop.requested:
                broker.stop.request()
                threading.Thread(target=self._wind_down, args=(worker,), daemon=True).start()
            previous(number, frame)

        return handle

    @staticmethod
    def _wind_down(worker: Worker) -> None:
        """Let each thread end after its running message, and give back the messages that wait."""
        for thread in worker.workers:
            thread.stop()
        for consumer_thread in worker.consumers.values():
            consumer_thread.stop()
        for item in iter_queue(worker.work_queue):
            worker.consumers[item.message.queue_name].requeue_messages([item.message])
        for consumer_thread in worker.consumers.values():
            if isinstance(consumer_thread.consumer, SQSConsumer):
                consumer_thread.consumer.release_unstarted()


class ShutdownDeadline(Middleware):
    """Interrupts the actors that still run after a stop's time-out. Their messages go back at once.

    Parameters:
      grace_s: seconds that an actor has to hear the interruption. After that its message goes back without it.
    """

    def __init__(self, *, grace_s: float = 5.0) -> None:
        self.grace_s = grace_s

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Set the deadline."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        self._after(broker.options.shutdown_timeout_s, self._interrupt, broker, worker)

    def _interrupt(self, broker: SQSBroker, worker: Worker) -> None:
        for delivery in broker.in_flight.snapshot():
            if delivery.state is State.RUNNING and delivery.thread_id is not None:
                log.warning("interrupted: the stop cannot wait longer", message_id=delivery.sqs_id)
                raise_thread_exception(delivery.thread_id, Shutdown)
        self._after(self.grace_s, self._give_up, broker, worker)

    @staticmethod
    def _give_up(broker: SQSBroker, worker: Worker) -> None:
        """Give back what does not hear the interruption: a thread in a system call. If it ends, its deletion counts."""
        for delivery in broker.in_flight.snapshot():
            if delivery.state is State.RUNNING:
                log.error("does not hear the interruption: the message goes back", message_id=delivery.sqs_id)
                delivery.lost = True
                worker.consumers[delivery.queue_name].requeue_messages([delivery])

    @staticmethod
    def _after(seconds: float, call: Callable[..., None], *args: Any) -> None:
        timer = threading.Timer(seconds, call, args)
        timer.daemon = True
        timer.start()


class FinalReports(Middleware):
    """Sends what is still unsent when the worker has stopped: error reports and log lines."""

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Send it, and wait for Sentry only briefly."""
        error_reports.close_reports()
        finish_logs()


class LogContext(Middleware):
    """Gives each log line of a message its fields: task, user, actor, attempt."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Bind the fields to this thread."""
        assert isinstance(message, Delivery)  # noqa: S101
        structlog.contextvars.bind_contextvars(**message.log_fields)

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Unbind them."""
        structlog.contextvars.clear_contextvars()

    after_skip_message = after_process_message


class SharedConnections(Middleware):
    """Gives the thread's connection back after each message, so that others can have it if PostgreSQL has too few."""

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Give it back, after whatever else uses the database."""
        database.give_back()


class SentLetters(LetterHooks):
    """Has no second letter sent of a message: its actor does not run again, the message is only deleted.

    A message comes again after its letter if SQS has not deleted it. This process remembers its letters; the ledger
    knows those of all processes. A redriven letter is a new message.

    Parameters:
      ledger: records the letters.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._remembering = threading.Lock()
        self._sent: dict[str, None] = {}

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Skip a message whose letter was sent."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        assert isinstance(message, Delivery)  # noqa: S101
        if self._is_sent(message):
            message.verdict = Discard(broker.options.retry.backoff_of_refused(message.receive_count))
            broker.breaker.end_trial()
            log.info("only deleted: its dead letter was sent at an earlier delivery", message_id=message.sqs_id)
            raise SkipMessage

    def before_dead_letter(self, message: Delivery) -> None:
        """As above, for a message that cannot be decoded, or whose letter another process has sent meanwhile."""
        if self._is_sent(message):
            raise SkipMessage

    def after_dead_letter(self, message: Delivery, dead: DeadLetter) -> None:
        """Remember the letter, and record it. If that fails, it was sent all the same."""
        with self._remembering:
            self._sent[message.sqs_id] = None
            if len(self._sent) > MOST_REMEMBERED:
                del self._sent[next(iter(self._sent))]
        try:
            self.ledger.give_up(message, dead)
        except Exception as raised:
            log.debug("dead letter not recorded", message_id=message.sqs_id, error=log_text(raised))

    def _is_sent(self, message: Delivery) -> bool:
        """Whether a letter was sent. If the ledger cannot say it, the message may have two."""
        if message.sqs_id in self._sent:
            return True
        try:
            return message.receive_count > 1 and self.ledger.is_given_up(message)
        except Exception as raised:
            log.debug("unknown whether a dead letter was sent", message_id=message.sqs_id, error=log_text(raised))
            return False


class AdmissionControl(Middleware):
    """Gives each message its claim on memory for big documents, and takes it back when the message leaves its thread.

    A message that waits for memory keeps its claim, and with it its place in the order.

    Parameters:
      memory_bytes: the bytes that all big documents of this process may take. None: as the settings say.
    """

    def __init__(self, memory_bytes: int | None = None) -> None:
        self.memory_bytes = memory_bytes
        self._claims: dict[Delivery, Claim] = {}
        self._admission: Admission

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Open the admission."""
        memory = settings().document_memory if self.memory_bytes is None else self.memory_bytes
        self._admission = Admission(memory_bytes=memory, most=max(1, int(worker.worker_threads * BIG_DOCUMENTS_SHARE)))

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Set the message's claim for this thread."""
        assert isinstance(message, Delivery)  # noqa: S101
        current_claim.set(self._claims.setdefault(message, Claim(self._admission)))

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """End the claim, unless the message waits for memory. Start the messages again whose turn has come."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        assert isinstance(message, Delivery)  # noqa: S101
        current_claim.set(None)
        if message.verdict != Park(math.inf):
            self._end(message)
        # Others start, end and go back meanwhile: the claims may change at any line.
        for delivery in list(self._claims):
            if delivery not in broker.in_flight:
                self._end(delivery)
        called = self._admission.call()
        for delivery, claim in list(self._claims.items()):
            if claim in called:
                broker.in_flight.resume(delivery)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """End the claim."""
        self.after_process_message(broker, message)

    def _end(self, message: Delivery) -> None:
        if claim := self._claims.pop(message, None):
            self._admission.end(claim)


class Verdicts(Middleware):
    """Gives each message its verdict and logs it. Only here does an error become a consequence.

    SQS counts deliveries, not failures: a message that a stop or an outage gave back was delivered once more, and did
    not fail. So a ledger counts failures, by SQS's message ID, when they happen. A failure that may be everybody's
    counts only when the circuit breaker has found that it is not.

    Parameters:
      ledger: counts failures.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Decide by the exception's class."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        assert isinstance(message, Delivery)  # noqa: S101
        rejection = message.options.get("rejection")
        if rejection and (exception is None or isinstance(exception, PermanentError)):
            # Its actor has ended the task. The message is a dead letter for what is wrong with its body.
            exception = rejection
        if exception is None:
            message.verdict = Ack()
            broker.breaker.succeed(since=message.started)
            log.info("done", seconds=round(time.monotonic() - message.received, 3))
            if message.receive_count > 1:
                self._close(message)
            return
        message.fail()
        error = classify_error(exception)
        counted = self._count(broker, message, error)
        attempt = counted or message.receive_count
        message.met_outage = counted is None
        policy = broker.options.retry
        if counted:
            message.verdict = policy.decide(error, attempt=attempt, parks=message.parks)
        else:
            # Meanwhile others may fail alike, or succeed.
            message.verdict = Park(random.uniform(*AGAIN_S) if broker.breaker.is_closed else 0.0)  # noqa: S311
        fields = {"reason": error.reason, "error": error.log_text}
        match message.verdict:
            case Retry(after_s):
                count_event("retried", reason=error.reason)
                log.warning("failed, will be tried again", after_s=after_s, **fields, **unexpected_stack(error))
                if isinstance(error, Unexpected):
                    self._report(message, error, attempt)
            case DeadLetter():
                # It is told once SQS has taken the letter.
                pass
            case _ if isinstance(error, Postponed):
                log.debug("waits for its turn", **fields)
            case _:
                log.info("will be started again", **fields)

    def _count(self, broker: SQSBroker, message: Delivery, error: GraphNodeError) -> int | None:
        """Count a failure: how often the message has failed by now; None if this failure does not count."""
        if not isinstance(error, TransientError):
            broker.breaker.end_trial()
            return message.receive_count
        if is_excused(broker.breaker, message, error):
            return None
        try:
            return self.ledger.count(message, error)
        except Exception as raised:
            # The failure cannot be counted. If that is nobody's outage, the receive count stands for it.
            uncounted = classify_error(raised)
            if isinstance(uncounted, TransientError) and is_excused(broker.breaker, message, uncounted):
                return None
            return message.receive_count

    @staticmethod
    def _report(message: Delivery, error: GraphNodeError, attempt: int) -> None:
        task = message.options.get("log_fields", {})
        error_reports.report_failure(error, actor=message.actor_name, attempt=attempt, task=task)

    def _close(self, message: Delivery) -> None:
        """Close the message's account in the ledger. If that fails, a row stays that nobody reads."""
        try:
            self.ledger.clear(message)
        except Exception as raised:
            log.debug("failures not closed", message_id=message.sqs_id, error=log_text(raised))


class HardLimit(Middleware):
    """Abandons a message whose actor ignores its time limit, so that another worker receives it.

    The time limit interrupts Python code only: a thread in a system call does not notice. Its stack is logged.

    Parameters:
      interval_s: seconds between two checks.
    """

    def __init__(self, *, interval_s: float = 1.0) -> None:
        self.interval_s = interval_s

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Note which thread works on the message, and for how long it may."""
        assert isinstance(message, Delivery)  # noqa: S101
        options = broker.get_actor(message.actor_name).options
        message.time_limit_s = options.get("time_limit", DEFAULT_TIME_LIMIT_MS) / 1000
        message.thread_id = threading.get_ident()

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start to watch."""
        threading.Thread(target=self._watch, args=(broker,), name="hard-limit", daemon=True).start()

    def _watch(self, broker: SQSBroker) -> None:
        while True:
            time.sleep(self.interval_s)
            self.check(broker)

    def check(self, broker: SQSBroker) -> None:
        """Abandon the messages that run over their hard limit."""
        now = time.monotonic()
        for delivery in broker.in_flight.snapshot():
            is_running = delivery.state is State.RUNNING and delivery.thread_id is not None and not delivery.lost
            if is_running and now - delivery.started > HARD_LIMIT_FACTOR * delivery.time_limit_s:
                self._abandon(broker, delivery)

    @staticmethod
    def _abandon(broker: SQSBroker, delivery: Delivery) -> None:
        """Extend the message no longer, and let its lane go on. If its actor returns, its deletion still counts."""
        broker.in_flight.free_lane(delivery)
        frame = sys._current_frames().get(delivery.thread_id or 0)
        log.error(
            "actor ignores its time limit: the message is left to another worker",
            actor=delivery.actor_name,
            message_id=delivery.sqs_id,
            stack="".join(traceback.format_stack(frame)),
        )


def worker_middleware(
    *, prepare: Callable[[SQSBroker, Worker], None], ledger: Ledger, document_memory: int | None = None
) -> list[Middleware]:
    """The worker's middleware, outermost first: the last one is nearest to the actor.

    Parameters:
      prepare: what Preparation calls.
      ledger: counts failures.
      document_memory: bytes for big documents. None: as the settings say.
    """
    return [
        Preparation(prepare),
        GracefulStop(),
        FinalReports(),
        SharedConnections(),
        LogContext(),
        SentLetters(ledger),
        AdmissionControl(document_memory),
        Rejections(),
        Verdicts(ledger),
        ShutdownDeadline(),
        HardLimit(),
        TimeLimit(time_limit=DEFAULT_TIME_LIMIT_MS),
    ]
