"""Failed polls: how long a poller waits after one, and which queues' polls have failed for too long."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime
from typing import NamedTuple

import structlog
from botocore.exceptions import ClientError

from graphnode.errors import aws_code, log_text
from graphnode.remedies import sqs_advice
from graphnode.steps import count_event

#: Seconds of failing polls after which an operator must know.
ALARM_S = 60.0

#: Seconds of back-off after a failed poll: the first, and the longest.
BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 30.0

#: Seconds after the last failed poll after which it says nothing of now: the circuit breaker is open, or no thread is
#: free, so nothing is polled. It is twice the longest back-off and poll together.
STALE_AFTER_S = 120.0

log = structlog.get_logger("graphnode.broker")


class FailingPolls(NamedTuple):
    """A queue's polls that have failed since its last good one.

    Parameters:
      queue_name: the Dramatiq queue.
      began: when the first one failed, in monotonic seconds.
      since: the same moment as a time of day.
      last: when the last one failed, in monotonic seconds.
      error: the last one's error, in one line.
      advice: what mends it, in one sentence.
      is_told: whether it has been logged that they have failed for too long.
    """

    queue_name: str
    began: float
    since: datetime
    last: float
    error: str
    advice: str
    is_told: bool = False

    def lasts(self, now: float) -> bool:
        """Whether they are still tried."""
        return now - self.last <= STALE_AFTER_S


_lock = threading.Lock()
_failing: dict[str, FailingPolls] = {}


def failing_polls() -> list[FailingPolls]:
    """The queues of this process whose polls have failed for `ALARM_S` or longer, the longest first."""
    now = time.monotonic()
    with _lock:
        found = [each for each in _failing.values() if now - each.began >= ALARM_S and each.lasts(now)]
    return sorted(found, key=lambda each: each.began)


class PollFailures:
    """One poller's failed polls since its last good one. Logs the first, a minute of failures, and their end.

    Parameters:
      queue_name: the Dramatiq queue.
    """

    def __init__(self, queue_name: str) -> None:
        self.queue_name = queue_name
        self._count = 0

    def backoff_after(self, error: Exception) -> float:
        """Note a failed poll; the seconds to wait for the next one."""
        self._count += 1
        count_event("poll_failed", queue=self.queue_name)
        if is_over_limit(error):
            # Others' messages in flight, or what went back for long: it passes, and polls would not help.
            self._forget()
            if self._count == 1:
                log.warning("SQS gives no messages: the queue has 120,000 in flight", queue=self.queue_name)
        else:
            if self._count == 1:
                log.warning("polling failed, trying again until it works", queue=self.queue_name, error=log_text(error))
            self._note(error)
        ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(self._count - 1, 10))
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311

    def end(self) -> None:
        """Note a good poll."""
        self._forget()
        if self._count:
            log.warning("polling works again", queue=self.queue_name, failures=self._count)
            self._count = 0

    def _note(self, error: Exception) -> None:
        """Note for the whole process that the queue's polls fail."""
        now = time.monotonic()
        with _lock:
            known = _failing.get(self.queue_name)
            if known is None or not known.lasts(now):
                known = FailingPolls(self.queue_name, now, datetime.now(UTC), now, "", "")
            is_told = now - known.began >= ALARM_S
            found = known._replace(last=now, error=log_text(error), advice=sqs_advice(_code(error)), is_told=is_told)
            _failing[self.queue_name] = found
        if found.is_told and not known.is_told:
            log.error("polling has failed for a minute", queue=self.queue_name, error=found.error, advice=found.advice)
            count_event("polls_failing", 1, queue=self.queue_name)

    def _forget(self) -> None:
        """Note for the whole process that SQS answers the queue's polls, also those of its other poller."""
        with _lock:
            known = _failing.pop(self.queue_name, None)
        if known and known.is_told:
            count_event("polls_failing", 0, queue=self.queue_name)


def is_over_limit(error: Exception) -> bool:
    """Whether SQS refuses a poll because too many of the queue's messages are in flight: 120,000, an SQS quota.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
    """
    return _code(error).endswith("OverLimit")


def _code(error: Exception) -> str:
    """SQS's error code; of an error of another kind, its class."""
    return aws_code(error) if isinstance(error, ClientError) else type(error).__name__
