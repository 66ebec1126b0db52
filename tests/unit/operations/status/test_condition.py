"""What is wrong with a deployment, in sentences, the worst first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from graphnode.operations.outages import ReportedOutage
from graphnode.operations.status.condition import Urgency, conditions
from graphnode.operations.status.sources import Activity, QueueState, Status
from graphnode.storage.activity import EndedTasks, Throughput, WaitingNotifications
from graphnode.storage.workers import WorkerProcess

NOW = datetime(2026, 5, 24, 10, 0, tzinfo=UTC)

WORKER = WorkerProcess(
    host="vm", pid=1, version="0.2.0", threads=8, started_at=NOW, seen_at=NOW, is_late=False, in_hand=0, running=0,
    outage_service=None, outage_since=None, outage_error=None, outage_advice=None, handled=0, retried=0, dead=0,
)  # fmt: skip

CALM = Activity(
    at=NOW,
    open_tasks=[],
    ended=EndedTasks({}, True),
    throughput=Throughput(0, 0, 0, 0, None),
    retrying=0,
    failed_attempts={},
    given_up={},
    notifications=WaitingNotifications(0, 0, None),
    workers=[WORKER],
    outages=[],
)

RESULTS = QueueState(name="results", waiting=0, delayed=0, in_flight=0, dead_letters=0)


def status(*, queue: QueueState = RESULTS, unseen: list[str] | None = None, **changed: Any) -> Status:
    return Status(at=NOW, queues=[queue], activity=msgspec.structs.replace(CALM, **changed), unseen=unseen or [])


def changed(**values: Any) -> QueueState:
    return msgspec.structs.replace(RESULTS, **values)


def test_all_is_well_in_a_calm_deployment_even_without_cloudwatch() -> None:
    assert conditions(status()) == []
    assert conditions(status(unseen=["Oldest messages, by CloudWatch: AWS_ENDPOINT_URL is set"])) == []


@pytest.mark.parametrize(
    ("found", "urgency", "said"),
    [
        (status(queue=changed(dead_letters=1)), Urgency.URGENT, "1 dead letter of results: nobody handles it"),
        (status(queue=changed(dead_letters=1234)), Urgency.URGENT, "1,234 dead letters of results"),
        (status(workers=[], queue=changed(waiting=3)), Urgency.URGENT, "No worker is running; 3 results wait"),
        (status(workers=[msgspec.structs.replace(WORKER, is_late=True)]), Urgency.URGENT, "No worker is running"),
        (
            status(workers=[WORKER, msgspec.structs.replace(WORKER, is_late=True)]),
            Urgency.ATTENTION,
            "1 worker process stopped without a goodbye",
        ),
        (
            status(outages=[ReportedOutage(service="S3", since=NOW, processes=2, error="slow down", advice="wait")]),
            Urgency.URGENT,
            "S3 is away for 2 worker processes: slow down",
        ),
        (
            status(queue=changed(waiting=9, oldest_s=3600.0, oldest_from="CloudWatch")),
            Urgency.ATTENTION,
            "The oldest result waits for 60 minutes",
        ),
        (
            status(failed_attempts={"OBJECT_NOT_FOUND": 30}, throughput=Throughput(0, 0, 70, 0, None)),
            Urgency.ATTENTION,
            "30% of the attempts of the last hour failed, most by OBJECT_NOT_FOUND",
        ),
        (
            status(notifications=WaitingNotifications(5, 4, NOW - timedelta(hours=2))),
            Urgency.ATTENTION,
            "4 pushes are due, the oldest since 08:00 UTC",
        ),
        (status(unseen=["The queue of requests is not seen: no answer"]), Urgency.UNSEEN, "The queue of requests"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(found: Status, urgency: Urgency, said: str) -> None:
    (condition,) = conditions(found)

    assert condition.urgency is urgency
    assert condition.text.startswith(said)
    assert condition.advice


def test_without_the_database_or_a_queue_that_is_the_worst() -> None:
    found = conditions(Status(at=NOW, queues=[], activity=None, unseen=["The database is not seen: away"]))

    assert [one.urgency for one in found] == [Urgency.URGENT, Urgency.UNSEEN]


@pytest.mark.parametrize(
    "found",
    [
        status(queue=changed(waiting=9, oldest_s=3600.0, oldest_from="database")),
        status(queue=changed(waiting=9, oldest_s=60.0, oldest_from="CloudWatch")),
        status(failed_attempts={"X": 5}, throughput=Throughput(0, 0, 0, 0, None)),
        status(failed_attempts={"X": 5}, throughput=Throughput(0, 0, 95, 0, None)),
        status(notifications=WaitingNotifications(5, 4, NOW - timedelta(minutes=1))),
    ],
)
def test_what_heals_by_itself_is_not_said(found: Status) -> None:
    assert conditions(found) == []


def test_the_worst_comes_first() -> None:
    found = conditions(
        status(
            queue=changed(dead_letters=1),
            unseen=["The queue of requests is not seen"],
            notifications=WaitingNotifications(5, 4, NOW - timedelta(hours=2)),
        )
    )

    assert [one.urgency for one in found] == [Urgency.URGENT, Urgency.ATTENTION, Urgency.UNSEEN]
