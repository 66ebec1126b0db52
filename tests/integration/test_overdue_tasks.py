"""Tasks without news: they end as those that have failed, and a result that comes after all still counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import dramatiq
import pytest

from benchmarks.sqs_stub import StubServer
from graphnode.actors import broker, overdue
from graphnode.actors.effects import effects_of
from graphnode.actors.graph_generation import graph_generation
from graphnode.actors.overdue import end_overdue_tasks, overdue_result, settle_stale_statuses
from graphnode.contract.envelopes import RESULT_QUEUE, Envelope, GraphGenerationResult
from graphnode.contract.timeouts import task_timeouts
from graphnode.settings import Settings, read_settings
from graphnode.sqs.arrivals import Arrivals
from graphnode.sqs.deliveries import MOST_TELLING_RECEIVES, Delivery, InFlight
from graphnode.storage import tasks
from graphnode.storage.tasks import OverdueTask
from graphnode.worker import options, outbox
from tests.faults.s3_stub import use
from tests.integration.conftest import Query

GRAPH = "GRAPH_GENERATION_RESULT"

#: As the API server makes it, last heard of some time ago.
REGISTER = (
    "INSERT INTO tasks (task_id, task_type, user_id, status, updated_at)"
    " VALUES (%s, %s, 'ada', %s, now() - %s::interval)"
)

Register = Callable[..., None]

#: Notes that a message has come whose SentTimestamp is so long ago.
Arrive = Callable[[timedelta], None]


@pytest.fixture(autouse=True)
def woken(storage: None, stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The worker's settings, and the notifications for which it wakes the pushes."""
    known = read_settings(
        {
            "DATABASE_URL": "postgresql://the.test/has-opened-it",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": stub.url,
            "SQS_RESULT_QUEUE_URL": stub.queue_url("results"),
            "S3_PAYLOAD_BUCKET": "payloads",
            "GRAPHNODE_TASK_TIMEOUT": "2h,ADD_NODE=30m",
        },
        Settings,
    )
    use(known, monkeypatch)
    sent: list[str] = []
    monkeypatch.setattr(outbox, "wake", sent.extend)
    monkeypatch.setattr(broker, "options", options.broker_options())
    monkeypatch.setattr(broker, "_client", broker.options.aws.sqs())
    return sent


@pytest.fixture(autouse=True)
def arrive(woken: list[str], monkeypatch: pytest.MonkeyPatch) -> Arrive:
    """The result queue was polled for long enough, and nothing came."""
    url, now = broker.options.queues[RESULT_QUEUE].url, time.monotonic()
    in_flight = InFlight(threads=1)
    in_flight.open(url)
    arrivals = Arrivals(lately_s=200, now=now - 300)
    for ago_s in (150, 0):
        arrivals.note_poll(now - ago_s)
    in_flight._lines[url].arrivals = arrivals
    monkeypatch.setattr(broker, "in_flight", in_flight)
    return lambda ago: arrivals.add(datetime.now(UTC) - ago, time.monotonic())


@pytest.fixture
def old() -> Delivery:
    """A message on the result queue that was sent an hour ago."""
    undecoded = dramatiq.Message[None]("results", "work", args=(), kwargs={}, options={})
    return Delivery(
        undecoded,
        queue_url=broker.options.queues[RESULT_QUEUE].url,
        body="{}",
        sqs_id="m-1",
        receipt_handle="r-1",
        receive_count=1,
        sent_at=datetime.now(UTC) - timedelta(hours=1),
        visibility_s=60,
    )


@pytest.fixture
def register(query: Query) -> Register:
    def run(task_id: str = "t1", *, task_type: str = GRAPH, status: str = "PENDING", age: str = "121 minutes") -> None:
        query(REGISTER, task_id, task_type, status, age)

    return run


def claim() -> OverdueTask | None:
    """Claim an overdue task, as a worker with nothing to wait for does."""
    return tasks.claim_overdue(task_timeouts("2h"), before=datetime.now(UTC), backoff=timedelta())


def sweep() -> None:
    """Run the worker's sweep."""
    end_overdue_tasks(broker)


def ended(query: Query) -> list[str]:
    return [task_id for (task_id,) in query("SELECT task_id FROM tasks WHERE status = 'FAILED' ORDER BY task_id")]


@pytest.mark.parametrize("status", ["PENDING", "PROGRESS"])
def test_a_graph_that_does_not_come_has_failed_and_its_user_is_told(
    register: Register, query: Query, status: str
) -> None:
    query("INSERT INTO graphs (user_id, status, status_before) VALUES ('ada', 'CREATING', 'UPDATED')")
    register(status=status)

    sweep()

    error = "There was no result within 2 h."
    assert query("SELECT status, reason, error, attempts FROM tasks") == [("FAILED", "TIMEOUT", error, 0)]
    assert query("SELECT status, status_before FROM graphs") == [("UPDATED", None)]
    assert query(
        "SELECT type, payload - 'timestamp', now() - created_at < interval '2 minutes' FROM notifications"
    ) == [
        ("GRAPH_GENERATION_FAILED", {"taskId": "t1", "error": error}, True),
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
    taken = claim()
    assert taken
    query("UPDATE tasks SET status = 'PROGRESS', updated_at = now()")

    graph_generation.fn(overdue_result(*taken, timeout=timedelta(hours=2)))  # type: ignore[arg-type]

    assert query("SELECT status FROM tasks") == [("PROGRESS",)]


def test_of_sweeps_at_the_same_time_one_has_each_task(register: Register) -> None:
    for number in range(20):
        register(f"t{number:02}", age=f"{200 - number} minutes")

    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda _: claim(), range(25)))

    found = [task.task_id for task in taken if task]
    assert len(found) == len(set(found)) == 20


def test_a_task_that_a_sweep_did_not_get_done_with_is_taken_again_later(register: Register, query: Query) -> None:
    register()
    assert claim()
    assert claim() is None

    query("UPDATE tasks SET swept_at = swept_at - interval '5 minutes'")

    assert claim()


def test_no_task_is_taken_while_results_wait(register: Register, query: Query, stub: StubServer) -> None:
    register()
    stub.fill("results", ["the result, perhaps"])

    sweep()

    assert ended(query) == []
    assert query("SELECT swept_at FROM tasks") == [(None,)]


def test_a_task_ends_while_results_wait_that_were_sent_after_its_time(
    register: Register, query: Query, stub: StubServer, arrive: Arrive
) -> None:
    register(age="121 minutes")
    stub.fill("results", ["some result"])

    arrive(timedelta(seconds=30))
    sweep()

    assert ended(query) == ["t1"]


def test_no_task_is_overdue_while_results_come_that_were_sent_in_its_time(
    register: Register, query: Query, arrive: Arrive
) -> None:
    register(age="121 minutes")

    for ago_s in (30, 90, 20):
        arrive(timedelta(seconds=ago_s))
    sweep()

    assert ended(query) == []


def test_no_task_is_overdue_while_an_older_result_is_in_flight(register: Register, query: Query, old: Delivery) -> None:
    register(age="121 minutes")
    old.receive_count = MOST_TELLING_RECEIVES + 1

    broker.in_flight.add(old)
    sweep()

    assert ended(query) == []


def test_a_message_that_comes_again_and_again_holds_no_task_up(register: Register, query: Query, old: Delivery) -> None:
    register(age="121 minutes")
    old.receive_count = MOST_TELLING_RECEIVES + 1

    broker.in_flight.add(old)
    broker.in_flight.remove(old)
    sweep()

    assert ended(query) == ["t1"]


def test_a_worker_that_has_just_started_ends_no_task(
    register: Register, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    just_started = InFlight(threads=1)
    monkeypatch.setattr(broker, "in_flight", just_started)

    sweep()
    just_started.open(broker.options.queues[RESULT_QUEUE].url)
    sweep()

    assert ended(query) == []


ATTEMPT = (
    "INSERT INTO task_attempts (message_id, task_id, task_type, user_id, attempt, reason, error, given_up, failed_at)"
    " VALUES (%s, 't1', %s, 'ada', 1, 'R', 'e', %s, now() - %s::interval)"
)


def test_a_task_is_not_overdue_while_an_attempt_is_in_its_back_off(register: Register, query: Query) -> None:
    register()
    query(ATTEMPT, "m", GRAPH, False, "15 minutes")

    sweep()

    assert ended(query) == []
    assert query("SELECT swept_at FROM tasks") == [(None,)]


@pytest.mark.parametrize(
    ("message_id", "task_type", "given_up", "age"),
    [
        (None, GRAPH, False, "1 minute"),
        ("m", "GRAPH_SUMMARY_RESULT", False, "1 minute"),
        ("m", GRAPH, True, "1 minute"),
        ("m", GRAPH, False, "17 minutes"),
    ],
    ids=["of a message that was handled", "of another task", "of a dead letter", "longer ago than any back-off"],
)
def test_an_attempt_after_which_none_follows_holds_no_task_up(
    register: Register, query: Query, message_id: str | None, task_type: str, given_up: bool, age: str
) -> None:
    register()
    query(ATTEMPT, message_id, task_type, given_up, age)

    sweep()

    assert ended(query) == ["t1"]


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


@pytest.mark.parametrize("status", ["CREATING", "UPDATING"])
def test_a_status_that_no_open_task_explains_is_derived_after_the_time_out(query: Query, status: str) -> None:
    query(
        "INSERT INTO graphs (user_id, status, status_before, updated_at) VALUES"
        " ('ada', %s, 'UPDATED', now() - interval '121 minutes'), ('bob', %s, 'UPDATED', now())",
        status,
        status,
    )

    settle_stale_statuses(broker)

    assert query("SELECT user_id, status, status_before FROM graphs ORDER BY user_id") == [
        ("ada", "UPDATED", None),
        ("bob", status, "UPDATED"),
    ]


def test_a_status_that_an_open_task_explains_stays(register: Register, query: Query) -> None:
    query("INSERT INTO graphs (user_id, status, updated_at) VALUES ('ada', 'CREATING', now() - interval '1 day')")
    register(age="1 minute")

    settle_stale_statuses(broker)

    assert query("SELECT status FROM graphs") == [("CREATING",)]


def test_a_status_of_a_locked_user_waits_for_a_later_sweep(query: Query) -> None:
    query("INSERT INTO graphs (user_id, status, updated_at) VALUES ('ada', 'CREATING', now() - interval '1 day')")
    query("INSERT INTO graphs (user_id, status, updated_at) VALUES ('bob', 'CREATING', now() - interval '2 hours 1 s')")
    query("SELECT pg_advisory_lock(hashtextextended('ada', 0))")

    settle_stale_statuses(broker)

    assert query("SELECT user_id, status FROM graphs ORDER BY user_id") == [("ada", "CREATING"), ("bob", "NOT_CREATED")]
