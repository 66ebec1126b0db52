"""Stuck sessions: a stopped process keeps its user's lock for as long as PostgreSQL waits for the rest of its COPY.

No time-out of PostgreSQL ends that wait, and the kernel of the process's machine answers the keepalives.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from graphnode.storage.database import database

#: Seconds after the start of its statement from which a session may be stuck.
STUCK_AFTER_S = 8.0

#: Seconds for which a COPY must have received nothing.
STILL_S = 3.0

#: The first PostgreSQL that shows the progress of a COPY.
FIRST_VERSION = 140000

#: The sessions of this database, role and application that wait for the rest of a statement.
WAITING = """
SELECT pid, extract(epoch FROM now() - query_start)::float, query_start, bytes_processed
FROM pg_stat_activity LEFT JOIN pg_stat_progress_copy USING (pid)
WHERE pg_stat_activity.datname = current_database() AND usename = current_user
    AND application_name = current_setting('application_name')
    AND state = 'active' AND wait_event = 'ClientRead' AND xact_start IS NOT NULL
    AND query_start < now() - make_interval(secs => %s)
"""


class StuckSession(NamedTuple):
    """A session that was ended.

    Parameters:
      age_s: seconds since its statement began.
    """

    pid: int
    age_s: float


def end_stuck_sessions() -> list[StuckSession]:
    """End the sessions like this one that are stuck in a COPY; returns them.

    A COPY that receives data is left alone. PostgreSQL 13 does not show that, so there nothing is ended.
    """
    (version,) = database.execute_sql("SELECT current_setting('server_version_num')::int").fetchone()
    before = _waiting() if version >= FIRST_VERSION else {}
    if not before:
        return []
    time.sleep(STILL_S)
    return [
        StuckSession(pid, round(age_s, 1))
        for (pid, *progress), age_s in _waiting().items()
        if (pid, *progress) in before
        and database.execute_sql("SELECT pg_terminate_backend(%s)", (pid,)).fetchone() == (True,)
    ]


def _waiting() -> dict[tuple[int, object, object], float]:
    """Process ID, start and progress of each waiting session, and its age in seconds."""
    rows = database.execute_sql(WAITING, (STUCK_AFTER_S,)).fetchall()
    return {(pid, began, progress): age_s for pid, age_s, began, progress in rows}
