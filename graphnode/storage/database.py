"""The database: one connection a thread, transactions under a user's lock, and COPY.

Dramatiq's time limit raises an exception in the actor's thread, at any line. So a clean-up may not have run: whoever
uses the thread's connection first closes one in which an interruption may have left a transaction open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from datetime import datetime
from struct import pack
from types import NoneType
from typing import Any, NamedTuple

import msgspec
import peewee
import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, parse_dsn

from graphnode.contract.values import MOST_AHEAD
from graphnode.errors import DatabaseFault, SettingsError, UserLocked
from graphnode.steps import step
from graphnode.storage.connections import CONNECTION, QUICK_WAIT_S, Connection, Shortage, connect, open_connections
from graphnode.storage.watchdog import Watchdog

#: Milliseconds for one statement of a transaction. The longest is a COPY of the largest features file.
STATEMENT_TIMEOUT_MS = 300_000

#: Milliseconds that a statement of a transaction waits for a lock.
LOCK_TIMEOUT_MS = 15_000

#: Milliseconds that a transaction may be idle. It releases the lock of a worker whose machine has died.
IDLE_TIMEOUT_MS = 30_000

#: Milliseconds to wait for the user's lock: whoever does not get it does something else meanwhile.
USER_LOCK_WAIT_MS = 50

#: Milliseconds for a statement outside a transaction, and for its wait for a lock. A migration holds a table for less.
SINGLE_TIMEOUT_MS = 13_000
SINGLE_LOCK_TIMEOUT_MS = 12_500

#: Seconds to wait for PostgreSQL's answer beyond its own time limit. The watchdog needs up to half a second more, so a
#: connection whose far side is silent costs its thread less than 15 s.
ANSWER_S = 1.0

#: Seconds to wait for the answer to a statement of a transaction.
TRANSACTION_WAIT_S = STATEMENT_TIMEOUT_MS / 1000 + ANSWER_S

#: Bytes that a COPY buffers, in addition to one row.
COPY_CHUNK_BYTES = 64 * 1024

#: SET LOCAL ends with the transaction. UTC: in other time zones the first and last days of the calendar are outside the
#: range of Python's datetime. Generic plans: foreign keys are checked at commit, two for each edge. In a full database
#: PostgreSQL overestimates a generic plan and plans each check again, which takes longer than the check.
SETTINGS = f"""
SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS};
SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};
SET LOCAL idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS};
SET LOCAL timezone = 'UTC';
SET LOCAL plan_cache_mode = force_generic_plan
"""

#: The latest time of a producer's clock that is believed. Workers of earlier releases have stored later ones.
NEWEST_BELIEVED = peewee.SQL(f"now() + interval '{MOST_AHEAD.total_seconds():.0f} seconds'")

#: The user's lock. PostgreSQL computes its key (64 bits), so that the API server can take the same lock.
LOCK_USER = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"


#: Takes the user's lock within a time of its own.
LOCK_USER_IN_TIME = f"SET LOCAL lock_timeout = %s; {LOCK_USER}; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"


class Bound(NamedTuple):
    """A statement with its values: SQL with a `%s` for each, as psycopg2 takes it."""

    sql: str
    values: Sequence[Any] = ()


def together(*statements: Bound) -> Bound:
    """Statements in one string. PostgreSQL runs them in one round trip, and answers the last one."""
    return Bound(
        "; ".join(statement.sql for statement in statements),
        [value for statement in statements for value in statement.values],
    )


class Beginning(NamedTuple):
    """Statements that begin a transaction, in one round trip.

    Parameters:
      statements: they wait for no lock but the user's.
      wait_s: seconds to wait for the answer.
    """

    statements: Bound
    wait_s: float = SINGLE_TIMEOUT_MS / 1000


READ_COMMITTED = Beginning(Bound(f"BEGIN ISOLATION LEVEL READ COMMITTED; {SETTINGS}"))

#: All statements see the same moment, and none writes.
SNAPSHOT = Beginning(Bound(f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {SETTINGS}"))


class Limits(NamedTuple):
    """Time limits of a statement outside a transaction, in milliseconds; 0: unlimited."""

    statement_ms: int = SINGLE_TIMEOUT_MS
    lock_ms: int = SINGLE_LOCK_TIMEOUT_MS

    def applied_to(self, statement: str) -> str:
        """The statement with its limits. PostgreSQL runs several statements in one string as one transaction."""
        limits = f"SET LOCAL statement_timeout = {self.statement_ms}; SET LOCAL lock_timeout = {self.lock_ms}"
        return f"{limits}; {statement}"

    @property
    def wait_s(self) -> float:
        """Seconds to wait for the answer."""
        return self.statement_ms / 1000 + ANSWER_S if self.statement_ms else float("inf")


_limits: ContextVar[Limits | None] = ContextVar("limits", default=Limits())  # noqa: B039 # it is immutable


class ThreadDatabase(peewee.PostgresqlDatabase):
    """peewee's database, with a connection for each thread, which connects when it needs one.

    Outside a transaction the connection is checked before each use, without a round trip, and replaced if necessary.
    """

    def __init__(self) -> None:
        super().__init__(None)
        # peewee connects under a process-wide lock, but threads share none of its connections.
        self._lock = nullcontext()
        #: Older connections are replaced before their next use; monotonic seconds.
        self.made_since = float("-inf")
        self.shortage = Shortage()

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Connect this thread."""
        with step("connect"):
            opened: bool = super().connect(reuse_if_open=reuse_if_open)
        return opened

    def _connect(self) -> Connection:
        watchdog.start()
        return self.shortage.connect(new_connection)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement; outside a transaction within the limits of `statement_limits`."""
        if self.in_transaction():
            return self._run(sql, params, wait_s=TRANSACTION_WAIT_S)
        self.renew()
        limits = _limits.get()
        if limits is None:
            return self._run(sql, params, wait_s=float("inf"))
        return self._run(limits.applied_to(sql), params, wait_s=limits.wait_s)

    def _run(self, statement: str, parameters: Any, *, wait_s: float) -> Any:
        with self._waiting(wait_s):
            return super().execute_sql(statement, parameters)  # type: ignore[no-untyped-call]

    def _waiting(self, most_s: float) -> AbstractContextManager[None]:
        connection: Connection = self.connection()  # type: ignore[no-untyped-call]
        return connection.waiting(most_s)

    def begin(self, beginning: Beginning = READ_COMMITTED) -> None:  # type: ignore[override]
        """Begin a transaction. Raises UserLocked if the user's lock is not free in time."""
        self.renew()
        try:
            self._state.begun = self._run(*beginning.statements, wait_s=beginning.wait_s)  # type: ignore[attr-defined]
        except (peewee.PeeweeException, DatabaseFault) as error:
            self.rollback()
            _raise_if_user_locked(error)
            raise

    @property
    def begun(self) -> Any:
        """The cursor of what began this thread's transaction."""
        return self._state.begun  # type: ignore[attr-defined]

    def commit(self) -> None:
        """Commit the transaction."""
        with step("commit"), self._waiting(TRANSACTION_WAIT_S):
            super().commit()

    def rollback(self) -> None:
        """Roll back. A lost connection is rolled back already: the error that lost it must stay visible."""
        with (
            suppress(peewee.InterfaceError, peewee.OperationalError, DatabaseFault),
            self._waiting(QUICK_WAIT_S),
        ):
            super().rollback()

    def renew(self) -> None:
        """Connect this thread, or replace its connection if that cannot be used."""
        connection: Connection | None = self._state.conn  # type: ignore[attr-defined]
        if connection and not connection.is_usable(made_since=self.made_since):
            self.abandon()
        if self.is_closed():
            self.connect()

    def recover(self) -> None:
        """Close this thread's connection if an interruption has left a transaction open."""
        connection: Connection | None = self._state.conn  # type: ignore[attr-defined]
        if self.in_transaction() or (connection and connection.get_transaction_status() != TRANSACTION_STATUS_IDLE):
            self.abandon()

    def give_back(self) -> None:
        """Keep this thread's connection for its next use, or close it if other threads may be waiting for one."""
        connection: Connection | None = self._state.conn  # type: ignore[attr-defined]
        if self.shortage.lasts:
            self.abandon()
        elif connection:
            connection.is_spare = True

    def abandon(self) -> None:
        """Close this thread's connection, if any; an open transaction is rolled back."""
        while self.in_transaction():
            self.pop_transaction()  # type: ignore[no-untyped-call]
        if not self.is_closed():
            self.close()


#: Opened by `open_database` in the process that uses it.
database = ThreadDatabase()


def new_connection() -> Connection:
    """A new connection to the database, in autocommit mode. The caller closes it."""
    return connect(dbname=database.database, **database.connect_params)


watchdog = Watchdog(new_connection)


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


def open_database(url: str) -> None:
    """Set the address of the database; the first use connects.

    Parameters:
      url: a libpq connection URL, `postgresql://...`; its parameters override `CONNECTION`.

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
    database.init(name, **CONNECTION | parameters)


def close_database() -> None:
    """Close the connections of all threads, and forget the address of the database."""
    database.abandon()
    for connection in open_connections():
        connection.close()
    database.connect_params.clear()
    database.init(None)
    database.shortage = Shortage()


@contextmanager
def dedicated_connection() -> Iterator[Connection]:
    """A connection beside the thread's. At the end it is closed, and an open transaction is rolled back."""
    with closing(new_connection()) as made:
        made.autocommit = False
        yield made


@contextmanager
def statement_limits(limits: Limits | None) -> Iterator[None]:
    """Give the statements outside a transaction other limits in the block.

    Parameters:
      limits: None: unlimited, and as the statement is. So also those that PostgreSQL runs in no transaction.
    """
    token = _limits.set(limits)
    try:
        yield
    finally:
        _limits.reset(token)


@contextmanager
def user_transaction(user_id: str, *then: Bound, wait_ms: int = USER_LOCK_WAIT_MS) -> Iterator[Any]:
    """Run the block as one transaction under the user's lock: committed at its end, or rolled back.

    Do not use it inside another transaction.

    Parameters:
      then: statements that run under the lock, in the round trip that begins the transaction. The block gets the last
        one's cursor.
      wait_ms: milliseconds to wait for the user's lock.

    Raises:
      UserLocked: Another session holds the user's lock.
      peewee.OperationalError, DatabaseFault: The database is away.
    """
    locking = together(READ_COMMITTED.statements, Bound(LOCK_USER_IN_TIME, (wait_ms, user_id)), *then)
    with _transaction(Beginning(locking, wait_s=READ_COMMITTED.wait_s + wait_ms / 1000)):
        yield database.begun


def try_user_lock(user_id: str, *then: Bound) -> Any:
    """Check that the user's lock is free; it is not held afterwards.

    Parameters:
      then: statements that run under the lock, in the same round trip.

    Returns the cursor of the last one.

    Raises:
      UserLocked: Another session holds it, and has not released it within `USER_LOCK_WAIT_MS`.
    """
    try:
        with statement_limits(Limits(lock_ms=USER_LOCK_WAIT_MS)):
            return database.execute_sql(*together(Bound(LOCK_USER, (user_id,)), *then))
    except peewee.OperationalError as error:
        _raise_if_user_locked(error)
        raise


def _raise_if_user_locked(error: Exception) -> None:
    """Raise UserLocked if a statement that waits for no other lock has waited in vain."""
    if isinstance(error.__context__, errors.LockNotAvailable):
        raise UserLocked from error


@contextmanager
def transaction() -> Iterator[None]:
    """Like `user_transaction`, but without a user's lock."""
    with _transaction(READ_COMMITTED):
        yield


@contextmanager
def snapshot() -> Iterator[None]:
    """Run the block as a read-only transaction in which all statements see the same moment. It takes no lock."""
    with _transaction(SNAPSHOT):
        yield


@contextmanager
def _transaction(beginning: Beginning) -> Iterator[None]:
    database.recover()
    try:
        with step("transaction"), ExitStack() as begun:
            with step("lock"):
                begun.enter_context(database.atomic(beginning))
            with step("store"):
                yield
    finally:
        database.recover()
        database.give_back()


def copy_rows(table: type[Record], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Stream rows into a table with COPY; only a chunk is in memory. Returns the number of rows.

    Call it in a transaction.

    Parameters:
      columns: the columns of the values in a row, in the same order.
      rows: values are None, text, numbers, booleans and times; lists, dicts and JSON text are written as JSON.

    Raises:
      psycopg2.Error: PostgreSQL refuses a row.
      BaseException: Whatever `rows` raises, unchanged.
    """
    return _copy(table, columns, "text", copy_lines(rows))


def copy_binary(table: type[Record], columns: Sequence[str], rows: Iterable[Sequence[bytes]]) -> int:
    """As `copy_rows`, for values that are already in PostgreSQL's binary format: faster for many numbers.

    Parameters:
      rows: each value is what its type's `recv` function reads.
    """
    return _copy(table, columns, "binary", copy_tuples(rows))


def _copy(table: type[Record], columns: Sequence[str], form: str, stream: Iterator[bytes]) -> int:
    statement = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT {})").format(
        sql.Identifier(table._meta.table_name), sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(form)
    )
    source = _CopySource(stream)
    connection: Connection = database.connection()  # type: ignore[no-untyped-call]
    with step("copy"), connection.waiting(TRANSACTION_WAIT_S), connection.cursor() as cursor:
        try:
            cursor.copy_expert(statement, source, COPY_CHUNK_BYTES)  # type: ignore[arg-type] # psycopg2 calls only `read`
        except psycopg2.Error as error:
            # If the source fails, psycopg2 raises PostgreSQL's answer to that instead of the source's error.
            if source.error is not None:
                raise source.error from error
            raise
        count: int = cursor.rowcount
        return count


def copy_lines(rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """Rows in COPY's text format, one line each. Raises TypeError for a value of a type that `COPY_TEXTS` lacks."""
    texts = COPY_TEXTS
    for row in rows:
        yield ("\t".join([texts[type(value)](value) for value in row]) + "\n").encode()


def copy_tuples(rows: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
    """Rows in COPY's binary format, with its header and its trailer."""
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for row in rows:
        yield pack(">h", len(row)) + b"".join(pack(">i", len(value)) + value for value in row)
    yield pack(">h", -1)


class _CopySource:
    """A stream of encoded rows as a file that psycopg2 can read."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self.error: BaseException | None = None
        self._stream = stream
        self._buffer = bytearray()

    def read(self, size: int) -> bytes:
        try:
            while len(self._buffer) < size and (row := next(self._stream, None)):
                self._buffer += row
        except BaseException as error:
            self.error = error
            raise
        chunk = bytes(self._buffer[:size])
        del self._buffer[:size]
        return chunk


def _escaped(text: str) -> str:
    if "\\" in text or "\t" in text or "\n" in text or "\r" in text:
        return text.translate(_ESCAPES)
    return text


def _json_text(value: object) -> str:
    return _escaped(msgspec.json.encode(value).decode())


class _Texts(dict[type, Callable[[Any], str]]):
    def __missing__(self, kind: type) -> Callable[[Any], str]:
        raise TypeError(f"COPY has no text for a {kind.__name__}")


_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})

#: Makes a value's text in COPY's text format, by its type. https://www.postgresql.org/docs/current/sql-copy.html
COPY_TEXTS = _Texts()
COPY_TEXTS[NoneType] = lambda _: r"\N"
COPY_TEXTS[str] = _escaped
COPY_TEXTS[bool] = lambda value: "t" if value else "f"
COPY_TEXTS[int] = COPY_TEXTS[float] = repr
COPY_TEXTS[datetime] = datetime.isoformat
COPY_TEXTS[dict] = COPY_TEXTS[list] = COPY_TEXTS[tuple] = COPY_TEXTS[msgspec.Raw] = _json_text
