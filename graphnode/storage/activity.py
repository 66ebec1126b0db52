"""What goes on, counted: tasks, retries, dead letters, notifications. Cheap however many rows there are.

Each count reads an index of few rows, or the newest rows by their key, up to a bound; where a whole table would have to
be read, PostgreSQL's own statistics are taken. A count that reached its bound is told as such by who shows it.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from graphnode.storage.database import database

#: The most rows that one count looks at.
MOST_COUNTED = 100_000

#: The newest attempts that are looked at.
MOST_ATTEMPTS = 20_000

#: Bytes up to which a table is counted row by row: some 50,000 tasks, 30 ms.
COUNTED_BYTES = 16 << 20

#: By the index `tasks_open`.
OPEN = """
SELECT status, count(*), min(updated_at) FROM (
    SELECT status, updated_at FROM tasks WHERE status IN ('PENDING', 'PROGRESS')
    ORDER BY updated_at LIMIT %(most)s) AS open
GROUP BY status
"""

#: By the index `tasks_finished`.
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

#: From the statistics of the last ANALYZE: what share of the rows has each status, and how many rows there are.
ENDED_ABOUT = """
SELECT value, round(greatest(reltuples, 0) * frequency)::bigint
FROM pg_class, pg_stats, unnest(most_common_vals::text::text[], most_common_freqs) AS common (value, frequency)
WHERE pg_class.oid = 'tasks'::regclass
    AND schemaname = current_schema AND tablename = 'tasks' AND attname = 'status'
    AND value NOT IN ('PENDING', 'PROGRESS')
"""

#: By the key: its numbers rise with the time.
ATTEMPTS = """
SELECT reason, given_up, count(*) FILTER (WHERE failed_at > now() - interval '1 hour'), count(*)
FROM (SELECT reason, given_up, failed_at FROM task_attempts ORDER BY id DESC LIMIT %(most)s) AS newest
WHERE failed_at > now() - interval '1 day'
GROUP BY reason, given_up
"""

#: Rows of messages that are done with are gone.
RETRYING = """
SELECT count(*)
FROM (SELECT FROM message_failures WHERE failed_at > now() - interval '1 day' LIMIT %(most)s) AS failing
"""

#: By the index `notifications_due`.
WAITING = """
SELECT count(*), count(*) FILTER (WHERE due_at <= now()), min(created_at)
FROM (SELECT due_at, created_at FROM notifications WHERE due_at IS NOT NULL ORDER BY due_at LIMIT %(most)s) AS waiting
"""


class OpenTasks(msgspec.Struct, frozen=True):
    """Tasks of a status that have not ended, and when there was news of one of them last, the longest ago."""

    status: str
    count: int
    oldest_news_at: datetime


class Throughput(msgspec.Struct, frozen=True):
    """Tasks that ended in the last minute, five minutes and hour; how many of the hour's failed."""

    last_minute: int
    last_5_minutes: int
    last_hour: int
    failed_in_the_hour: int
    #: Where the count of the hour reached its bound: the oldest that was counted.
    since: datetime | None


class Ended(msgspec.Struct, frozen=True):
    """Tasks that ended, by status. Not exact: from PostgreSQL's statistics."""

    counts: dict[str, int]
    is_exact: bool


class Waiting(msgspec.Struct, frozen=True):
    """Notifications whose push is not done with, and those of them that a sweep takes next."""

    count: int
    due: int
    oldest_created_at: datetime | None


def open_tasks() -> list[OpenTasks]:
    """The tasks that have not ended."""
    return [OpenTasks(*row) for row in database.execute_sql(f"{OPEN} ORDER BY status", _most()).fetchall()]


def throughput() -> Throughput:
    """What ended lately."""
    minute, minutes, hour, failed, since = database.execute_sql(FINISHED, _most()).fetchone()
    return Throughput(minute, minutes, hour, failed, since if hour >= MOST_COUNTED else None)


def ended_tasks() -> Ended:
    """All that ended."""
    (size,) = database.execute_sql(SIZE).fetchone()
    is_exact = size <= COUNTED_BYTES
    rows = database.execute_sql(ENDED if is_exact else ENDED_ABOUT).fetchall()
    return Ended(dict(sorted(rows)), is_exact)


def attempts() -> tuple[dict[str, int], dict[str, int]]:
    """The attempts that failed in the last hour, and the tasks given up in the last day: counted by reason."""
    failed: dict[str, int] = {}
    given_up: dict[str, int] = {}
    for reason, is_last, hour, day in database.execute_sql(ATTEMPTS, {"most": MOST_ATTEMPTS}).fetchall():
        if is_last:
            given_up[reason] = day
        elif hour:
            failed[reason] = hour
    return _most_first(failed), _most_first(given_up)


def retrying() -> int:
    """The messages that have failed and are to be tried again."""
    (count,) = database.execute_sql(RETRYING, _most()).fetchone()
    return int(count)


def waiting_notifications() -> Waiting:
    """The notifications whose push is not done with."""
    return Waiting(*database.execute_sql(WAITING, _most()).fetchone())


def _most() -> dict[str, int]:
    return {"most": MOST_COUNTED}


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
