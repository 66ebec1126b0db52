"""What happens around an actor, one idea a class. The order in which they stand is in `worker_middleware`."""

from __future__ import annotations

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
from graphnode.clients.memory import Admission, Claim, _current
from graphnode.errors import (
    GraphNodeError,
    Interrupted,
    OutageError,
    Postponed,
    TransientError,
    Unexpected,
    log_text,
    sorted_error,
)
from graphnode.sqs.deliveries import Delivery, State
from graphnode.sqs.verdicts import Dead, Done, Forget, Hold, Release, Retry, RetryPolicy
from graphnode.steps import note
from graphnode.telemetry import error_reports
from graphnode.telemetry.logs import tell_left_out
from graphnode.telemetry.stacks import stack_of

#: Milliseconds that an actor may run for, unless it says otherwise (`time_limit`).
DEFAULT_TIME_LIMIT_MS = 5 * 60 * 1000

#: Milliseconds after which idle threads look up: Dramatiq's own second would add up in a stop.
WORKER_TIMEOUT_MS = 250


log = structlog.get_logger("graphnode.worker")


class Ledger(Protocol):
    """Counts the failures of messages."""

    def count(self, delivery: Delivery, error: GraphNodeError) -> int:
        """Record a failure of a message; how often it has failed by now."""
        ...

    def clear(self, delivery: Delivery) -> None:
        """Forget the failures of a message that has succeeded."""
        ...

    def give_up(self, delivery: Delivery, dead: Dead, error: GraphNodeError) -> None:
        """Record that a message becomes a dead letter, and forget its failures."""
        ...


class ReceiveCounts:
    """A ledger without a database: SQS's receive count stands for the number of failures."""

    def count(self, delivery: Delivery, error: GraphNodeError) -> int:
        """How often SQS has delivered the message."""
        return delivery.receive_count

    def clear(self, delivery: Delivery) -> None:
        """Nothing is stored."""

    def give_up(self, delivery: Delivery, dead: Dead, error: GraphNodeError) -> None:
        """Nothing is stored."""


class Intake(Middleware):
    """Opens the broker when the worker starts, and closes its intake at the first SIGTERM.

    Parameters:
      prepare: called first, in the worker process: raises a GraphNodeError when the worker must not start.
    """

    def __init__(self, prepare: Callable[[Worker], None]) -> None:
        self.prepare = prepare

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start, or end the process with one plain line."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        worker.worker_timeout = WORKER_TIMEOUT_MS
        try:
            self.prepare(worker)
        except GraphNodeError as error:
            # The settings' own values, of which none is a secret, are all that it quotes.
            log.critical("the worker does not start", reason=error.reason, error=str(error))
            raise SystemExit(1) from None
        if threading.current_thread() is threading.main_thread():
            self._hear_signals(broker, worker)

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Begin the stop, if no signal has begun it."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        broker.stop_intake()
        self._wind_down(broker, worker)

    @classmethod
    def _hear_signals(cls, broker: SQSBroker, worker: Worker) -> None:
        """Begin the stop at the signal itself: Dramatiq looks up only once a second."""

        def hear(number: int, previous: Any) -> None:
            def handler(signum: int, frame: FrameType | None) -> None:
                if not broker.stopping:
                    broker.stop_intake()
                    threading.Thread(target=cls._wind_down, args=(broker, worker), daemon=True).start()
                previous(signum, frame)

            signal.signal(number, handler)

        for number in (signal.SIGTERM, signal.SIGHUP):
            previous = signal.getsignal(number)
            if callable(previous):
                hear(number, previous)

    @staticmethod
    def _wind_down(broker: SQSBroker, worker: Worker) -> None:
        """Let the threads end after what they run, and give back at once all that none has started."""
        for thread in worker.workers:
            thread.stop()
        for consumer_thread in worker.consumers.values():
            consumer_thread.stop()
        for item in iter_queue(worker.work_queue):
            worker.consumers[item.message.queue_name].requeue_messages([item.message])
        for consumer in list(broker.consumers):
            consumer.release_unstarted()


class LogContext(Middleware):
    """Gives every log line of a message its fields: task, user, attempt."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Bind the fields to this thread."""
        assert isinstance(message, Delivery)  # noqa: S101
        fields = message.options.get("log_fields")
        if fields is None:
            # Of the worker's own messages: whoever forges one may put anything there.
            fields = {name: value for name, value in message.kwargs.items() if name.endswith("_id")}
        structlog.contextvars.bind_contextvars(**fields, actor=message.actor_name, attempt=message.receive_count)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Unbind them."""
        structlog.contextvars.clear_contextvars()

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Unbind them."""
        structlog.contextvars.clear_contextvars()


class StartOnlyOurs(Middleware):
    """Starts no message whose visibility is lost, and none while a service is away."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Skip the message, or mark it as running."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        assert isinstance(message, Delivery)  # noqa: S101
        if not message.is_ours(time.monotonic()):
            log.warning("not started: its visibility ran out, SQS delivers it again")
            message.verdict = Forget()
            raise SkipMessage("visibility lost")
        if broker.stopping:
            message.verdict = Release()
            raise SkipMessage("stopping")
        if broker.outages.closed:
            # Back to the queue for another machine, once. After that it is kept: going round would use up its receives.
            message.verdict = Release() if message.receive_count == 1 else Hold()
            raise SkipMessage("outage")
        message.thread_id, message.started = threading.get_ident(), time.monotonic()
        broker.in_hand.move(message, State.RUNNING)


class Verdicts(Middleware):
    """Gives every message its verdict, and logs it: the one place where an error becomes a consequence.

    SQS counts deliveries, not failures: a message that a stop or an outage gave back has been delivered once more, and
    has not failed. So failures are counted in a ledger of our own, by SQS's message ID, when they happen.

    Parameters:
      policy: gives the retry policy.
      ledger: counts failures.
    """

    def __init__(self, policy: Callable[[], RetryPolicy], ledger: Ledger) -> None:
        self.policy = policy
        self.ledger = ledger

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Decide by the exception's class."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        assert isinstance(message, Delivery)  # noqa: S101
        if exception is None:
            message.verdict = Done()
            log.info("done", seconds=round(time.monotonic() - message.received, 3))
            if message.receive_count > 1:
                self._close(message, self.ledger.clear)
            return
        message.fail()
        error = sorted_error(exception)
        attempt = message.receive_count
        if isinstance(error, TransientError) and not isinstance(error, Interrupted):
            try:
                attempt = self.ledger.count(message, error)
            except Exception as raised:
                # What failed cannot be counted. If the ledger is away, that is an outage; if not, the receives must do.
                ledger_error = sorted_error(raised)
                error = ledger_error if isinstance(ledger_error, OutageError) else error
        policy = self.policy()
        message.verdict = policy.decide(error, attempt=attempt)
        if isinstance(error, OutageError):
            if message.was_held:
                # The service answered, and this message lost it again: it may be the cause. It makes room for others.
                message.verdict = Retry(policy.backoff(attempt))
            else:
                broker.outages.begin(error, since=message.started)
                message.was_held = True
        elif isinstance(error, Postponed) and message.receive_count == 1:
            # To another machine, which may have room now; a second time it waits here, or it would use up its receives.
            message.verdict = Release()
        fields = {"reason": error.reason, "error": error.log_text}
        match message.verdict:
            case Retry(after_s):
                note("retried", reason=error.reason)
                log.warning("failed, will be tried again", after_s=after_s, **fields, **_stack(error))
                if isinstance(error, Unexpected):
                    self._report(message, error, attempt)
            case Dead() as dead:
                log.error("dead letter", **fields, **_stack(error))
                self._report(message, error, attempt)
                self._close(message, lambda message: self.ledger.give_up(message, dead, error))
            case _:
                log.info("will be started again", **fields)

    @staticmethod
    def _report(message: Delivery, error: GraphNodeError, attempt: int) -> None:
        task = message.options.get("log_fields", {})
        error_reports.report_failure(error, actor=message.actor_name, attempt=attempt, task=task)

    @staticmethod
    def _close(message: Delivery, note: Callable[[Delivery], None]) -> None:
        """Close the message's account. It may fail: what stays is a row that nobody reads, what lacks is its end."""
        try:
            note(message)
        except Exception as error:
            log.debug("failures not closed", message_id=message.message_id, error=log_text(error))


def _stack(error: GraphNodeError) -> dict[str, str | None]:
    """The stack of an error that nobody foresaw; the others' texts say all there is to know."""
    if not isinstance(error, Unexpected) or error.__cause__ is None:
        return {}
    return {"stack": stack_of(error.__cause__)}


class HardLimit(Middleware):
    """Lets go of a message whose actor ignores the interruption of its time limit, so that another worker gets it.

    The interruption reaches Python code only: a thread that is stuck in a system call does not see it. Its stack is
    logged.

    Parameters:
      factor: the hard limit, as a multiple of the actor's `time_limit`.
      interval_s: seconds between two looks.
    """

    def __init__(self, *, factor: float = 2.0, interval_s: float = 1.0) -> None:
        self.factor = factor
        self.interval_s = interval_s

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start to watch."""
        threading.Thread(target=self._watch, args=(broker,), name="hard-limit", daemon=True).start()

    def _watch(self, broker: SQSBroker) -> None:
        while True:
            time.sleep(self.interval_s)
            self.look(broker)

    def look(self, broker: SQSBroker) -> None:
        """Let go of what runs over its hard limit."""
        for delivery in broker.in_hand.snapshot():
            if delivery.state is State.RUNNING and not delivery.lost:
                options = broker.get_actor(delivery.actor_name).options
                limit_ms = options.get("time_limit", DEFAULT_TIME_LIMIT_MS)
                if time.monotonic() - delivery.started > self.factor * limit_ms / 1000:
                    self._let_go(delivery)

    @staticmethod
    def _let_go(delivery: Delivery) -> None:
        """Extend the message no longer; should its actor end after all, its verdict still counts."""
        delivery.lost = True
        frame = sys._current_frames().get(delivery.thread_id or 0)
        log.error(
            "actor ignores its time limit: the message is left to another worker",
            actor=delivery.actor_name,
            message_id=delivery.message_id,
            stack="".join(traceback.format_stack(frame)),
        )


class LastWords(Middleware):
    """Tells what is not told yet when the worker has stopped: lines that were left out, reports on their way."""

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Tell it; a Sentry that is away is not waited for."""
        tell_left_out()
        error_reports.close_reports()


class ShutdownDeadline(Middleware):
    """Interrupts the actors that still run when a stop has lasted long enough; their messages go back at once.

    Parameters:
      timeout_s: gives the seconds they have.
    """

    def __init__(self, timeout_s: Callable[[], float]) -> None:
        self.timeout_s = timeout_s

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Set the deadline."""
        timer = threading.Timer(self.timeout_s(), self._interrupt, args=(broker,))
        timer.daemon = True
        timer.start()

    @staticmethod
    def _interrupt(broker: SQSBroker) -> None:
        for delivery in broker.in_hand.snapshot():
            if delivery.state is State.RUNNING and delivery.thread_id is not None:
                log.warning("interrupted: the stop cannot wait longer", message_id=delivery.message_id)
                raise_thread_exception(delivery.thread_id, Shutdown)


def worker_middleware(
    *,
    prepare: Callable[[Worker], None],
    policy: Callable[[], RetryPolicy],
    ledger: Ledger,
    shutdown_timeout_s: Callable[[], float],
    document_memory: Callable[[], int],
) -> list[Middleware]:
    """The worker's middleware, outermost first: the last one is nearest to the actor."""
    return [
        Intake(prepare),
        LastWords(),
        LogContext(),
        StartOnlyOurs(),
        AdmissionControl(document_memory),
        Verdicts(policy, ledger),
        ShutdownDeadline(shutdown_timeout_s),
        HardLimit(),
        TimeLimit(time_limit=DEFAULT_TIME_LIMIT_MS),
    ]


#: The share of a process's threads that may work on big documents, one thread always. They compute more than they wait,
#: and Python computes in one thread at a time: a second one would be little faster, and slow all small ones down.
THREAD_SHARE = 0.125


class AdmissionControl(Middleware):
    """Gives each message its claim, and takes it back when the message is settled.

    Parameters:
      memory_bytes: gives the bytes that all big documents in this process may take.
    """

    def __init__(self, memory_bytes: Callable[[], int]) -> None:
        self.memory_bytes = memory_bytes
        self._claims: dict[str, Claim] = {}
        self._admission: Admission

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Begin."""
        most = max(1, int(worker.worker_threads * THREAD_SHARE))
        self._admission = Admission(memory_bytes=self.memory_bytes(), most=most)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Let the message's documents ask."""
        assert isinstance(message, Delivery)  # noqa: S101
        _current.set(self._claims.setdefault(message.receipt_handle, Claim(self._admission)))

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """End the claim, unless the message waits in hand."""
        assert isinstance(message, Delivery)  # noqa: S101
        _current.set(None)
        if isinstance(message.verdict, Hold):
            return
        if claim := self._claims.pop(message.receipt_handle, None):
            self._admission.end(claim)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """End the claim that the message may have had before."""
        self.after_process_message(broker, message)
