"""What becomes of a message: decided from its error and its attempt, without any I/O."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from graphnode.errors import GraphNodeError, Interrupted, NoMemoryYet, PermanentError, Postponed

#: SQS takes whole seconds; a back-off under one second would be none.
SHORTEST_BACKOFF_S = 1

#: Seconds that a blocked lane waits until it tries again: the first time, and the longest. Each try takes a thread.
PARKED_MIN_S = 0.1
PARKED_MAX_S = 2.0


@dataclass(frozen=True)
class Ack:
    """The handler returned: delete the message."""


@dataclass(frozen=True)
class Discard(Ack):
    """Delete a message whose dead letter was sent at an earlier delivery: its deletion failed then.

    Parameters:
      after_s: seconds until SQS delivers it again if the deletion fails once more.
    """

    after_s: int


@dataclass(frozen=True)
class Retry:
    """Let SQS deliver the message again after a back-off in seconds."""

    after_s: int


@dataclass(frozen=True)
class Nack:
    """Give the message back, unstarted or interrupted: visible to others after this many seconds. It has not failed."""

    after_s: int = 0


@dataclass(frozen=True)
class DeadLetter:
    """Send the message to the dead-letter queue, and delete it.

    Parameters:
      reason, error, attempt: what the letter carries: the reason code, the error's text and the number of attempts.
      cause: the error, for those who are told once SQS has the letter.
    """

    reason: str
    error: str
    attempt: int
    cause: GraphNodeError = field(default_factory=GraphNodeError, compare=False, repr=False)


@dataclass(frozen=True)
class Park:
    """Keep the message in flight without a thread. During an outage nothing starts.

    Parameters:
      after_s: seconds until it may start again; infinity: until `InFlight.resume`.
    """

    after_s: float = 0.0


@dataclass(frozen=True)
class Abandon:
    """Leave the message alone: its visibility is lost, and another worker has it."""


Verdict = Ack | Discard | Retry | Nack | DeadLetter | Park | Abandon


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
        """Seconds to wait after this attempt: exponential with full jitter, so that retries spread out.

        https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
        """
        # The exponent is bounded: receive counts are not, and a float overflows.
        ceiling = min(self.backoff_max_s, self.backoff_min_s * 2 ** min(attempt - 1, 30))
        return max(SHORTEST_BACKOFF_S, round((jitter or random).uniform(0, ceiling)))

    def backoff_of_refused(self, receive_count: int) -> int:
        """Seconds until the next delivery of a message whose letter or deletion SQS has refused.

        At least the first back-off, so that messages do not circle while SQS refuses them all.
        """
        return max(math.ceil(self.backoff_min_s), self.backoff(receive_count))

    def decide(
        self, error: GraphNodeError, *, attempt: int, parks: int = 0, jitter: random.Random | None = None
    ) -> Verdict:
        """The verdict on a message whose handler raised this error.

        Parameters:
          attempt: how often the message has failed, this time included. It is not SQS's receive count, which also
            rises when a stop or an outage gives a message back unstarted.
          parks: how often the message was parked just before.
        """
        match error:
            case NoMemoryYet():
                return Park(math.inf)
            case Postponed():
                longest_s = min(PARKED_MAX_S, PARKED_MIN_S * 2 ** min(parks, 10))
                return Park((jitter or random).uniform(longest_s / 2, longest_s))
            case Interrupted():
                return Nack()
            case PermanentError():
                return DeadLetter(error.reason, str(error), attempt, error)
        if attempt >= self.max_attempts:
            text = f"{error} (attempt {attempt} of {self.max_attempts}, the last)"
            return DeadLetter(error.reason, text, attempt, error)
        return Retry(self.backoff(attempt, jitter=jitter))
