"""The running workers: does an outage keep them from taking messages?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from graphnode.operations.doctor.findings import Finding, broken, fine, unchecked
from graphnode.operations.outages import processes_text, reported_outages
from graphnode.storage import workers
from graphnode.storage.workers import WorkerProcess

SUBJECT = "running workers"


def check_workers() -> list[Finding]:
    """Findings on the worker processes that have rows in the open database."""
    return judge_workers(workers.processes())


def judge_workers(processes: Sequence[WorkerProcess]) -> list[Finding]:
    """Findings on worker processes."""
    running = sum(not process.is_late for process in processes)
    if outages := reported_outages(processes):
        return [
            broken(
                SUBJECT,
                f"{outage.service}: an outage since {outage.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC "
                f"in {processes_text(outage.processes)}",
                why=outage.error,
                mend=outage.advice,
            )
            for outage in outages
        ]
    if not running:
        return [unchecked(SUBJECT, "not checked: no worker was seen lately")]
    return [fine(SUBJECT, f"{processes_text(running)}, no outage")]
