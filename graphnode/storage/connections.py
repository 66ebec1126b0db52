"""Connections to PostgreSQL: their parameters, how long each may wait for an answer, and what if there are too few."""

from __future__ import annotations

import os
import random
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from weakref import WeakSet

import psycopg2
import structlog
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from graphnode.errors import DatabaseFault, log_text

#: Seconds after which a connection is replaced, a fifth more or less, so that it follows a database that has moved.
CONNECTION_AGE_S = 900

#: Seconds to wait for an answer while a connection is opened or closed.
QUICK_WAIT_S = 5.0

#: Seconds for which a shortage lasts after PostgreSQL has last refused a connection.
SHORTAGE_S = 60.0

#: Seconds without a new connection for any thread of the process after which the waiting threads give up.
FREE_WAIT_S = 10.0

#: Seconds between two attempts to connect during a shortage: the least and the most.
ATTEMPT_PAUSES_S = (0.02, 0.1)

#: What PostgreSQL answers at a limit of the server, the role or the database (53300). psycopg2 has no SQLSTATE of a
#: refused connection.
NONE_FREE = re.compile(r"too many (clients|connections)|remaining connection slots")

#: Defaults for libpq; parameters of the URL override them. They need no session state: they work behind PgBouncer.
#: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
CONNECTION = {
    "application_name": "graphnode",
    "client_encoding": "UTF8",
    "connect_timeout": "5",  # s
    "keepalives_idle": "30",  # s
    "keepalives_interval": "10",  # s
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",  # ms
}

#: Sets the same keepalives on the server's side: it ends the session of a machine that has died. PgBouncer gives its
#: clients process IDs of its own, so behind it nothing is set: the session is also other clients'.
#: https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-TCP-KEEPALIVES-IDLE
KEEPALIVES = """
SELECT set_config(name, value, false)
FROM (VALUES ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3'),
             ('tcp_user_timeout', '30000')) AS keepalives (name, value)
WHERE pg_backend_pid() = %s
"""

log = structlog.get_logger("graphnode.storage")


class Wait(NamedTuple):
    """A thread's wait for PostgreSQL's answer.

    Parameters:
      began: monotonic seconds.
      most_s: the most seconds that it may last.
    """

    began: float
    most_s: float


class Connection(psycopg2.extensions.connection):
    """A connection whose wait for an answer another thread can see, and can end by `cut`. It closes with its thread."""

    _socket: socket.socket | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # libpq may close its own descriptor at any time, and the number is then another file's.
        self._socket = socket.socket(fileno=os.dup(self.fileno()))
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self.made_at = time.monotonic()
        self._expires_at = self.made_at + CONNECTION_AGE_S * random.uniform(0.8, 1.2)  # noqa: S311
        #: The process ID of PostgreSQL's session; None behind PgBouncer, where sessions change.
        self.session_pid: int | None = None
        #: Whether its thread only keeps it for its next use: another thread may cut it until then.
        self.is_spare = False
        #: The wait in progress.
        self.wait: Wait | None = None
        self._cut_because = ""
        with _listing:
            _listed.add(self)

    def is_usable(self, *, made_since: float) -> bool:
        """Whether a statement can begin here. It sends nothing. The connection is spare no more.

        Parameters:
          made_since: a connection that is older is not used; monotonic seconds.
        """
        self.is_spare = False
        return (
            not self.closed
            # An interrupted thread may have left a transaction open.
            and self.get_transaction_status() == TRANSACTION_STATUS_IDLE
            and self.made_at >= made_since
            and time.monotonic() < self._expires_at
            # Nothing is asked, so what comes is the end of the connection.
            and not self._readable.poll(0)
        )

    @contextmanager
    def waiting(self, most_s: float) -> Iterator[None]:
        """Run a block that waits for PostgreSQL's answer; the watchdog ends the wait after this many seconds.

        Raises:
          DatabaseFault: The watchdog has cut the connection.
        """
        self.wait = Wait(time.monotonic(), most_s)
        try:
            yield
        except BaseException as error:
            # Also an interruption: it comes only when the wait has ended, and the watchdog had to end it.
            if self._cut_because:
                raise DatabaseFault(self._cut_because) from error
            raise
        finally:
            self.wait = None

    def cut(self, why: str) -> None:
        """End the wait of the thread that uses this connection, from another thread.

        Parameters:
          why: the text of the DatabaseFault in that thread.
        """
        self._cut_because = why
        if self._socket:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; an open transaction is rolled back."""
        with self.waiting(QUICK_WAIT_S):
            super().close()
        if self._socket:
            self._socket.close()

    def __del__(self) -> None:
        # psycopg2 closes the rest, but not in a forked process, which shares it with its parent.
        if self._socket:
            self._socket.close()


_listing = threading.Lock()
_listed: WeakSet[Connection] = WeakSet()

# A forked process must not cut the connections of its parent.
os.register_at_fork(after_in_child=_listed.clear)


def open_connections() -> list[Connection]:
    """The connections of all threads."""
    with _listing:
        return [connection for connection in _listed if not connection.closed]


def connect(**parameters: Any) -> Connection:
    """A new connection in autocommit mode.

    Parameters:
      parameters: libpq's.

    Raises:
      psycopg2.OperationalError: PostgreSQL cannot be reached, or refuses the connection.
      DatabaseFault: It stopped answering.
    """
    made: Connection = psycopg2.connect(**parameters, connection_factory=Connection)
    made.autocommit = True
    pid = made.info.backend_pid
    with made.waiting(QUICK_WAIT_S), made.cursor() as cursor:
        cursor.execute(KEEPALIVES, (pid,))
        if cursor.fetchall():
            made.session_pid = pid
    return made


class Shortage:
    """Makes connections for threads; those that PostgreSQL refuses queue up until one is free.

    One thread of a process asks at a time, so that a thread that gives its connection back cannot take the next one
    before those that wait.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._refused_at = self._made_at = float("-inf")

    @property
    def lasts(self) -> bool:
        """Whether PostgreSQL has refused a connection lately: threads give theirs back when they have used it."""
        return time.monotonic() - self._refused_at < SHORTAGE_S

    def connect(self, make: Callable[[], Connection]) -> Connection:
        """A new connection. During a shortage it waits for one, as long as other threads of this process get theirs.

        Parameters:
          make: makes a connection, or raises what libpq says.

        Raises:
          psycopg2.OperationalError: PostgreSQL cannot be reached, or no thread has got a connection for `FREE_WAIT_S`.
        """
        began = time.monotonic()
        if not self.lasts:
            try:
                return make()
            except psycopg2.OperationalError as error:
                if not NONE_FREE.search(str(error)):
                    raise
        # An interruption cannot come between taking a lock in a `with` and its block.
        with self._turn:
            while True:
                try:
                    made = make()
                except psycopg2.OperationalError as error:
                    if not NONE_FREE.search(str(error)):
                        raise
                    self._begin(error)
                    if time.monotonic() - max(began, self._made_at) > FREE_WAIT_S:
                        raise
                    time.sleep(random.uniform(*ATTEMPT_PAUSES_S))  # noqa: S311
                else:
                    self._made_at = time.monotonic()
                    return made

    def _begin(self, error: psycopg2.OperationalError) -> None:
        """Begin a shortage, or prolong it: idle threads lose the connections that they keep for their next use."""
        if not self.lasts:
            log.warning(
                "PostgreSQL refuses connections: threads share those that they get",
                error=log_text(error),
                advice="graphnode doctor names the limit",
            )
        self._refused_at = time.monotonic()
        for connection in open_connections():
            if connection.is_spare:
                connection.cut("another thread needed the connection")
