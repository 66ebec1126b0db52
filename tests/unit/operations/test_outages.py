"""The outages that worker processes report, put together, and what the doctor says of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from graphnode.operations.doctor.findings import Severity
from graphnode.operations.doctor.workers_check import judge_workers
from graphnode.operations.outages import ReportedOutage, reported_outages
from graphnode.storage.workers import WorkerProcess
from tests.unit.cli.test_status_screen import NOW, worker


def away(number: int, *, service: str = "S3", minutes: float = 4, **changes: Any) -> WorkerProcess:
    outage = {
        "outage_service": service,
        "outage_since": NOW - timedelta(minutes=minutes),
        "outage_error": "refused",
        "outage_advice": "Mend it.",
    }
    return worker(number, **{**outage, **changes})


def test_processes_that_report_alike_are_one_outage_since_the_first_of_them() -> None:
    others = [away(3, service="PostgreSQL", minutes=9), worker(4)]

    first, second = reported_outages([*others, away(1, minutes=4), away(2, minutes=5)])

    assert first == ReportedOutage(
        service="S3", since=NOW - timedelta(minutes=5), processes=2, error="refused", advice="Mend it."
    )
    assert (second.service, second.processes) == ("PostgreSQL", 1)


def test_another_error_is_another_outage() -> None:
    assert len(reported_outages([away(1), away(2, outage_error="denied")])) == 2


def test_a_late_process_reports_no_outage() -> None:
    assert reported_outages([away(1, is_late=True)]) == []


def test_a_process_of_the_previous_release_has_neither_error_nor_advice() -> None:
    (found,) = reported_outages([away(1, outage_error=None, outage_advice=None)])

    assert (found.error, found.advice) == ("", "")


def test_the_doctor_names_an_outage_of_running_workers_since_when_why_and_what_mends_it() -> None:
    (found,) = judge_workers([away(1), away(2), worker(3)])

    assert found.severity is Severity.BROKEN
    assert found.what == "S3: an outage since 2026-11-25 04:16:00 UTC in 2 processes"
    assert (found.why, found.mend) == ("refused", "Mend it.")


def test_the_doctor_finds_running_workers_without_an_outage_fine_and_checks_nothing_without_any() -> None:
    (found,) = judge_workers([worker(1), worker(2, is_late=True)])

    assert (found.severity, found.what) == (Severity.FINE, "1 process, no outage")
    assert judge_workers([worker(1, is_late=True)]) == judge_workers([])
    assert [found.severity for found in judge_workers([])] == [Severity.UNCHECKED]
