"""What becomes of polling when polls fail: it goes on, ever more slowly, and the operator is told."""

from __future__ import annotations

import random
import time

import structlog

from graphnode.errors import log_text
from graphnode.steps import note

#: Seconds that polling may fail before it is an operator's business.
ALARM_S = 60.0

#: Seconds of back-off after a failed poll: the first, and the longest.
BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 30.0

log = structlog.get_logger("graphnode.broker")


class PollFailures:
    """One poller's failures since its last poll that worked: told at the first, after a minute, and when they are over.

    Parameters:
      queue_name: the Dramatiq queue.
    """

    def __init__(self, queue_name: str) -> None:
        self.queue_name = queue_name
        self._count = 0
        self._since = 0.0
        self._told = False

    def backoff_after(self, error: Exception) -> float:
        """A poll failed: the seconds to wait for the next one."""
        self._since = self._since if self._count else time.monotonic()
        self._count += 1
        note("poll_failed", queue=self.queue_name)
        if self._count == 1:
            log.warning("polling failed, trying again until it works", queue=self.queue_name, error=log_text(error))
        elif not self._told and time.monotonic() - self._since > ALARM_S:
            self._told = True
            log.error("polling has failed for a minute", queue=self.queue_name, error=log_text(error))
        ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(self._count - 1, 10))
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311

    def are_over(self) -> None:
        """A poll worked."""
        if self._count:
            log.warning("polling works again", queue=self.queue_name, failures=self._count)
            self._count, self._told = 0, False
