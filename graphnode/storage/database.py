"""The connection pool, the per-user transaction, and COPY.

Dramatiq ends an actor that runs over its time by raising an exception in its thread, at any line. So nothing here
trusts that a clean-up was reached: whoever takes a connection first closes what an interruption may have left open in
the thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from typing import Any

import msgspec
import peewee
import psycopg2
from playhouse.pool import PooledPostgresqlDatabase
from psycopg2 import sql
from psycopg2.extensions import parse_dsn

from graphnode.errors import DatabaseOutage, SettingsError
from graphnode.steps import step

#: Milliseconds one statement may take: a COPY of the largest features file, read from S3 as it goes, is one statement.
STATEMENT_TIMEOUT_MS = 300_000

#: Milliseconds to wait for a lock, the user's above all. Then the message goes back to its queue: the thread is free.
LOCK_TIMEOUT_MS = 15_000

#: Milliseconds a transaction may wait for its worker. It frees the user of a worker that vanished with its machine.
IDLE_TIMEOUT_MS = 60_000

#: Seconds to wait for one of the pool's connections when all are taken.
POOL_WAIT_S = 10

#: Connections of a worker process beyond one for each of its threads: the probe's and the sweep's.
SPARE_CONNECTIONS = 2

#: Seconds after which a connection is replaced, so that the pool follows a database that moved.
CONNECTION_AGE_S = 900

#: Bytes that a COPY holds in memory at a time, beside one row.
COPY_CHUNK_BYTES = 64 * 1024

#: What libpq is told, unless the URL says otherwise. None of it is state of a session: it holds behind PgBouncer, too.
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

#: SET LOCAL ends with the transaction. In UTC each time that was stored can be read: elsewhere the ends of the calendar
#: lie outside of Python's. Generic plans are for the look-ups of foreign keys at commit, two for each edge: left to
#: itself PostgreSQL thinks in a full database that one plan for all would be dear, and plans each look-up anew, which
#: takes longer than looking.
BEGIN = f"""
SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS};
SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};
SET LOCAL idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS};
SET LOCAL timezone = 'UTC';
SET LOCAL plan_cache_mode = force_generic_plan;
"""

#: The lock is the user's: 64 bits of a hash that PostgreSQL computes, so that the API server can take the same one.
BEGIN_FOR_USER = f"{BEGIN} SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"


class Pool(PooledPostgresqlDatabase):
    """peewee's pool: its waits and its commits are steps, and its roll-back does not hide the reason for it."""

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Take a connection, or wait for one."""
        with step("connect"):
            opened: bool = super().connect(reuse_if_open=reuse_if_open)  # type: ignore[no-untyped-call]
        return opened

    def commit(self) -> None:
        """Commit."""
        with step("commit"):
            super().commit()

    def rollback(self) -> None:
        """Roll back. On a lost connection that is done already: the error to see is the one that lost it."""
        with suppress(peewee.InterfaceError, peewee.OperationalError):
            super().rollback()


#: Opened by `open_database`, in the process that uses it. It never connects by itself: a connection has a holder.
database: PooledPostgresqlDatabase = Pool(None, autoconnect=False)  # type: ignore[no-untyped-call]

# A thread has one connection at most. Entered under the thread's name, one that an interruption lost between the pool
# and the thread is replaced by the thread's next, instead of counting for ever.
database.conn_key = lambda _connection: threading.get_ident()


class Record(peewee.Model):
    """A table of the worker's database."""

    class Meta:
        database = database
        legacy_table_names = False
        # The API server writes some of these columns, too.
        only_save_dirty = True


class JsonField(peewee.JSONField):
    """A `jsonb` column, written by msgspec."""

    def __init__(self, **options: Any) -> None:
        super().__init__(dumps=lambda value: msgspec.json.encode(value).decode(), **options)


def open_database(url: str, *, max_connections: int) -> None:
    """Say where the database is; the first use connects.

    Parameters:
      url: a libpq connection URL, `postgresql://...`; its own parameters win over `CONNECTION`.
      max_connections: how many connections this process may have. A thread has one at most.

    Raises:
      SettingsError: The URL is none, or names no database.
    """
    try:
        parameters = parse_dsn(url)
    except psycopg2.ProgrammingError:
        # libpq's own text repeats the URL, and with it the password.
        raise SettingsError("DATABASE_URL is not a PostgreSQL connection URL (postgresql://...)") from None
    name = parameters.pop("dbname", None)
    if not name:
        raise SettingsError("DATABASE_URL names no database (postgresql://user@host/database)")
    close_database()
    database.init(
        name,
        max_connections=max_connections,
        stale_timeout=CONNECTION_AGE_S,
        timeout=POOL_WAIT_S,
        **CONNECTION | parameters,
    )


def close_database() -> None:
    """Close every connection, and forget where the database is."""
    if not database.deferred:
        _abandon_connection()
        database.close_all()
    database.connect_params.clear()
    database.init(None)


def probe() -> None:
    """See whether the database answers and can be written, over a new connection.

    Raises DatabaseOutage when it is read-only, and what peewee raises when it does not answer.
    """
    _abandon_connection()
    database.close_idle()
    with connection():
        (read_only,) = database.execute_sql("SELECT current_setting('transaction_read_only')::boolean").fetchone()
        if read_only:
            raise DatabaseOutage("PostgreSQL is read-only: a node that was demoted, most likely")


@contextmanager
def connection() -> Iterator[None]:
    """Hold one of the pool's connections for single statements; the one that the thread holds already, if it does."""
    if database.is_connection_usable():
        yield
        return
    _abandon_connection()
    try:
        with database.connection_context():
            yield
    finally:
        _abandon_connection()


@contextmanager
def connection_of_its_own() -> Iterator[psycopg2.extensions.connection]:
    """A connection beside the pool's, as psycopg2 makes it; closed at the end, and what it has begun is rolled back."""
    with closing(psycopg2.connect(dbname=database.database, **database.connect_params)) as made:
        yield made


@contextmanager
def user_transaction(user_id: str) -> Iterator[None]:
    """Run the block as one transaction, alone among those of this user: committed at its end, or rolled back.

    It is the outermost user of the thread's connection, never inside another transaction or `connection`.

    Raises:
      peewee.OperationalError: The database is away, or another transaction of the user takes over `LOCK_TIMEOUT_MS`.
    """
    with _transaction(BEGIN_FOR_USER, user_id):
        yield


@contextmanager
def transaction() -> Iterator[None]:
    """Run the block as one transaction under nobody's lock, as `user_transaction` else does."""
    with _transaction(BEGIN):
        yield


@contextmanager
def _transaction(begin: str, *parameters: str) -> Iterator[None]:
    _abandon_connection()
    try:
        with step("transaction"), database:
            with step("lock"):
                database.execute_sql(begin, parameters)
            with step("store"):
                yield
    finally:
        _abandon_connection()


@contextmanager
def snapshot() -> Iterator[None]:
    """Have all that the block reads be of one moment, without a lock; it can write nothing."""
    with connection(), database.atomic(isolation_level="REPEATABLE READ"):
        database.execute_sql("SET TRANSACTION READ ONLY; SET LOCAL timezone = 'UTC'")
        yield


def _abandon_connection() -> None:
    """Close the thread's connection, if it has one: it did not go back to the pool, so nobody knows its state."""
    while database.in_transaction():
        database.pop_transaction()
    database.manual_close()


def copy_rows(table: type[Record], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Insert rows with COPY, as they come: only a chunk of them is in memory. Returns how many.

    Parameters:
      columns: the columns that a row's values are for, in their order.
      rows: None, text, numbers, booleans, times, and lists or dicts, which become JSON: right for `jsonb` and `vector`.

    Raises:
      psycopg2.Error: PostgreSQL refuses a row.
      BaseException: Whatever `rows` raises, as it is.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table._meta.table_name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    source = _CopySource(rows)
    with step("copy"), database.cursor() as cursor:
        try:
            cursor.copy_expert(statement, source, COPY_CHUNK_BYTES)
        except psycopg2.Error as error:
            # psycopg2 tells PostgreSQL that the source failed, and then raises PostgreSQL's answer to that.
            if source.error is not None:
                raise source.error from error
            raise
        count: int = cursor.rowcount
        return count


def copy_lines(rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """Rows in COPY's text format, a line each."""
    return (b"\t".join(map(_copy_text, row)) + b"\n" for row in rows)


class _CopySource:
    """Rows as the file that psycopg2 reads a COPY from."""

    def __init__(self, rows: Iterable[Sequence[object]]) -> None:
        self.error: BaseException | None = None
        self._lines = copy_lines(rows)
        self._buffer = bytearray()

    def read(self, size: int) -> bytes:
        try:
            while len(self._buffer) < size and (line := next(self._lines, None)):
                self._buffer += line
        except BaseException as error:
            self.error = error
            raise
        chunk = bytes(self._buffer[:size])
        del self._buffer[:size]
        return chunk


def _copy_text(value: object) -> bytes:
    """A value in COPY's text format. https://www.postgresql.org/docs/current/sql-copy.html"""
    match value:
        case None:
            return rb"\N"
        case str():
            return _escaped(value.encode())
        case bool():
            return b"t" if value else b"f"
        case int() | float():
            return repr(value).encode()
        case datetime():
            return value.isoformat().encode()
        case dict() | list() | tuple():
            return _escaped(msgspec.json.encode(value))
    raise TypeError(f"COPY has no text for a {type(value).__name__}")


def _escaped(text: bytes) -> bytes:
    return text.replace(b"\\", rb"\\").replace(b"\t", rb"\t").replace(b"\n", rb"\n").replace(b"\r", rb"\r")
