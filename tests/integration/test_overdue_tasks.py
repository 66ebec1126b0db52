"""Tasks without news: they end as those that have failed, and a result that comes after all still counts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from benchmarks.sqs_stub import StubServer
from graphnode.actors import broker, overdue
from graphnode.actors.effects import effects_of
from graphnode.actors.graph_generation import graph_generation
from graphnode.actors.overdue import end_overdue_tasks, overdue_result
from graphnode.contract.envelopes import Envelope, GraphGenerationResult
from graphnode.contract.timeouts import task_timeouts
from graphnode.settings import Settings, read_settings
from graphnode.storage import tasks
from graphnode.worker import options
from tests.faults.s3_stub import use
from tests.integration.conftest import Query

GRAPH = "GRAPH_GENERATION_RESULT"

#: As the API server makes it, last heard of some time ago.
REGISTER = (
    "INSERT INTO tasks (task_id, task_type, user_id, status, updated_at)"
    " VALUES (%s, %s, 'ada', %s, now() - %s::interval)"
)

Register = Callable[..., None]


@pytest.fixture(autouse=True)
def enqueued(storage: None, stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The worker's settings, and the notifications that it puts on their queue."""
    known = read_settings(
        {
            "DATABASE_URL": "postgresql://the.test/has-opened-it",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": stub.url,
            "SQS_RESULT_QUEUE_URL": stub.queue_url("results"),
            "SQS_NOTIFICATION_QUEUE_URL": stub.queue_url("notifications"),
            "S3_PAYLOAD_BUCKET": "payloads",
            "GRAPHNODE_TASK_TIMEOUT": "2h,ADD_NODE=30m",
        },
        Settings,
    )
    monkeypatch.setattr(options, "settings", lambda: known)
    monkeypatch.setattr(overdue, "settings", lambda: known)
    use(known, monkeypatch)
    sent: list[str] = []

    def enqueue(message: Any, *, delay: int | None = None) -> Any:
        sent.append(message.kwargs["notification_id"])
        return message

    monkeypatch.setattr(broker, "enqueue", enqueue)
    monkeypatch.setattr(broker, "options", options.broker_options())
    monkeypatch.setattr(broker, "_client", broker.options.aws.sqs())
    return sent


@pytest.fixture
def register(query: Query) -> Register:
    def run(task_id: str = "t1", *, task_type: str = GRAPH, status: str = "PENDING", age: str = "121 minutes") -> None:
        query(REGISTER, task_id, task_type, status, age)

    return run


def sweep() -> None:
    """Run the worker's sweep."""
    end_overdue_tasks(broker)


def ended(query: Query) -> list[str]:
    return [task_id for (task_id,) in query("SELECT task_id FROM tasks WHERE status = 'FAILED' ORDER BY task_id")]


@pytest.mark.parametrize("status", ["PENDING", "PROGRESS"])
def test_a_graph_that_does_not_come_has_failed_and_its_user_is_told(
    register: Register, query: Query, enqueued: list[str], status: str
) -> None:
    query("INSERT INTO graphs (user_id, status, status_before) VALUES ('ada', 'CREATING', 'UPDATED')")
    register(status=status)

    sweep()

    error = "There was no result within 2 h."
    assert query("SELECT status, reason, error, attempts FROM tasks") == [("FAILED", "TIMEOUT", error, 0)]
    assert query("SELECT status, status_before FROM graphs") == [("UPDATED", None)]
    assert query(
        "SELECT id, type, payload - 'timestamp', push_status, now() - created_at < interval '2 minutes'"
        " FROM notifications"
    ) == [
        (enqueued[0], "GRAPH_GENERATION_FAILED", {"taskId": "t1", "error": error}, "PENDING", True),
    ]


def test_each_type_has_its_time(register: Register, query: Query) -> None:
    register("graph", age="119 minutes")
    register("nodes", task_type="ADD_NODE_RESULT", age="31 minutes")
    register("young", task_type="ADD_NODE_RESULT", age="29 minutes")
    register("other", task_type="OF_ANOTHER_PROGRAM", age="1 year")

    sweep()

    assert ended(query) == ["nodes"]


def test_what_has_ended_stays_as_it_is(register: Register, query: Query) -> None:
    for status in ("COMPLETED", "SUPERSEDED"):
        register(status, status=status)

    sweep()

    assert ended(query) == []


def test_a_document_that_does_not_come_completes_its_workspace(register: Register, query: Query) -> None:
    query("INSERT INTO microscope_workspaces (id, user_id) VALUES ('w', 'ada')")
    query("INSERT INTO microscope_documents VALUES ('d', 'w', 'ada', 'PROCESSING', 'COMPLETED', 'PROCESSING')")
    register("d_nonblock", task_type="MICROSCOPE_INGEST_RESULT")

    sweep()

    assert query("SELECT status, block_status, non_block_status FROM microscope_documents") == [
        ("FAILED", "COMPLETED", "FAILED")
    ]
    assert query("SELECT type FROM notifications ORDER BY id") == [
        ("MICROSCOPE_DOCUMENT_FAILED",),
        ("MICROSCOPE_WORKSPACE_COMPLETED",),
    ]


def test_a_result_that_comes_after_all_still_counts_and_a_failure_changes_nothing(
    register: Register, query: Query
) -> None:
    register()
    sweep()
    late = GraphGenerationResult(user_id="ada", status="FAILED", error="Out of memory")
    (at,) = query("SELECT now()")[0]

    graph_generation.fn(Envelope(task_id="t1", task_type=GRAPH, timestamp=at, payload=late, attempt=1))
    assert query("SELECT reason FROM tasks") == [("TIMEOUT",)]
    assert query("SELECT count(*) FROM notifications") == [(1,)]

    made = GraphGenerationResult(user_id="ada", status="COMPLETED", result_s3_key="g.json")
    envelope = Envelope(task_id="t1", task_type=GRAPH, timestamp=at, payload=made, attempt=1)
    with effects_of(envelope, user_id="ada") as effects:
        assert not effects.repeated
        effects.finish()
    assert query("SELECT status, reason, error FROM tasks") == [("COMPLETED", None, None)]


def test_news_that_come_while_a_sweep_is_at_it_count(register: Register, query: Query) -> None:
    register()
    taken = tasks.claim_overdue(task_timeouts("2h"))
    assert taken
    query("UPDATE tasks SET status = 'PROGRESS', updated_at = now()")

    graph_generation.fn(overdue_result(*taken, timeout=timedelta(hours=2)))  # type: ignore[arg-type]

    assert query("SELECT status FROM tasks") == [("PROGRESS",)]


def test_of_sweeps_at_the_same_time_one_has_each_task(register: Register) -> None:
    for number in range(20):
        register(f"t{number:02}", age=f"{200 - number} minutes")

    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda _: tasks.claim_overdue(task_timeouts("2h")), range(25)))

    found = [task.task_id for task in taken if task]
    assert len(found) == len(set(found)) == 20


def test_a_task_that_a_sweep_did_not_get_done_with_is_taken_again_later(register: Register, query: Query) -> None:
    register()
    assert tasks.claim_overdue(task_timeouts("2h"))
    assert tasks.claim_overdue(task_timeouts("2h")) is None

    query("UPDATE tasks SET swept_at = swept_at - interval '5 minutes'")

    assert tasks.claim_overdue(task_timeouts("2h"))


def test_no_task_is_overdue_while_results_wait(register: Register, query: Query, stub: StubServer) -> None:
    register()
    stub.fill("results", ["the result, perhaps"])

    sweep()

    assert ended(query) == []


def test_a_sweep_ends_a_bounded_number(register: Register, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overdue, "MOST_OVERDUE", 2)
    for number in range(3):
        register(f"t{number}", age=f"{200 - number} minutes")

    sweep()
    assert ended(query) == ["t0", "t1"]

    sweep()
    assert ended(query) == ["t0", "t1", "t2"]


def test_a_time_that_was_over_long_ago_is_no_news(register: Register, query: Query) -> None:
    register(age="1 year")

    sweep()

    assert query("SELECT now() - created_at > interval '364 days' FROM notifications") == [(True,)]
