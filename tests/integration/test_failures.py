"""Failures are counted by message, and failed attempts are kept by task."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from graphnode.storage import activity, failures
from graphnode.storage.database import database
from graphnode.storage.failures import Subject, clear_failures, is_dead_letter, record_dead_letter, record_failure
from tests.integration.conftest import Query

pytestmark = pytest.mark.usefixtures("storage")

#: The attempts that count.
ROWS = "SELECT message_id, task_id, attempt, error FROM task_attempts WHERE message_id IS NOT NULL"

#: The task of the messages.
GRAPH = Subject("t1", "GRAPH_GENERATION_RESULT", "ada")


def fail(message_id: str = "m-1", *, error: str = "throttled", subject: Subject | None = None) -> int:
    return record_failure(message_id, reason="SERVICE_BUSY", error=error, subject=subject)


def attempts(task_id: str = "t1") -> list[tuple[int, str, str, bool]]:
    return [(one.attempt, one.reason, one.error, one.given_up) for one in failures.failed_attempts(task_id)]


def test_failures_are_counted_by_message() -> None:
    assert [fail("m-1"), fail("m-2"), fail("m-1"), fail("m-1")] == [1, 1, 2, 3]


def test_a_message_without_a_task_is_counted_too(query: Query) -> None:
    fail(error="first")
    fail(error="last")

    assert query(ROWS) == [("m-1", None, 1, "first"), ("m-1", None, 2, "last")]


@pytest.mark.parametrize("subject", [None, GRAPH], ids=["of no task", "of a task"])
def test_failures_at_the_same_time_are_all_counted(subject: Subject | None) -> None:
    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(lambda _: fail(subject=subject), range(20)))

    assert sorted(counts) == list(range(1, 21))


def test_a_message_without_a_task_that_succeeds_leaves_no_row(query: Query) -> None:
    fail("m-1")
    fail("m-2")

    clear_failures("m-1")

    assert query(ROWS) == [("m-2", None, 1, "throttled")]


@pytest.mark.parametrize("subject", [None, GRAPH], ids=["of no task", "of a task"])
def test_a_message_that_succeeded_counts_from_the_start(subject: Subject | None) -> None:
    assert [fail(subject=subject), fail(subject=subject)] == [1, 2]

    clear_failures("m-1")

    assert [fail(subject=subject), fail(subject=subject)] == [1, 2]


def test_a_tasks_attempts_outlive_its_message() -> None:
    fail(error="first", subject=GRAPH)
    fail(error="second", subject=GRAPH)
    fail("m-2", subject=GRAPH._replace(task_id="t2"))

    clear_failures("m-1")

    assert attempts() == [(1, "SERVICE_BUSY", "first", False), (2, "SERVICE_BUSY", "second", False)]


def test_a_dead_letter_is_the_last_attempt_and_later_failures_count_on() -> None:
    fail(subject=GRAPH)

    record_dead_letter("m-1", attempt=2, reason="INVALID_DOCUMENT", error="nodes: missing", subject=GRAPH)

    assert attempts() == [(1, "SERVICE_BUSY", "throttled", False), (2, "INVALID_DOCUMENT", "nodes: missing", True)]
    assert fail(subject=GRAPH) == 3


def test_a_dead_letter_may_have_the_number_of_the_failure_before_it() -> None:
    assert fail(subject=GRAPH) == 1

    record_dead_letter("m-1", attempt=1, reason="SERVICE_BUSY", error="throttled (the last)", subject=GRAPH)

    assert attempts() == [(1, "SERVICE_BUSY", "throttled", False), (1, "SERVICE_BUSY", "throttled (the last)", True)]


@pytest.mark.parametrize("subject", [None, GRAPH], ids=["of no task", "of a task"])
def test_a_dead_letter_is_found_by_its_message(subject: Subject | None) -> None:
    fail("m-1", subject=subject)
    fail("m-2", subject=subject)
    assert not is_dead_letter("m-1")

    record_dead_letter("m-1", attempt=2, reason="SERVICE_BUSY", error="throttled", subject=subject)

    assert is_dead_letter("m-1")
    assert not is_dead_letter("m-2")


def test_a_dead_letter_is_looked_up_by_the_index(query: Query) -> None:
    query(
        "INSERT INTO task_attempts (message_id, attempt, reason, error, given_up)"
        " SELECT 'm-' || n, 1, 'SERVICE_BUSY', 'busy', n % 2 = 0 FROM generate_series(1, 5000) AS n"
    )
    query("ANALYZE task_attempts")
    statements: list[tuple[str, Any]] = []
    execute: Any = database.execute_sql

    def seen(statement: str, values: Any) -> Any:
        statements.append((statement, values))
        return execute(statement, values)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(database, "execute_sql", seen)
        assert is_dead_letter("m-4000")

    ((statement, values),) = statements
    plan = " ".join(line for (line,) in query(f"EXPLAIN {statement}", *values))
    assert "task_attempts_of_message" in plan


def test_a_dead_letter_waits_for_no_retry() -> None:
    fail("m-1", subject=GRAPH)
    fail("m-2")
    assert activity.retrying() == 2

    record_dead_letter("m-1", attempt=2, reason="SERVICE_BUSY", error="throttled", subject=GRAPH)
    record_dead_letter("m-2", attempt=2, reason="SERVICE_BUSY", error="throttled", subject=None)

    assert activity.retrying() == 0


def test_a_message_may_fail_more_often_than_attempts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MOST_ATTEMPTS", 2)

    assert [fail(subject=GRAPH) for _ in range(5)] == [1, 2, 3, 4, 5]


def test_a_settled_attempt_stays_as_it_was(query: Query) -> None:
    record_failure("m-1", reason="UNEXPECTED", error="KeyError", stack="line 7", subject=GRAPH)
    (before,) = query("SELECT to_jsonb(kept) - 'message_id' FROM task_attempts AS kept")

    clear_failures("m-1")

    assert query("SELECT to_jsonb(kept) - 'message_id' FROM task_attempts AS kept") == [before]


def test_a_failure_of_a_task_is_one_statement() -> None:
    statements: list[str] = []
    execute: Any = database.execute_sql

    def seen(statement: str, *values: object) -> Any:
        statements.append(statement)
        return execute(statement, *values)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(database, "execute_sql", seen)
        fail(subject=GRAPH)
        clear_failures("m-1")

    assert statements == [failures.INSERT, failures.SETTLE]


def test_the_newest_attempts_are_kept_and_long_errors_are_truncated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(failures, "MOST_ATTEMPTS", 2)
    for number in range(4):
        fail(error=f"{number}" * 2000, subject=GRAPH)
    fail(subject=GRAPH._replace(task_id="t2"))

    kept = attempts()
    assert [attempt for attempt, *_ in kept] == [3, 4]
    assert {len(error) for _, _, error, _ in kept} == {1000}
    assert len(attempts("t2")) == 1


def test_an_attempt_without_a_user_gets_the_user_of_its_task(query: Query) -> None:
    query("INSERT INTO tasks (task_id, task_type, user_id, status) VALUES ('t1', 'X', 'ada', 'PENDING')")
    fail(subject=GRAPH._replace(user_id=None))
    assert query("SELECT user_id FROM task_attempts") == [("ada",)]


def test_an_attempt_keeps_its_stack_trace() -> None:
    record_failure("m-1", reason="UNEXPECTED", error="KeyError: 'x'", stack="line 7", subject=GRAPH)
    record_dead_letter("m-1", attempt=2, reason="UNEXPECTED", error="KeyError: 'x'", stack="line 8", subject=GRAPH)

    assert [one.stack for one in failures.failed_attempts("t1")] == ["line 7", "line 8"]
