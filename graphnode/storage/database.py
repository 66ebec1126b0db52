"""The connection pool, transactions under a user's lock, and COPY.

Dramatiq's time limit raises an exception in the actor's thread, at any line. So a clean-up may not have run: whoever
takes a connection first closes one that an interruption may have left open in this thread.
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

#: Milliseconds for one statement. The longest is a COPY of the largest features file, streamed from S3.
STATEMENT_TIMEOUT_MS = 300_000

#: Milliseconds to wait for a lock, usually the user's. After that the message is retried, and the thread is free.
LOCK_TIMEOUT_MS = 15_000

#: Milliseconds that a transaction may be idle. It releases the lock of a worker whose machine has died.
IDLE_TIMEOUT_MS = 60_000

#: Seconds to wait for a connection when all of the pool are in use.
POOL_WAIT_S = 10

#: Connections of a worker process in addition to one per thread: for the probe and the sweeps.
SPARE_CONNECTIONS = 2

#: Seconds after which a connection is replaced, so that the pool follows a database that has moved.
CONNECTION_AGE_S = 900

#: Bytes that a COPY buffers, in addition to one row.
COPY_CHUNK_BYTES = 64 * 1024

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

#: SET LOCAL ends with the transaction. UTC: in other time zones the first and last days of the calendar are outside the
#: range of Python's datetime. Generic plans: foreign keys are checked at commit, two for each edge. In a full database
#: PostgreSQL overestimates a generic plan and plans each check again, which takes longer than the check.
BEGIN = f"""
SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS};
SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};
SET LOCAL idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS};
SET LOCAL timezone = 'UTC';
SET LOCAL plan_cache_mode = force_generic_plan;
"""

#: The user's lock. PostgreSQL computes its key (64 bits), so that the API server can take the same lock.
BEGIN_FOR_USER = f"{BEGIN} SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"


class Pool(PooledPostgresqlDatabase):
    """peewee's pool, which traces connects and commits as steps; a failed rollback does not hide its cause."""

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Take a connection, or wait for one."""
        with step("connect"):
            opened: bool = super().connect(reuse_if_open=reuse_if_open)  # type: ignore[no-untyped-call]
        return opened

    def commit(self) -> None:
        """Commit the transaction."""
        with step("commit"):
            super().commit()

    def rollback(self) -> None:
        """Roll back. A lost connection is rolled back already: the error that lost it must stay visible."""
        with suppress(peewee.InterfaceError, peewee.OperationalError):
            super().rollback()


#: Opened by `open_database` in the process that uses it. It connects only in `connection` or a transaction.
database: PooledPostgresqlDatabase = Pool(None, autoconnect=False)  # type: ignore[no-untyped-call]

# A thread has at most one connection. Its key in the pool is the thread: if an interruption loses a connection between
# pool and thread, the thread's next connection replaces it, and the lost one does not count for ever.
database.conn_key = lambda _connection: threading.get_ident()


class Record(peewee.Model):
    """A row of a table, as a peewee model."""

    class Meta:
        database = database
        legacy_table_names = False
        # The API server writes some of the columns too.
        only_save_dirty = True


class JsonField(peewee.JSONField):
    """A `jsonb` column, encoded by msgspec."""

    def __init__(self, **options: Any) -> None:
        super().__init__(dumps=lambda value: msgspec.json.encode(value).decode(), **options)


def open_database(url: str, *, max_connections: int) -> None:
    """Set the address of the database; the first use connects.

    Parameters:
      url: a libpq connection URL, `postgresql://...`; its parameters override `CONNECTION`.
      max_connections: the most connections of this process. A thread has at most one.

    Raises:
      SettingsError: The URL is malformed, or names no database.
    """
    try:
        parameters = parse_dsn(url)
    except psycopg2.ProgrammingError:
        # libpq's error text repeats the URL, including the password.
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
    """Close every connection, and forget the address of the database."""
    if not database.deferred:
        _abandon_connection()
        database.close_all()
    database.connect_params.clear()
    database.init(None)


def probe() -> None:
    """Check over a new connection that the database answers and can be written.

    Raises DatabaseOutage if it is read-only, and peewee's errors if it does not answer.
    """
    _abandon_connection()
    database.close_idle()
    with connection():
        (read_only,) = database.execute_sql("SELECT current_setting('transaction_read_only')::boolean").fetchone()
        if read_only:
            raise DatabaseOutage("PostgreSQL is read-only, probably because this node was demoted")


@contextmanager
def connection() -> Iterator[None]:
    """Hold a connection of the pool for single statements: the one that this thread holds already, if any."""
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
def dedicated_connection() -> Iterator[psycopg2.extensions.connection]:
    """A psycopg2 connection outside the pool. At the end it is closed, and an open transaction is rolled back."""
    with closing(psycopg2.connect(dbname=database.database, **database.connect_params)) as made:
        yield made


@contextmanager
def user_transaction(user_id: str) -> Iterator[None]:
    """Run the block as one transaction under the user's lock: committed at its end, or rolled back.

    Do not use it inside another transaction or `connection`.

    Raises:
      peewee.OperationalError: The database is away, or the user's lock was not free within `LOCK_TIMEOUT_MS`.
    """
    with _transaction(BEGIN_FOR_USER, user_id):
        yield


@contextmanager
def transaction() -> Iterator[None]:
    """Like `user_transaction`, but without a user's lock."""
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
    """Run the block as a read-only transaction in which all statements see the same moment. It takes no lock."""
    with connection(), database.atomic(isolation_level="REPEATABLE READ"):
        database.execute_sql("SET TRANSACTION READ ONLY; SET LOCAL timezone = 'UTC'")
        yield


def _abandon_connection() -> None:
    """Close the thread's connection, if any. It did not go back to the pool, so its state is unknown."""
    while database.in_transaction():
        database.pop_transaction()
    database.manual_close()


def copy_rows(table: type[Record], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Stream rows into a table with COPY; only a chunk is in memory. Returns the number of rows.

    Parameters:
      columns: the columns of the values in a row, in the same order.
      rows: values are None, text, numbers, booleans and times; lists and dicts become JSON, for `jsonb` and `vector`.

    Raises:
      psycopg2.Error: PostgreSQL refuses a row.
      BaseException: Whatever `rows` raises, unchanged.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table._meta.table_name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    source = _CopySource(rows)
    with step("copy"), database.cursor() as cursor:
        try:
            cursor.copy_expert(statement, source, COPY_CHUNK_BYTES)
        except psycopg2.Error as error:
            # If the source fails, psycopg2 raises PostgreSQL's answer to that instead of the source's error.
            if source.error is not None:
                raise source.error from error
            raise
        count: int = cursor.rowcount
        return count


def copy_lines(rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """Rows in COPY's text format, one line each."""
    return (b"\t".join(map(_copy_text, row)) + b"\n" for row in rows)


class _CopySource:
    """Rows as a file that psycopg2 can read."""

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
