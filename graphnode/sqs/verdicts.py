"""What becomes of a message: decided from its error and its attempt, without any I/O."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from graphnode.errors import GraphNodeError, Interrupted, OutageError, PermanentError, Postponed

#: SQS takes whole seconds; a back-off under one second would be none.
SHORTEST_BACKOFF_S = 1


@dataclass(frozen=True)
class Done:
    """The handler returned: delete the message."""


@dataclass(frozen=True)
class Retry:
    """Let SQS deliver the message again after a back-off in seconds."""

    after_s: int


@dataclass(frozen=True)
class Dead:
    """Send the message to the dead-letter queue, with its reason code, the error's text and how often it was tried."""

    reason: str
    error: str
    attempt: int


@dataclass(frozen=True)
class Hold:
    """Keep the message in hand, kept alive, and start it again when nothing is in its way.

    Parameters:
      until: says whether that is so; an outage, which is in every message's way, is looked at besides.
    """

    until: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Release:
    """Give the message back at once, unstarted or interrupted: visibility 0."""


@dataclass(frozen=True)
class Forget:
    """The message's visibility is lost: it is someone else's now. Leave it alone."""


Verdict = Done | Retry | Dead | Hold | Release | Forget


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how fast a message is tried again.

    Parameters:
      max_attempts: attempts in all, the first included.
      backoff_min_s: the first back-off's upper bound, in seconds.
      backoff_max_s: the longest back-off, in seconds.
    """

    max_attempts: int = 8
    backoff_min_s: float = 5.0
    backoff_max_s: float = 900.0

    def backoff(self, attempt: int, *, jitter: random.Random | None = None) -> int:
        """Seconds to wait after this attempt: exponential with full jitter, so that a herd spreads out.

        https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
        """
        # The exponent is bounded because receive counts are not, and a float is.
        ceiling = min(self.backoff_max_s, self.backoff_min_s * 2 ** min(attempt - 1, 30))
        return max(SHORTEST_BACKOFF_S, round((jitter or random).uniform(0, ceiling)))

    def decide(self, error: GraphNodeError, *, attempt: int, jitter: random.Random | None = None) -> Verdict:
        """What becomes of a message whose handler raised this error at this attempt.

        Parameters:
          attempt: how often the message was tried and failed, this time included. It is not SQS's receive count, which
            rises as well when a stop or an outage gives a message back unstarted.
        """
        match error:
            case OutageError():
                return Hold()
            case Postponed():
                return Hold(error.until)
            case Interrupted():
                return Release()
            case PermanentError():
                return Dead(error.reason, str(error), attempt)
        if attempt >= self.max_attempts:
            return Dead(error.reason, f"{error} (attempt {attempt} of {self.max_attempts}, the last)", attempt)
        return Retry(self.backoff(attempt, jitter=jitter))
