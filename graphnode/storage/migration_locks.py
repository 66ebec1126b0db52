"""Locks and time limits of migrations: one migrator at a time, and no long waits for workers.

Nothing here needs session state, so it works behind PgBouncer in transaction mode.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg2
from peewee import Database

from graphnode.errors import log_text
from graphnode.storage.database import database, dedicated_connection

#: Milliseconds that a migration waits for a lock. Everyone else who wants the table waits behind it. It is longer than
#: `deadlock_timeout` (1 s), after which autovacuum gives way.
LOCK_TIMEOUT_MS = 2_000

#: Milliseconds for one statement of a migration in a transaction, which holds its locks meanwhile. Together with the
#: wait this is less than a worker waits for a lock: no message fails because of a migration.
STATEMENT_TIMEOUT_MS = 10_000

#: Seconds between two attempts to take the migrators' lock.
TRY_S = 0.5

#: Seconds between two checks of what a migration waits for.
LOOK_S = 0.3

#: Tries to take the lock. The transaction then stays open and idle while the migrations run, so its timeouts are off.
#: `transaction_timeout` exists since PostgreSQL 17.
TRY_LOCK = """
SET LOCAL idle_in_transaction_session_timeout = 0;
SELECT set_config('transaction_timeout', '0', true) WHERE current_setting('transaction_timeout', true) IS NOT NULL;
SELECT pg_try_advisory_xact_lock(%s)
"""

#: What a session waits for, and which session holds it. PostgreSQL hides details of other users' sessions.
WAITS = """
SELECT coalesce(waiting.relation::regclass::text, 'transactions that are older'), holder.pid,
       concat_ws(', ', nullif(holder.application_name, ''), nullif(holder.backend_type, 'client backend'),
                 'user ' || holder.usename, holder.state,
                 'since ' || to_char(holder.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC'))
FROM pg_locks AS waiting
CROSS JOIN unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
JOIN pg_stat_activity AS holder ON holder.pid = blocking.pid
WHERE waiting.pid = %s AND NOT waiting.granted
ORDER BY holder.xact_start
LIMIT 1
"""


def set_bounds(db: Database) -> None:
    """Limit the waits for locks and the time of each statement in the current transaction."""
    db.execute_sql(
        "SET LOCAL lock_timeout = %s; SET LOCAL statement_timeout = %s", (LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS)
    )


@contextmanager
def sole_migrator(lock: int, *, tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Hold the migrators' lock while the block runs; wait until another migrator has ended.

    A transaction in a dedicated connection holds the lock: if the migrator is killed, PostgreSQL releases it. CREATE
    INDEX CONCURRENTLY waits for every transaction that has a snapshot. So the holder has none, and a second migrator
    polls for the lock instead of waiting for it. https://www.postgresql.org/docs/current/sql-createindex.html

    Parameters:
      lock: the key of the advisory lock.
      tell: gets a line if another migrator is running.

    Yields: a function that checks that the lock is still held; it raises psycopg2.Error if the connection is lost.
    """
    with dedicated_connection() as holding, holding.cursor() as cursor:
        # An idle transaction has no snapshot in READ COMMITTED; the user's default may be another level.
        holding.set_session(isolation_level="READ COMMITTED")
        is_told = False
        while True:
            cursor.execute(TRY_LOCK, (lock,))
            if cursor.fetchone() == (True,):
                break
            holding.rollback()
            if not is_told:
                tell("Another `graphnode migrate` is running: waiting until it has ended.")
                is_told = True
            time.sleep(TRY_S)
        yield lambda: cursor.execute("SELECT 1")


@contextmanager
def watched_waits(on_wait: Callable[[str], None]) -> Iterator[None]:
    """Watch from another thread what this thread's connection waits for while the block runs.

    Parameters:
      on_wait: gets a text for each lock and the session that holds it, once each, in the other thread.
    """
    (pid,) = database.execute_sql("SELECT pg_backend_pid()").fetchone()
    ended = threading.Event()
    watching = threading.Thread(target=_watch, args=(pid, ended, on_wait), name="watching-waits")
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _watch(pid: int, ended: threading.Event, on_wait: Callable[[str], None]) -> None:
    seen = set()
    # Most migrations end before the first check.
    if ended.wait(LOOK_S):
        return
    try:
        with dedicated_connection() as looking, looking.cursor() as cursor:
            looking.autocommit = True
            while True:
                cursor.execute(WAITS, (pid,))
                for what, holder, who in cursor.fetchall():
                    if (what, holder) not in seen:
                        seen.add((what, holder))
                        on_wait(f"waits for {what}, which pid {holder} holds ({who})")
                if ended.wait(LOOK_S):
                    return
    except psycopg2.Error as error:
        on_wait(f"waits for something that cannot be shown ({log_text(error)})")
