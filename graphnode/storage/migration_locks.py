"""What keeps migrations out of each other's way, and out of the workers'.

Nothing here is state of a session, so all of it holds behind PgBouncer in transaction mode, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg2
from peewee import Database

from graphnode.storage.database import connection_of_its_own, database

#: Milliseconds that a migration waits for a lock: whoever wants the table meanwhile waits behind it. Long enough for
#: autovacuum, which gives way after `deadlock_timeout` (1 s).
LOCK_TIMEOUT_MS = 2_000

#: Milliseconds that one statement of a migration's transaction may take, and hold its locks. With the wait it is less
#: than workers have patience for a lock: no message fails for it.
STATEMENT_TIMEOUT_MS = 10_000

#: Seconds between two tries to be the only one who migrates.
TRY_S = 0.5

#: Seconds between two looks at what a migration waits for.
LOOK_S = 0.3

#: Takes the lock, or does not. The transaction then stays open and idle for as long as the migrations take. PostgreSQL
#: has `transaction_timeout` since 17.
TRY_LOCK = """
SET LOCAL idle_in_transaction_session_timeout = 0;
SELECT set_config('transaction_timeout', '0', true) WHERE current_setting('transaction_timeout', true) IS NOT NULL;
SELECT pg_try_advisory_xact_lock(%s)
"""

#: What a process waits for, and who has it: of other users PostgreSQL does not tell since when.
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
    """Bound what the transaction that has begun may wait for a lock, and how long each of its statements may take."""
    db.execute_sql(
        "SET LOCAL lock_timeout = %s; SET LOCAL statement_timeout = %s", (LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS)
    )


@contextmanager
def sole_migrator(lock: int, *, tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Be the only one who migrates while the block runs; wait for another one to end.

    The lock is a transaction's, in a connection that does nothing else: a migrator that is killed gives it back. It is
    tried for, not waited for, and held by a transaction that has no snapshot: CREATE INDEX CONCURRENTLY waits for all
    that have one, and would never end. https://www.postgresql.org/docs/current/sql-createindex.html

    Parameters:
      lock: the advisory lock's key.
      tell: is given a line when another one is at it.

    Yields: what sees to it that the lock is still held; it raises psycopg2.Error when the connection is lost.
    """
    with connection_of_its_own() as holding, holding.cursor() as cursor:
        # In READ COMMITTED, whatever this user's default is, an idle transaction has no snapshot.
        holding.set_session(isolation_level="READ COMMITTED")
        is_told = False
        while True:
            cursor.execute(TRY_LOCK, (lock,))
            if cursor.fetchone() == (True,):
                break
            holding.rollback()
            if not is_told:
                tell("Another `graphnode migrate` is at it: waiting until it has ended.")
                is_told = True
            time.sleep(TRY_S)
        yield lambda: cursor.execute("SELECT 1")


@contextmanager
def watched_waits(on_wait: Callable[[str], None]) -> Iterator[None]:
    """Look at what this thread's connection waits for while the block runs.

    Parameters:
      on_wait: is given what it waits for and who has that, once each, from another thread.
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
    # Most migrations have ended before the first look.
    if ended.wait(LOOK_S):
        return
    try:
        with connection_of_its_own() as looking, looking.cursor() as cursor:
            looking.autocommit = True
            while True:
                cursor.execute(WAITS, (pid,))
                for what, holder, who in cursor.fetchall():
                    if (what, holder) not in seen:
                        seen.add((what, holder))
                        on_wait(f"waits for {what}, which pid {holder} has ({who})")
                if ended.wait(LOOK_S):
                    return
    except psycopg2.Error as error:
        on_wait(f"waits for something that cannot be looked at ({str(error).strip()})")
