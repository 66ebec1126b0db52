"""Whether a failure counts against its message."""

from __future__ import annotations

import math
import time

from graphnode.errors import ServiceFault, TransientError
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.deliveries import Delivery

#: So often a service fails a message while others succeed in between, until the message counts as the cause.
SUSPICIOUS = 2


def is_excused(breaker: CircuitBreaker, message: Delivery, error: TransientError) -> bool:
    """Whether a failure does not count: it is everybody's, or the first time that a service fails the message.

    A message that services fail again and again, while others succeed in between, is the cause: its failures count, and
    its back-off makes room for the others.
    """
    is_everybodys = breaker.is_to_blame(error, since=message.started, user=message.lane_key or message.sqs_id)
    is_first = math.isinf(message.faulted_at)
    if is_everybodys or isinstance(error, ServiceFault):
        message.suspicion += message.faulted_at < breaker.last_success and not is_first
        message.faulted_at = time.monotonic()
    if is_everybodys:
        return message.suspicion < SUSPICIOUS
    # A broken connection fails one message once.
    return isinstance(error, ServiceFault) and is_first
