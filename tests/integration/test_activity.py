"""The counts of `graphnode status`, and what they cost when the tables are large."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from graphnode.operations.status.sources import read_activity
from graphnode.storage import activity
from graphnode.storage.database import database
from tests.integration.conftest import PutTasks, Query

pytestmark = pytest.mark.usefixtures("storage")


def test_an_empty_database_has_only_zeros() -> None:
    found = read_activity()

    assert (found.open_tasks, found.ended.counts, found.retrying, found.workers) == ([], {}, 0, [])
    assert (found.throughput.last_hour, found.notifications.count) == (0, 0)


def test_tasks_are_counted_by_state_and_by_when_they_ended(put_tasks: PutTasks) -> None:
    put_tasks(3, "PENDING", "10 minutes")
    put_tasks(1, "PROGRESS", "2 minutes")
    put_tasks(2, "COMPLETED", "30 seconds")
    put_tasks(3, "FAILED", "3 minutes")
    put_tasks(4, "COMPLETED", "30 minutes")
    put_tasks(5, "SUPERSEDED", "2 days")

    found = read_activity()

    assert [(open_.status, open_.count) for open_ in found.open_tasks] == [("PENDING", 3), ("PROGRESS", 1)]
    assert found.at - found.open_tasks[0].oldest_news_at >= timedelta(minutes=10)
    assert found.ended.counts == {"COMPLETED": 6, "FAILED": 3, "SUPERSEDED": 5}
    assert found.ended.is_exact
    ended = found.throughput
    assert (ended.last_minute, ended.last_5_minutes, ended.last_hour, ended.failed_in_the_hour) == (2, 5, 9, 3)
    assert ended.since is None


@pytest.mark.parametrize(("most", "is_exact"), [(2, False), (3, True)])
def test_failures_that_reach_the_bound_are_no_exact_count(
    query: Query, monkeypatch: pytest.MonkeyPatch, most: int, is_exact: bool
) -> None:
    monkeypatch.setattr(activity, "MOST_ATTEMPTS", most)
    for number in range(2):
        query(
            "INSERT INTO task_attempts (message_id, attempt, reason, error, given_up) VALUES (%s, 1, 'X', '', true)",
            str(number),
        )

    assert read_activity().failures_are_exact is is_exact


def test_failed_attempts_and_dead_letters_are_counted_by_reason(query: Query) -> None:
    for reason, given_up, age in (
        ("SERVICE_BUSY", False, "1 minute"),
        ("SERVICE_BUSY", False, "2 minutes"),
        ("SERVICE_BUSY", False, "2 hours"),
        ("TIME_LIMIT", False, "1 minute"),
        ("INVALID_DOCUMENT", True, "20 hours"),
        ("INVALID_DOCUMENT", True, "2 days"),
    ):
        query(
            "INSERT INTO task_attempts (task_id, task_type, attempt, reason, error, given_up, failed_at)"
            " VALUES ('t', 'x', 1, %s, '', %s, now() - %s::interval)",
            reason,
            given_up,
            age,
        )
    query(
        "INSERT INTO task_attempts (message_id, attempt, reason, error, given_up, failed_at)"
        " VALUES ('m', 1, 'OLD', '', false, now() - interval '2 hours'), ('m', 2, 'OLD', '', false,"
        " now() - interval '2 hours'), ('n', 1, 'OLD', '', false, now() - interval '2 days')"
    )

    found = read_activity()

    assert found.failed_attempts == {"SERVICE_BUSY": 2, "TIME_LIMIT": 1}
    assert found.given_up == {"INVALID_DOCUMENT": 1}
    assert found.retrying == 1


def test_notifications_are_counted_until_their_push_is_settled(query: Query) -> None:
    for name, due_in in (("due", "-1 minute"), ("later", "1 minute"), ("done", None)):
        query(
            "INSERT INTO notifications (id, user_id, type, payload, event, push_status, created_at, due_at)"
            " VALUES (%s, 'ada', 'T', '{}', %s, 'PENDING', now() - interval '5 minutes', now() + %s::interval)",
            name,
            name,
            due_in,
        )

    found = read_activity()

    assert (found.notifications.count, found.notifications.due) == (2, 1)
    assert found.notifications.oldest_created_at
    assert found.at - found.notifications.oldest_created_at >= timedelta(minutes=5)


def test_a_count_ends_at_its_limit(put_tasks: PutTasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "MOST_COUNTED", 2)
    put_tasks(3, "PENDING", "1 minute")
    put_tasks(3, "COMPLETED", "1 minute")

    found = read_activity()

    assert [open_.count for open_ in found.open_tasks] == [2]
    assert found.throughput.last_hour == 2
    assert found.throughput.since


def test_a_large_table_is_estimated_from_the_statistics(
    put_tasks: PutTasks, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "COUNTED_BYTES", 0)
    put_tasks(900, "COMPLETED", "2 days")
    put_tasks(100, "FAILED", "2 days")
    put_tasks(50, "PENDING", "1 minute")
    query("ANALYZE tasks")

    ended = read_activity().ended

    assert not ended.is_exact
    assert set(ended.counts) == {"COMPLETED", "FAILED"}
    assert abs(ended.counts["COMPLETED"] - 900) < 90
    assert abs(ended.counts["FAILED"] - 100) < 10


def test_no_count_of_many_rows_reads_a_whole_table(put_tasks: PutTasks, query: Query) -> None:
    put_tasks(30_000, "COMPLETED", "2 days")
    put_tasks(20, "PENDING", "1 minute")
    put_tasks(20, "COMPLETED", "1 minute")
    query(
        "INSERT INTO task_attempts (task_id, task_type, attempt, reason, error, given_up, failed_at)"
        " SELECT 't' || n, 'x', 1, 'TIME_LIMIT', '', false, now() - interval '2 days'"
        " FROM generate_series(1, 30000) AS n"
    )
    query(
        "INSERT INTO notifications (id, user_id, type, payload, event, push_status)"
        " SELECT n, 'ada', 'T', '{}', 'e' || n, 'SENT' FROM generate_series(1, 30000) AS n"
    )
    query("UPDATE notifications SET due_at = NULL")
    query("ANALYZE tasks, task_attempts, notifications")
    most = {"most": 1_000}
    for statement in (activity.OPEN, activity.FINISHED, activity.ATTEMPTS, activity.RETRYING, activity.WAITING):
        rows = database.execute_sql(f"EXPLAIN {statement}", most).fetchall()
        plan = "\n".join(line for (line,) in rows)

        assert re.search(r"Seq Scan on (tasks|task_attempts|notifications)", plan) is None, plan
