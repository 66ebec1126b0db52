"""The circuit breaker: while a service that every message needs is away, nothing is received; a probe asks for it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from graphnode.errors import OutageError, log_text
from graphnode.steps import count_event
from graphnode.telemetry import error_reports

#: Seconds between two probes: the first pause and the longest. Polls resume within the longest one after a recovery.
PROBE_MIN_S = 0.5
PROBE_MAX_S = 4.0

#: A service that fails again within this many seconds of its recovery was not back: the pauses grow on.
STABLE_AFTER_S = 30.0

log = structlog.get_logger("graphnode.outages")

Probe = Callable[[], None]


class Ongoing(NamedTuple):
    """An outage that has been logged: which service is away, and since when."""

    service: str
    since: datetime


class CircuitBreaker:
    """The gate in front of a process's polls: closed during an outage.

    Parameters:
      probes: by service (an OutageError's `service`), a call that raises while the service is away.
    """

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self.probes = probes
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._pause_s = PROBE_MIN_S
        self._last_recovery = float("-inf")
        self.ongoing: Ongoing | None = None

    @property
    def closed(self) -> bool:
        """Whether an outage lasts."""
        return not self._open.is_set()

    def wait_until_open(self, timeout_s: float) -> bool:
        """Wait this many seconds at most for the end of an outage. True when there is none."""
        return self._open.wait(timeout_s)

    def begin(self, error: OutageError, *, since: float = float("inf")) -> None:
        """Close the gate and probe the service until it answers. Further reports change nothing.

        Parameters:
          error: names the service.
          since: when the failed attempt began, in monotonic seconds. A report from before the last recovery is ignored.
        """
        with self._lock:
            if self.closed or since < self._last_recovery:
                return
            self._open.clear()
        try:
            threading.Thread(target=self._probe, args=(error,), name="breaker-probe", daemon=True).start()
        except RuntimeError:
            # No thread can start now: without a probe the gate would stay closed. The next failure tries again.
            self._open.set()

    def _probe(self, reported: OutageError) -> None:
        """Open the gate when the service answers, whatever happens meanwhile."""
        try:
            self._wait_for(reported)
        finally:
            self._last_recovery = time.monotonic()
            self.ongoing = None
            self._open.set()

    def _wait_for(self, reported: OutageError) -> None:
        """Return when the service answers. If it answers at once, only a connection broke: that is no outage."""
        began, told, service = time.monotonic(), False, reported.service
        since = datetime.now(UTC)
        if began - self._last_recovery > STABLE_AFTER_S:
            self._pause_s = PROBE_MIN_S
        else:
            self._pause()
        while (error := self._ask(service)) is not None:
            if told:
                log.debug("still away", service=service, error=log_text(error))
            else:
                log.error("outage began: no messages are taken", service=service, error=reported.log_text)
                error_reports.report_outage(reported)
                told = True
                self.ongoing = Ongoing(service, since)
                count_event("outage", 1, service=service)
            paused = time.monotonic()
            self._pause()
            count_event("outage_seconds", time.monotonic() - paused, service=service)
        if told:
            count_event("outage", 0, service=service)
            log.warning("outage over: taking messages", service=service, seconds=round(time.monotonic() - began, 1))

    def _ask(self, service: str) -> Exception | None:
        try:
            self.probes[service]()
        except Exception as error:
            return error
        return None

    def _pause(self) -> None:
        time.sleep(self._pause_s * random.uniform(0.5, 1.0))  # noqa: S311
        self._pause_s = min(PROBE_MAX_S, self._pause_s * 2)
