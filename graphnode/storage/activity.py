"""Counts for `graphnode status`: tasks, retries, dead letters and notifications.

Every count is cheap however large the tables are. It reads a small index or the newest rows, up to a limit. Where only
a scan of a whole table would be exact, it uses PostgreSQL's statistics instead.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from graphnode.storage.database import database

#: The most rows that one count reads.
MOST_COUNTED = 100_000

#: The most attempts that are read, the newest first.
MOST_ATTEMPTS = 20_000

#: The largest table, in bytes, that is counted exactly: about 50,000 tasks in 30 ms.
COUNTED_BYTES = 16 << 20

#: Uses the index `tasks_open`.
OPEN = """
SELECT status, count(*), min(updated_at) FROM (
    SELECT status, updated_at FROM tasks WHERE status IN ('PENDING', 'PROGRESS')
    ORDER BY updated_at LIMIT %(most)s) AS open
GROUP BY status
"""

#: Uses the index `tasks_finished`.
FINISHED = """
SELECT count(*) FILTER (WHERE finished_at > now() - interval '1 minute'),
       count(*) FILTER (WHERE finished_at > now() - interval '5 minutes'),
       count(*),
       count(*) FILTER (WHERE status = 'FAILED'),
       min(finished_at)
FROM (SELECT finished_at, status FROM tasks WHERE finished_at > now() - interval '1 hour'
      ORDER BY finished_at DESC LIMIT %(most)s) AS finished
"""

SIZE = "SELECT pg_relation_size('tasks')"

ENDED = "SELECT status, count(*) FROM tasks WHERE status NOT IN ('PENDING', 'PROGRESS') GROUP BY status"

#: Estimated from the last ANALYZE: the number of rows, and the share of them that has each status.
ENDED_ABOUT = """
SELECT value, round(greatest(reltuples, 0) * frequency)::bigint
FROM pg_class, pg_stats, unnest(most_common_vals::text::text[], most_common_freqs) AS common (value, frequency)
WHERE pg_class.oid = 'tasks'::regclass
    AND schemaname = current_schema AND tablename = 'tasks' AND attname = 'status'
    AND value NOT IN ('PENDING', 'PROGRESS')
"""

#: Uses the primary key, which grows with time.
ATTEMPTS = """
SELECT reason, given_up, count(*) FILTER (WHERE failed_at > now() - interval '1 hour'), count(*)
FROM (SELECT reason, given_up, failed_at FROM task_attempts ORDER BY id DESC LIMIT %(most)s) AS newest
WHERE failed_at > now() - interval '1 day'
GROUP BY reason, given_up
"""

#: Attempts at a message that is settled for good name it no more, except its dead letter. Uses the index
#: `task_attempts_of_message`.
RETRYING = """
SELECT count(*)
FROM (SELECT DISTINCT message_id FROM task_attempts
      WHERE message_id IS NOT NULL AND NOT given_up AND failed_at > now() - interval '1 day' LIMIT %(most)s) AS failing
"""

#: Uses the index `notifications_due`.
WAITING = """
SELECT count(*), count(*) FILTER (WHERE due_at <= now()), min(created_at)
FROM (SELECT due_at, created_at FROM notifications WHERE due_at IS NOT NULL ORDER BY due_at LIMIT %(most)s) AS waiting
"""


class OpenTasks(msgspec.Struct, frozen=True):
    """Open tasks of one status, and the oldest `updated_at` among them."""

    status: str
    count: int
    oldest_news_at: datetime


class Throughput(msgspec.Struct, frozen=True):
    """How many tasks ended in the last minute, five minutes and hour, and how many of the last hour's failed."""

    last_minute: int
    last_5_minutes: int
    last_hour: int
    failed_in_the_hour: int
    #: The oldest end that was counted, if the hour's count reached its limit; otherwise None.
    since: datetime | None


class EndedTasks(msgspec.Struct, frozen=True):
    """How many tasks have ended, by status: counted, or estimated from PostgreSQL's statistics."""

    counts: dict[str, int]
    is_exact: bool


class WaitingNotifications(msgspec.Struct, frozen=True):
    """How many notifications still have to be pushed, and how many of them are due for the next sweep."""

    count: int
    due: int
    oldest_created_at: datetime | None


def open_tasks() -> list[OpenTasks]:
    """The open tasks, by status."""
    return [OpenTasks(*row) for row in database.execute_sql(f"{OPEN} ORDER BY status", _most()).fetchall()]


def throughput() -> Throughput:
    """How many tasks ended recently."""
    minute, minutes, hour, failed, since = database.execute_sql(FINISHED, _most()).fetchone()
    return Throughput(minute, minutes, hour, failed, since if hour >= MOST_COUNTED else None)


def ended_tasks() -> EndedTasks:
    """How many tasks have ended."""
    (size,) = database.execute_sql(SIZE).fetchone()
    is_exact = size <= COUNTED_BYTES
    rows = database.execute_sql(ENDED if is_exact else ENDED_ABOUT).fetchall()
    return EndedTasks(dict(sorted(rows)), is_exact)


class Failures(msgspec.Struct, frozen=True):
    """Failed attempts of the last hour, and messages that became dead letters in the last day, by reason.

    Parameters:
      is_exact: whether all of the day were counted; otherwise there are more.
    """

    failed: dict[str, int]
    given_up: dict[str, int]
    is_exact: bool


def failures_by_reason() -> Failures:
    """Attempts that failed, and messages that became dead letters."""
    failed: dict[str, int] = {}
    given_up: dict[str, int] = {}
    rows = database.execute_sql(ATTEMPTS, {"most": MOST_ATTEMPTS}).fetchall()
    for reason, is_last, hour, day in rows:
        if is_last:
            given_up[reason] = day
        elif hour:
            failed[reason] = hour
    return Failures(_most_first(failed), _most_first(given_up), sum(row[-1] for row in rows) < MOST_ATTEMPTS)


def retrying() -> int:
    """How many messages have failed and will be tried again."""
    (count,) = database.execute_sql(RETRYING, _most()).fetchone()
    return int(count)


def waiting_notifications() -> WaitingNotifications:
    """How many notifications still have to be pushed."""
    return WaitingNotifications(*database.execute_sql(WAITING, _most()).fetchone())


def _most() -> dict[str, int]:
    return {"most": MOST_COUNTED}


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
