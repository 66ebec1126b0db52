"""The circuit breaker: finds out whether a failure is everybody's, and stops the intake until the trouble is over.

Closed: messages are received and started. Open: none is received or started, and a probe asks the service. Half-open:
the service answers the probe; one message at a time tries whether it works for messages too.
https://learn.microsoft.com/en-us/azure/architecture/patterns/circuit-breaker
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

import structlog

from graphnode.errors import GraphNodeError, ServiceFault, TransientError, classify_error
from graphnode.steps import count_event
from graphnode.telemetry import error_reports

#: Seconds between two probes: the first pause and the longest. Messages are taken within the longest one after a
#: recovery.
PROBE_MIN_S = 0.5
PROBE_MAX_S = 4.0

#: The longest pause in seconds after a message that tried in vain: the service answers its probe meanwhile.
TRIAL_MAX_S = 15.0

#: Seconds for which a message tries alone. Then another one may start: a big document takes longer. And seconds until
#: another message is received, if the first one could not even start.
TRIAL_S = 5.0

#: A service that fails again within this many seconds of its recovery was not back: the pauses grow on.
STABLE_AFTER_S = 30.0

#: Messages of so many users that fail alike in a row, while none succeeds, are an outage, whatever their error is.
ALIKE = 5

#: What is away when messages fail alike, and no service does.
MESSAGES = "the messages"
WHY_ALIKE = "Find what they have in common by the error: a new version of the worker, or of what writes the results."

log = structlog.get_logger("graphnode.outages")


class Breaker(Enum):
    """The states of the breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Probe:
    """Walks the way of a message to a service. Raises while that fails.

    Parameters:
      ask: gets the fault that is asked about, if a call of this service failed; None: any message's way.
    """

    def __init__(self, ask: Callable[[ServiceFault | None], None]) -> None:
        self._ask = ask
        self._asking = threading.Lock()
        self._began = -math.inf
        self._answer: GraphNodeError | None = None

    def ask(self, fault: ServiceFault | None = None) -> GraphNodeError | None:
        """What fails, or None. Threads that ask at once share an answer."""
        asked = time.monotonic()
        with self._asking:
            if self._began < asked:
                self._began = time.monotonic()
                try:
                    self._ask(fault)
                except Exception as error:
                    self._answer = classify_error(error)
                else:
                    self._answer = None
            return self._answer


class Ongoing(NamedTuple):
    """Why the breaker is not closed.

    Parameters:
      service: what is away.
      since: when the breaker opened.
      error: what fails, for an operator.
      advice: what mends it.
    """

    service: str
    since: datetime
    error: str = ""
    advice: str = ""


class CircuitBreaker:
    """A process's circuit breaker.

    Parameters:
      probes: by service (a ServiceFault's `service`), a call as `Probe` describes it.
    """

    def __init__(self, probes: Mapping[str, Callable[[ServiceFault | None], None]]) -> None:
        self.probes = {service: Probe(ask) for service, ask in probes.items()}
        self.state = Breaker.CLOSED
        #: Why the breaker is not closed.
        self.ongoing: Ongoing | None = None
        #: When a message last succeeded, in monotonic seconds.
        self.last_success = -math.inf
        self._changed = threading.Condition()
        self._closed_at = self._half_open_at = self._trial_until = -math.inf
        #: When each queue was polled for a message that may try, and the queues that had none.
        self._polled_at: dict[str, float] = {}
        self._empty: set[str] = set()
        self._pause_s = PROBE_MIN_S
        self._alike: set[str] = set()
        self._alike_reason = ""

    @property
    def is_closed(self) -> bool:
        """Whether messages are received and started without limit."""
        return self.state is Breaker.CLOSED

    def may_poll(self, queue: str, timeout_s: float) -> bool:
        """Whether a queue may be polled: for one message at a time while it is half-open.

        Parameters:
          queue: its name.
          timeout_s: seconds to wait until it may.
        """
        if self.is_closed:
            return True
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_unpolled(queue), timeout_s):
                return False
            self._polled_at[queue] = time.monotonic()
            return True

    def may_start(self, timeout_s: float) -> bool:
        """Whether a message may start; if it is half-open, that message tries. It waits for this many seconds."""
        if self.is_closed:
            return True
        with self._changed:
            if not self._changed.wait_for(self._is_free, timeout_s):
                return False
            if not self.is_closed:
                self._trial_until = time.monotonic() + TRIAL_S
            return True

    def end_trial(self) -> None:
        """Let another message try: this one did not start, or its end says nothing of the services."""
        if not self.is_closed:
            with self._changed:
                self._begin_trials()

    def find_none(self, queue: str, *, queues: int) -> None:
        """Note that nothing is left to try in hand, and none came from a queue. After all queues, the breaker closes.

        Parameters:
          queue: its name.
          queues: the number of queues.
        """
        with self._changed:
            self._empty.add(queue)
            if len(self._empty) >= queues:
                self._close_half_open()

    def succeed(self, *, since: float) -> None:
        """Note that a message has succeeded. It closes the breaker if it began while that was half-open.

        Parameters:
          since: when the message was started, in monotonic seconds.
        """
        self.last_success = time.monotonic()
        if self._alike:
            self._alike = set()
        if self.state is Breaker.HALF_OPEN and since >= self._half_open_at:
            with self._changed:
                self._close_half_open()

    def is_to_blame(self, error: TransientError, *, since: float, user: str) -> bool:
        """Whether a failure is everybody's. It may open the breaker, and takes as long as a probe.

        Parameters:
          error: the failure.
          since: when the failed attempt began, in monotonic seconds.
          user: whose it is; failures of one user may have one cause in his data.
        """
        if error.is_own:
            self.end_trial()
            return False
        return self._is_known(error, since) or self._judge(error, self._ask(error), user)

    def _is_known(self, error: GraphNodeError, since: float) -> bool:
        """Whether the failure belongs to an outage that lasts, or that it began in."""
        with self._changed:
            if self.is_closed:
                return since < self._closed_at
            if self.state is Breaker.HALF_OPEN and since >= self._half_open_at:
                self._reopen(error)
            return True

    def _judge(self, error: GraphNodeError, failing: tuple[str, GraphNodeError] | None, user: str) -> bool:
        """Open the breaker if a probe fails too, or if other users' messages failed alike."""
        with self._changed:
            if not self.is_closed:
                # Another thread has opened it meanwhile.
                return True
            if failing:
                service, found = failing
                return self._open(service, error if isinstance(error, ServiceFault) else found)
            if self._is_alike(error, user):
                return self._open(error.service if isinstance(error, ServiceFault) else MESSAGES, error)
            return False

    def _is_alike(self, error: GraphNodeError, user: str) -> bool:
        if error.reason != self._alike_reason:
            self._alike, self._alike_reason = set(), error.reason
        # Replaced, not changed: a success in another thread forgets them without the lock.
        self._alike = self._alike | {user}
        return len(self._alike) >= ALIKE

    def _ask(self, fault: GraphNodeError) -> tuple[str, GraphNodeError] | None:
        """The first service that fails its probe, and how. Only a service's fault says which one to ask."""
        for service, probe in self.probes.items():
            asked_about = fault if isinstance(fault, ServiceFault) else None
            if asked_about and asked_about.service != service:
                continue
            if error := probe.ask(asked_about):
                return service, error
        return None

    def _is_unpolled(self, queue: str) -> bool:
        polled_at = self._polled_at.get(queue, -math.inf)
        return self.is_closed or (self.state is Breaker.HALF_OPEN and time.monotonic() - polled_at > TRIAL_S)

    def _is_free(self) -> bool:
        return self.is_closed or (self.state is Breaker.HALF_OPEN and time.monotonic() >= self._trial_until)

    def _enter(self, state: Breaker) -> None:
        self.state = state
        self._changed.notify_all()

    def _open(self, service: str, error: GraphNodeError) -> bool:
        """Open the breaker, and start to ask for the end of the trouble. Whether that could be started."""
        if time.monotonic() - self._closed_at > STABLE_AFTER_S:
            self._pause_s = PROBE_MIN_S
        advice = getattr(error, "advice", "") or WHY_ALIKE
        self.ongoing = Ongoing(service, datetime.now(UTC), error.log_text, advice)
        self._enter(Breaker.OPEN)
        try:
            threading.Thread(target=self._heal, args=(error, self.ongoing), name="breaker-probe", daemon=True).start()
        except RuntimeError:
            # No thread can start now: without a probe the breaker would stay open. The next failure tries again.
            self._close()
            return False
        return True

    def _reopen(self, error: GraphNodeError) -> None:
        """Open the breaker again: a message has tried in vain."""
        assert self.ongoing  # noqa: S101
        self._pause_s = min(TRIAL_MAX_S, self._pause_s * 2)
        if isinstance(error, ServiceFault) and self.ongoing.service not in (error.service, MESSAGES):
            # Another service is away by now.
            self._close()
            self._open(error.service, error)
        else:
            self._enter(Breaker.OPEN)

    def _begin_trials(self) -> None:
        self._trial_until, self._polled_at, self._empty = -math.inf, {}, set()
        self._changed.notify_all()

    def _close_half_open(self) -> None:
        if self.state is Breaker.HALF_OPEN:
            self._close()

    def _close(self) -> None:
        self._closed_at = time.monotonic()
        self.ongoing, self._alike = None, set()
        self._enter(Breaker.CLOSED)

    def _heal(self, error: GraphNodeError, ongoing: Ongoing) -> None:
        """Ask until this trouble is over, whatever happens meanwhile."""
        service, began = ongoing.service, time.monotonic()
        log.error(
            "outage began: no messages are taken",
            service=service,
            reason=error.reason,
            error=ongoing.error,
            advice=ongoing.advice,
        )
        error_reports.report_outage(error, service=service)
        count_event("outage", 1, service=service)
        try:
            while self.ongoing is ongoing:
                self._pause(service)
                if failing := self._ask(error):
                    log.debug("still away", service=failing[0], error=failing[1].log_text)
                    self._pause_s = min(PROBE_MAX_S, self._pause_s * 2)
                else:
                    self._let_one_try(ongoing)
        finally:
            with self._changed:
                if self.ongoing is ongoing:
                    self._close()
            count_event("outage", 0, service=service)
            log.warning("outage over: taking messages", service=service, seconds=round(time.monotonic() - began, 1))

    def _let_one_try(self, ongoing: Ongoing) -> None:
        """Be half-open until a message has succeeded, or has tried in vain."""
        with self._changed:
            if self.ongoing is ongoing:
                self._half_open_at = time.monotonic()
                self._begin_trials()
                self._enter(Breaker.HALF_OPEN)
                self._changed.wait_for(lambda: self.state is not Breaker.HALF_OPEN)

    def _pause(self, service: str) -> None:
        seconds = self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311
        time.sleep(seconds)
        count_event("outage_seconds", seconds, service=service)
