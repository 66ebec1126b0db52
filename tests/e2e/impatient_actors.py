"""The worker's actors, in processes with short limits. A summary that contains STUCK blocks its thread for ever."""

from __future__ import annotations

import os
import time

from graphnode.contract import decoding
from graphnode.contract.documents import SummaryDocument
from graphnode.contract.repairs import Warnings
from graphnode.sqs import poll_failures
from graphnode.worker import middleware

#: Seconds that stand for a minute of failing polls.
ALARM_S = 3.0

#: Longer than any test.
STUCK_S = 3600

decode_summary = decoding.decode_summary


def get_stuck(raw: bytes, *, warnings: Warnings | None = None) -> SummaryDocument:
    """Decode a summary, or block as a system call does: nothing interrupts it."""
    if b"STUCK" in raw:
        time.sleep(STUCK_S)
    return decode_summary(raw, warnings=warnings)


decoding.decode_summary = get_stuck
poll_failures.ALARM_S = ALARM_S
middleware.DEFAULT_TIME_LIMIT_MS = int(os.environ["IMPATIENT_TIME_LIMIT_MS"])

# Actors and their middleware take these when they are imported.
from graphnode.actors import broker  # noqa: E402

__all__ = ["broker"]
