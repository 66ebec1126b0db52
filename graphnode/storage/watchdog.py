"""The watchdog of database connections: libpq waits for an answer without a bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

import psycopg2

from graphnode.errors import DatabaseFault
from graphnode.storage.connections import QUICK_WAIT_S, Connection, open_connections

#: Seconds between two looks at the waits.
LOOK_S = 0.5

#: Seconds that a statement may wait before the watchdog asks whether the database answers at all, and between two
#: questions.
ASK_AFTER_S = 6.0

#: Seconds after which an idle session has sent its answer, or never got the statement.
LOST_AFTER_S = 10.0

#: Those of the sessions that work on a statement, or whose state this role may not see.
WORKING = """
SELECT pid FROM pg_stat_activity
WHERE pid = ANY (%s) AND (state <> 'active' AND state_change < now() - make_interval(secs => %s)) IS NOT TRUE
"""


class Watchdog:
    """Cuts connections that wait in vain, so that no thread waits without a bound.

    A wait ends when it exceeds its own bound. One that lasts for a while ends as soon as the database does not answer a
    new connection, or has no statement of that session.

    Parameters:
      connect: makes a connection, to ask. Raises psycopg2.OperationalError or DatabaseFault.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked_at = float("-inf")

    def start(self) -> None:
        """Start its thread, unless it runs in this process."""
        with self._starting:
            if not (self._thread and self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="database-watchdog", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_S)
            self._look()

    def _look(self) -> None:
        now, is_late = time.monotonic(), False
        for connection in open_connections():
            if wait := connection.wait:
                if now - wait.began > wait.most_s:
                    connection.cut(f"PostgreSQL did not answer within {wait.most_s:g} s")
                is_late |= now - wait.began > ASK_AFTER_S
        if is_late and now - self._asked_at > ASK_AFTER_S:
            self._asked_at = now
            threading.Thread(target=self._ask, name="database-question", daemon=True).start()

    def _ask(self) -> None:
        """Ask the database over a new connection, and cut what waits in vain."""
        asked = _late()
        pids = [connection.session_pid for connection, _ in asked if connection.session_pid]
        try:
            with closing(self._connect()) as asking, asking.waiting(QUICK_WAIT_S), asking.cursor() as cursor:
                cursor.execute(WORKING, (pids, LOST_AFTER_S))
                working = {pid for (pid,) in cursor.fetchall()}
        except (psycopg2.Error, DatabaseFault) as error:
            # It has answered if it refuses the connection, for example because it has too many.
            if "FATAL" not in str(error):
                for connection, _ in _late():
                    connection.cut("PostgreSQL answers neither this connection nor a new one")
            return
        for connection, wait in asked:
            if connection.session_pid and connection.session_pid not in working and connection.wait is wait:
                connection.cut("PostgreSQL answers, but not on this connection")


def _late() -> list[tuple[Connection, object]]:
    now = time.monotonic()
    waits = [(connection, connection.wait) for connection in open_connections()]
    return [(connection, wait) for connection, wait in waits if wait and now - wait.began > ASK_AFTER_S]
