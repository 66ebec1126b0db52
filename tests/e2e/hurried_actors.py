"""The worker's actors, in processes that wait FACTOR times as short as in production.

Five seconds of a trouble are more than four minutes to them: the eight attempts of a message are over after six seconds
on average. What another program must answer in is shortened less, so that a busy machine does not look like a fault.
"""

from __future__ import annotations

import sys
from typing import Any

from botocore.retries.standard import ExponentialBackoff

from graphnode.clients.aws import CallLimits
from graphnode.storage import connections
from graphnode.worker import middleware
from tests.e2e.hurry import FACTOR

if "pytest" in sys.modules:
    raise ImportError("tests.e2e.hurried_actors changes constants of the whole process: only a worker may import it")

#: Seconds that a call of S3 may take. In production it is 30.
READ_TIMEOUT_S = 1.0

#: Seconds for PostgreSQL to answer a new connection (in production 5), and until the watchdog asks (6).
QUICK_WAIT_S = 1.0
#: libpq knows no shorter time than two seconds.
CONNECT_TIMEOUT_S = 2


def shorten(module: Any, *names: str, least: float = 0.0) -> None:
    """Divide constants of a module by FACTOR, down to the least."""
    for name in names:
        setattr(module, name, max(least, getattr(module, name) / FACTOR))


CallLimits.__init__.__kwdefaults__["read_timeout_s"] = READ_TIMEOUT_S  # type: ignore[index]
# botocore's own retries.
ExponentialBackoff._DEFAULT_BACKOFF_CONFIG["throttling_base_scale"] /= FACTOR  # type: ignore[attr-defined]
# Other modules import it by its name, so it is set before they are imported.
connections.QUICK_WAIT_S = QUICK_WAIT_S
connections.CONNECTION["connect_timeout"] = str(CONNECT_TIMEOUT_S)
middleware.DEFAULT_TIME_LIMIT_MS //= FACTOR

from graphnode.actors import broker  # noqa: E402
from graphnode.sqs import circuit_breaker, consumer, deliveries, poll_failures, verdicts  # noqa: E402
from graphnode.storage import database, watchdog  # noqa: E402

__all__ = ["broker"]

# SQS knows whole seconds: what is shorter is none.
verdicts.SHORTEST_BACKOFF_S = 0
shorten(circuit_breaker, "PROBE_MIN_S", "PROBE_MAX_S", "TRIAL_MAX_S", "STABLE_AFTER_S", least=0.1)
consumer.UNDECIDED_BACKOFF_S = 1
shorten(poll_failures, "BACKOFF_MIN_S", "BACKOFF_MAX_S", "ALARM_S", "STALE_AFTER_S", least=0.1)
shorten(deliveries, "PATIENCE_IN_OUTAGE_S", "SLOW_S")
watchdog.ASK_AFTER_S = QUICK_WAIT_S
# The time limit comes first, as in production, although it is looked at only once a second.
database.TRANSACTION_WAIT_S = 8.0
