"""The last hour, minute by minute."""

from __future__ import annotations

import pytest

from graphnode.storage.history import MINUTES, Minute, last_hour
from tests.integration.conftest import PutTasks, Query

pytestmark = pytest.mark.usefixtures("storage")


def total(name: str, hour: list[Minute]) -> int:
    return sum(getattr(minute, name) for minute in hour)


def test_a_quiet_hour_has_all_its_minutes_and_no_rate() -> None:
    hour = last_hour()

    assert len(hour) == MINUTES
    assert [minute.at for minute in hour] == sorted({minute.at for minute in hour})
    assert all(minute.failure_rate is None and minute.median_s is None for minute in hour)


def test_ends_attempts_and_times_are_counted_in_their_minute_and_older_ones_are_not(
    put_tasks: PutTasks, query: Query
) -> None:
    put_tasks(3, "COMPLETED", "10 minutes")
    put_tasks(1, "FAILED", "10 minutes")
    put_tasks(5, "COMPLETED", "2 hours")
    put_tasks(5, "PENDING", "10 minutes")
    query("UPDATE tasks SET published_at = finished_at - interval '4 seconds'")
    query(
        "INSERT INTO task_attempts (attempt, reason, error, given_up, failed_at)"
        " SELECT 1, 'X', 'x', n = 1, now() - interval '10 minutes' FROM generate_series(1, 4) AS n"
    )

    hour = last_hour()

    assert [total(name, hour) for name in ("stored", "failed", "retried", "given_up")] == [3, 1, 3, 1]
    (minute,) = (one for one in hour if one.stored)
    assert (minute.failure_rate, minute.median_s, minute.slow_s) == (0.5, 4.0, 4.0)


def test_a_result_whose_request_has_no_time_counts_without_one(put_tasks: PutTasks) -> None:
    put_tasks(2, "COMPLETED", "5 minutes")

    (minute,) = (one for one in last_hour() if one.stored)

    assert (minute.stored, minute.median_s, minute.slow_s) == (2, None, None)
