"""What keeps worker processes from taking messages, as they write it into their rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from graphnode.storage.workers import WorkerProcess


class ReportedOutage(msgspec.Struct, frozen=True, kw_only=True):
    """An outage that worker processes report alike.

    Parameters:
      service: what is away.
      since: when it began in the first of them.
      processes: how many report it.
      error: one line; empty if they are too old to write it.
      advice: what mends it, in a sentence; empty as the error.
    """

    service: str
    since: datetime
    processes: int
    error: str
    advice: str


def processes_text(count: int) -> str:
    """A number of processes, in words."""
    return "1 process" if count == 1 else f"{count} processes"


def reported_outages(workers: Iterable[WorkerProcess]) -> list[ReportedOutage]:
    """The outages that processes report, that of the most processes first.

    A late process may have ended, so it does not count.
    """
    found: dict[tuple[str, str, str], list[datetime]] = {}
    for worker in workers:
        if worker.outage_service and worker.outage_since and not worker.is_late:
            alike = (worker.outage_service, worker.outage_error or "", worker.outage_advice or "")
            found.setdefault(alike, []).append(worker.outage_since)
    outages = [
        ReportedOutage(service=service, since=min(since), processes=len(since), error=error, advice=advice)
        for (service, error, advice), since in found.items()
    ]
    return sorted(outages, key=lambda outage: (-outage.processes, outage.since))
