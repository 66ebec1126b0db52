"""The last hour, minute by minute, from the rows that workers write anyway: a restart loses nothing.

Each statement reads the newest rows of an index, up to a limit.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from graphnode.storage.activity import MOST_ATTEMPTS
from graphnode.storage.database import database

#: The minutes that are read, the one that has begun included.
MINUTES = 60

#: The most tasks that are read, the newest first: sorting more for a percentile would take too long.
MOST_TASKS = 50_000

#: Uses the index `tasks_finished`.
ENDED = """
SELECT date_trunc('minute', finished_at),
       count(*) FILTER (WHERE status <> 'FAILED'),
       count(*) FILTER (WHERE status = 'FAILED'),
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - published_at))
           FILTER (WHERE status = 'COMPLETED')
FROM (SELECT finished_at, published_at, status FROM tasks
      WHERE finished_at > date_trunc('minute', now()) - make_interval(mins => %(minutes)s - 1)
      ORDER BY finished_at DESC LIMIT %(most)s) AS newest
GROUP BY 1
"""

#: Uses the primary key, which grows with time.
ATTEMPTS = """
SELECT date_trunc('minute', failed_at), count(*) FILTER (WHERE NOT given_up), count(*) FILTER (WHERE given_up)
FROM (SELECT failed_at, given_up FROM task_attempts ORDER BY id DESC LIMIT %(most)s) AS newest
WHERE failed_at > date_trunc('minute', now()) - make_interval(mins => %(minutes)s - 1)
GROUP BY 1
"""


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a minute.

    Parameters:
      at: its beginning.
      stored, failed: tasks that ended with and without an effect.
      retried, given_up: attempts at messages that failed; a message that is given up became a dead letter.
      median_s, slow_s: seconds from the request to the stored result, of half and of 95 % of the results; None without
        a result of a request whose time is known.
    """

    at: datetime
    stored: int = 0
    failed: int = 0
    retried: int = 0
    given_up: int = 0
    median_s: float | None = None
    slow_s: float | None = None

    @property
    def failure_rate(self) -> float | None:
        """The part of the attempts at messages that failed; None without any."""
        failures = self.retried + self.given_up
        return failures / total if (total := failures + self.stored + self.failed) else None


def last_hour() -> list[Minute]:
    """The last `MINUTES`, the oldest first."""
    minutes = database.execute_sql(
        "SELECT generate_series(date_trunc('minute', now()) - make_interval(mins => %s - 1), now(), '1 minute')",
        (MINUTES,),
    ).fetchall()
    ended = {at: rest for at, *rest in database.execute_sql(ENDED, {"minutes": MINUTES, "most": MOST_TASKS}).fetchall()}
    attempts = {
        at: rest for at, *rest in database.execute_sql(ATTEMPTS, {"minutes": MINUTES, "most": MOST_ATTEMPTS}).fetchall()
    }
    hour = []
    for (at,) in minutes:
        stored, failed, times = ended.get(at, (0, 0, None))
        retried, given_up = attempts.get(at, (0, 0))
        median, slow = times or (None, None)
        hour.append(
            Minute(
                at=at, stored=stored, failed=failed, retried=retried, given_up=given_up, median_s=median, slow_s=slow
            )
        )
    return hour
