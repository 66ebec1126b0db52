"""The worker processes: each writes from time to time that it is there, and what it has in hand."""

from __future__ import annotations

from datetime import datetime

import msgspec
from peewee import BigIntegerField, DoubleField, IntegerField, TextField
from playhouse.postgres_ext import DateTimeTZField

from graphnode.storage.database import Record, connection, database

#: Seconds after which a row is nobody's: its process ended without a stop.
FORGOTTEN_AFTER_S = 3600

#: A process that was not seen for so many of its intervals is not there any more, or cannot reach the database.
LATE_AFTER_INTERVALS = 3

#: Of the table's rows, those that are not late.
SEEN_LATELY = f"seen_at > now() - make_interval(secs => {LATE_AFTER_INTERVALS} * interval_s)"

#: Writes a process's row, and forgets those that were not seen for an hour. A query of several statements is one
#: transaction: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
NOTE = """
SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '5s';
WITH forgotten AS (
    DELETE FROM workers WHERE id IN (
        SELECT id FROM workers WHERE seen_at < now() - make_interval(secs => %(forgotten_after_s)s) AND id <> %(id)s
        FOR UPDATE SKIP LOCKED))
INSERT INTO workers (id, host, pid, version, newest_migration, threads, interval_s, started_at, seen_at, in_hand,
                     running, outage_service, outage_since, handled, retried, dead)
VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, %(newest_migration)s, %(threads)s, %(interval_s)s, %(started_at)s,
        now(), %(in_hand)s, %(running)s, %(outage_service)s, %(outage_since)s, %(handled)s, %(retried)s, %(dead)s)
ON CONFLICT (id) DO UPDATE SET
    seen_at = excluded.seen_at, in_hand = excluded.in_hand, running = excluded.running,
    outage_service = excluded.outage_service, outage_since = excluded.outage_since,
    handled = excluded.handled, retried = excluded.retried, dead = excluded.dead
"""

REMOVE = """
SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '5s';
DELETE FROM workers WHERE id = %s
"""


class WorkerRecord(Record):
    """A worker process."""

    id = TextField(primary_key=True)
    host = TextField()
    pid = IntegerField()
    version = TextField()
    #: Of those that it knows; None: it is from before there was this column.
    newest_migration = TextField(null=True)
    threads = IntegerField()
    #: Seconds between two times that it is seen, about.
    interval_s = DoubleField()
    started_at = DateTimeTZField()
    seen_at = DateTimeTZField()
    in_hand = IntegerField()
    running = IntegerField()
    outage_service = TextField(null=True)
    outage_since = DateTimeTZField(null=True)
    #: Since the start: messages that were handled, that failed and are tried again, that became dead letters.
    handled = BigIntegerField()
    retried = BigIntegerField()
    dead = BigIntegerField()

    class Meta:
        table_name = "workers"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a process says of itself; the fields are the table's."""

    id: str
    host: str
    pid: int
    version: str
    newest_migration: str
    threads: int
    interval_s: float
    started_at: datetime
    in_hand: int
    running: int
    outage_service: str | None
    outage_since: datetime | None
    handled: int
    retried: int
    dead: int


def note(seen: Seen) -> None:
    """Write a process's row, and forget those that were not seen for an hour: one statement."""
    with connection():
        database.execute_sql(NOTE, {**msgspec.structs.asdict(seen), "forgotten_after_s": FORGOTTEN_AFTER_S})


def remove(worker_id: str) -> None:
    """Forget a process that stops."""
    with connection():
        database.execute_sql(REMOVE, (worker_id,))


def present() -> list[WorkerRecord]:
    """The processes, those of a machine together, the oldest first."""
    with connection():
        return list(WorkerRecord.select().order_by(WorkerRecord.host, WorkerRecord.started_at))
