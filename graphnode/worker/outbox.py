"""Pushes notifications from their outbox to their users' devices, beside the results.

A thread of the process claims what is due: it is woken after each commit, and looks by itself for what a crash or an
old attempt left. Other threads send, one device at a time each, so that a slow call holds up nobody else's push.
"""

from __future__ import annotations

import contextvars
import random
import threading
import time
from collections.abc import Iterable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import NamedTuple

import structlog
from dramatiq import Broker, Middleware, Worker

from graphnode.broker import SQSBroker
from graphnode.clients.fcm import MOST_CALLS, Push, firebase
from graphnode.clients.fcm_answers import Answer, Later
from graphnode.errors import DatabaseFault, classify_error
from graphnode.rules.push_texts import push_data, push_text, truncate_to_fcm_limit
from graphnode.rules.pushes import (
    NO_CREDENTIALS,
    NO_DEVICE,
    PushOutcome,
    PushReport,
    outcome_if_too_old,
    push_outcome,
    unsent_outcome,
    without_fcm_message,
)
from graphnode.settings import settings
from graphnode.sqs.liveness import report_alive, report_end
from graphnode.steps import count_event, step
from graphnode.storage import notifications
from graphnode.storage.notifications import PUSH_LEASE_S, ClaimedPush, Device
from graphnode.telemetry import error_reports
from graphnode.telemetry.stacks import unexpected_stack
from graphnode.worker.options import retry_policy
from graphnode.worker.sweeps import Attempts, Sweep

#: The most notifications that a process has claimed at a time. It claims again when half of them are settled.
MOST_CLAIMED = 2 * MOST_CALLS

#: The most committed notifications that are known by their IDs; those beyond are found when they are looked for.
MOST_WOKEN = 1000

#: Seconds that an outcome waits for others, to be stored in the same statement.
GATHER_S = 0.05

#: Seconds between two looks for what is due, if that comes due all the time.
LOOK_S = 1.0

#: Seconds until the next attempt when a statement has failed, or during an outage of PostgreSQL.
PAUSE_S = 1.0

#: Seconds after its claim from which a notification is not sent any more: a call takes two time-outs at most.
SENDABLE_S = PUSH_LEASE_S - 30

#: Seconds without a sign of life after which the thread counts as stuck: two statements, and the longest wait.
STUCK_AFTER_S = 60.0
LONGEST_WAIT_S = 10.0

log = structlog.get_logger("graphnode.notifications")


class Sending:
    """A claimed notification on its way to its user's devices.

    Parameters:
      claimed: what its row says.
      context: the context of the result that wrote it, for log lines and traces.
    """

    def __init__(self, claimed: ClaimedPush, context: Context) -> None:
        self.claimed = claimed
        # A copy: a result's pushes are sent by several threads, and only one may be in a context.
        self.context = context.copy()
        self.was_sent = claimed.pushed_at is not None
        left = claimed.remaining_tokens or ()
        #: The devices that earlier attempts have not reached.
        self.tokens = [device.token for device in claimed.devices if not self.was_sent or device.token in left]
        self.sendable_until = time.monotonic() + SENDABLE_S
        self.open_calls = 0
        self.answers: dict[str, Answer] = {}
        self.gone: list[Device] = []
        self.outcome: PushOutcome | None = None


class Call(NamedTuple):
    """A push to send to a device."""

    sending: Sending
    token: str
    push: Push


class Pushes(Middleware):
    """Pushes from the outbox, until a stop begins.

    Parameters:
      interval_s: seconds between two looks for what is due; None: as the settings say. Each pause is up to half shorter
        or longer, so that processes look at different times.
    """

    def __init__(self, *, interval_s: float | None = None) -> None:
        self.interval_s = interval_s
        self._changed = threading.Condition()
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._callers: list[threading.Thread] = []
        self._attempts = Attempts()
        self._woken: dict[str, Context] = {}
        self._claimed: set[Sending] = set()
        self._ended: list[Sending] = []
        self._look_at = self._gathered_at = self._paused_until = float("-inf")
        self._stop_at: float | None = None
        self._thread: threading.Thread | None = None

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start."""
        global _pushes
        assert isinstance(broker, SQSBroker)  # noqa: S101
        # Before the first look: what is committed earlier is found by it.
        _pushes = self
        self._thread = threading.Thread(target=self._run, args=(broker,), name="pushes", daemon=True)
        self._thread.start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Claim and send nothing more. The calls in progress may end."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        broker.stop.request()
        with self._changed:
            self._stop_at = time.monotonic() + broker.options.shutdown_timeout_s
            self._changed.notify_all()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Wait for the outcomes of those calls. What has none by then comes again after its lease."""
        if self._thread and self._stop_at is not None:
            self._thread.join(max(0.0, self._stop_at - time.monotonic()))

    def wake(self, ids: Iterable[str], context: Context) -> None:
        """Push these committed notifications."""
        with self._changed:
            for notification_id in ids:
                if len(self._woken) < MOST_WOKEN:
                    self._woken[notification_id] = context
                else:
                    self._look_at = float("-inf")
            self._changed.notify_all()

    def _run(self, broker: SQSBroker) -> None:
        turn = Sweep("pushes", self.turn)
        while not self._may_end(broker):
            report_alive(within_s=STUCK_AFTER_S)
            if self.wait(broker) and (is_database_away(broker) or not self._attempts.run(broker, turn)):
                self._paused_until = time.monotonic() + PAUSE_S
        for _ in self._callers:
            self._calls.put(None)
        report_end()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is claimed."""
        return not self._claimed

    def wait(self, broker: SQSBroker) -> bool:
        """Wait for something to do, or for a change; whether there is something to do."""
        with self._changed:
            return self._is_time(broker) or (self._changed.wait(self._wait_s()) and self._is_time(broker))

    def turn(self, broker: SQSBroker) -> None:
        """Store the outcomes of pushes that have ended, and start others."""
        self._settle()
        if not broker.stop.requested:
            self._start(self._claim_due(), broker)
            self._start(self._claim_woken(), broker)

    def _may_end(self, broker: SQSBroker) -> bool:
        """Whether a stop has nothing to wait for, or cannot wait longer."""
        is_over = self._stop_at is not None and time.monotonic() >= self._stop_at
        return broker.stop.requested and (is_over or not self._claimed)

    def _is_time(self, broker: SQSBroker) -> bool:
        now = time.monotonic()
        if now < self._paused_until:
            return False
        if broker.stop.requested:
            return bool(self._ended)
        if self._ended and (now >= self._gathered_at or 2 * len(self._ended) >= MOST_CLAIMED):
            return True
        return (bool(self._woken) or now >= self._look_at) and self._room() > 0

    def _wait_s(self) -> float:
        """Seconds after which it may be time although nothing has changed."""
        now = time.monotonic()
        moments = [now + LONGEST_WAIT_S, self._stop_at or float("inf")]
        if self._ended:
            moments.append(self._gathered_at)
        if pause_s := firebase().pause.left_s():
            moments.append(now + pause_s)
        elif self._room():
            moments.append(self._look_at)
        least = max(self._paused_until - now, 0.0)
        return max(least, min(moments) - now)

    def _room(self) -> int:
        """How many notifications may be claimed now."""
        left = MOST_CLAIMED - len(self._claimed)
        if 2 * left < MOST_CLAIMED or firebase().pause.left_s():
            return 0
        if firebase().pause.is_tried:
            # One push shows whether the pause is over.
            return 0 if self._claimed else 1
        return left

    def _claim_due(self) -> list[Sending]:
        room = self._room()
        if not room or time.monotonic() < self._look_at:
            return []
        next_due_s = notifications.next_due_s()
        claimed = notifications.claim_pushes(limit=room)
        self._look_at = time.monotonic() + (0.0 if len(claimed) == room else self._pause_s(next_due_s))
        with self._changed:
            return [Sending(each, self._woken.pop(each.id, Context())) for each in claimed]

    def _claim_woken(self) -> list[Sending]:
        room = self._room()
        with self._changed:
            woken = {one: self._woken.pop(one) for one in list(self._woken)[:room]}
        if not woken:
            return []
        try:
            with step("claim"):
                claimed = notifications.claim_pushes(list(woken), limit=room)
        except Exception:
            # They are in the outbox.
            self._look_at = float("-inf")
            raise
        return [Sending(each, woken[each.id]) for each in claimed]

    def _pause_s(self, next_due_s: float | None) -> float:
        """Seconds until the next look."""
        interval_s = settings().sweep_interval if self.interval_s is None else self.interval_s
        pause_s = interval_s * random.uniform(0.5, 1.5)  # noqa: S311
        return pause_s if next_due_s is None else min(pause_s, max(LOOK_S, next_due_s))

    def _start(self, claimed: Iterable[Sending], broker: SQSBroker) -> None:
        """Have claimed notifications sent to their devices, those that are to be sent."""
        for sending in claimed:
            self._claimed.add(sending)
            try:
                outcome = outcome_without_call(sending)
                push = None if outcome else push_of(sending.claimed)
            except Exception as raised:
                outcome, push = outcome_of_fault(sending, raised), None
            if push is None:
                self._end(sending, outcome)
                continue
            sending.open_calls = len(sending.tokens)
            for token in sending.tokens:
                self._calls.put(Call(sending, token, push))
        while len(self._callers) < min(MOST_CALLS, sum(each.open_calls for each in self._claimed)):
            # Daemons: a call that hangs must not hold up the end of the process.
            self._callers.append(threading.Thread(target=self._send, args=(broker,), name="pushes-call", daemon=True))
            self._callers[-1].start()

    def _send(self, broker: SQSBroker) -> None:
        """Send, in a thread of its own."""
        while call := self._calls.get():
            sending = call.sending
            is_late = time.monotonic() > sending.sendable_until
            if not broker.stop.requested and not is_late and not firebase().pause.left_s():
                # A copy: a user's devices are sent to at once, too.
                sending.answers[call.token] = sending.context.copy().run(firebase().send, call.token, call.push)
            with self._changed:
                sending.open_calls -= 1
                is_last = not sending.open_calls
            if is_last:
                self._end(sending, sending.context.run(outcome_of_answers, sending))

    def _end(self, sending: Sending, outcome: PushOutcome | None) -> None:
        sending.outcome = outcome
        with self._changed:
            if not self._ended:
                self._gathered_at = time.monotonic() + GATHER_S
            self._ended.append(sending)
            self._changed.notify_all()

    def _settle(self) -> None:
        """Store what has ended. If that fails, it is stored later: it stays claimed."""
        with self._changed:
            ended = list(self._ended)
        if not ended:
            return
        if gone := [device for sending in ended for device in sending.gone]:
            notifications.remove_devices(gone)
        outcomes = [(sending.claimed, sending.outcome) for sending in ended if sending.outcome]
        stored = notifications.settle_pushes(outcomes)
        with self._changed:
            del self._ended[: len(ended)]
            self._gathered_at = time.monotonic() + GATHER_S
        self._claimed.difference_update(ended)
        for sending in ended:
            sending.context.run(log_outcome, sending, is_stored=sending.claimed.id in stored)
        retries_s = [outcome.retry_in_s for _, outcome in outcomes if outcome.retry_in_s is not None]
        if retries_s:
            self._look_at = min(self._look_at, time.monotonic() + max(LOOK_S, min(retries_s)))


def is_database_away(broker: SQSBroker) -> bool:
    """Whether there is an outage of PostgreSQL. Pushes need no other service that the breaker asks."""
    ongoing = broker.breaker.ongoing
    return ongoing is not None and ongoing.service == DatabaseFault.service


def outcome_without_call(sending: Sending) -> PushOutcome | None:
    """How a push ends for which FCM is not called; otherwise None."""
    claimed = sending.claimed
    if too_old := outcome_if_too_old(
        created_at=claimed.created_at,
        now=datetime.now(UTC),
        max_age_s=settings().push_max_age,
        attempts=claimed.push_attempts - 1,
        error=claimed.push_error,
        was_sent=sending.was_sent,
    ):
        return too_old
    if not firebase().has_credentials:
        return NO_CREDENTIALS
    if not sending.tokens:
        return push_outcome(PushReport(), was_sent=True, backoff_s=0) if sending.was_sent else NO_DEVICE
    return None


def push_of(claimed: ClaimedPush) -> Push:
    """The push of a notification. FCM keeps it for a phone that is off until the notification is too old."""
    text = push_text(claimed.type, claimed.payload)
    text, data = truncate_to_fcm_limit(text, push_data(claimed.type, claimed.id, claimed.payload))
    expires = claimed.created_at + timedelta(seconds=settings().push_max_age)
    return Push(claimed.id, text, data, ttl_s=max(0.0, (expires - datetime.now(UTC)).total_seconds()))


def outcome_of_answers(sending: Sending) -> PushOutcome:
    """The outcome of a push when all calls have ended."""
    claimed = sending.claimed
    if not sending.answers:
        return unsent_outcome(claimed.push_error, was_sent=sending.was_sent, remaining=claimed.remaining_tokens)
    unsent = {token: Later("not sent yet") for token in sending.tokens}
    report = firebase().report({**unsent, **sending.answers})
    sending.gone = [device for device in claimed.devices if device.token in report.gone]
    return push_outcome(report, was_sent=sending.was_sent, backoff_s=retry_policy().backoff(claimed.push_attempts))


def outcome_of_fault(sending: Sending, raised: Exception) -> PushOutcome:
    """The outcome of a push that this program cannot make. It is tried again: another release may be able to."""
    claimed, error = sending.claimed, classify_error(raised)
    log.warning("push not made", **fields_of(claimed), error=error.log_text, **unexpected_stack(error))
    error_reports.report_failure(error, actor="pushes", attempt=claimed.push_attempts, task=fields_of(claimed))
    outcome = unsent_outcome(error.log_text, was_sent=sending.was_sent, remaining=claimed.remaining_tokens)
    return outcome._replace(retry_in_s=retry_policy().backoff(claimed.push_attempts), is_attempt=True)


def log_outcome(sending: Sending, *, is_stored: bool) -> None:
    """Log how an attempt ended, and count it."""
    outcome = sending.outcome
    assert outcome  # noqa: S101
    fields = {**fields_of(sending.claimed), "status": outcome.status, "reason": without_fcm_message(outcome.error)}
    if is_stored:
        count_event("push_settled", status=outcome.status)
        log.info("push settled", **fields, retry_in_s=outcome.retry_in_s)
    else:
        log.warning("push took longer than its claim: the row is another worker's", **fields)


def fields_of(claimed: ClaimedPush) -> dict[str, str]:
    """The fields of a notification's log lines."""
    return {
        "notification_id": claimed.id,
        "task_id": str(claimed.payload.get("taskId", "")),
        "user_id": claimed.user_id,
        "type": claimed.type,
    }


#: This process's pushes, once it takes messages.
_pushes: Pushes | None = None


def wake(ids: Iterable[str]) -> None:
    """Push these notifications now: their transaction is committed. Another process would find them later."""
    if _pushes:
        _pushes.wake(ids, contextvars.copy_context())
