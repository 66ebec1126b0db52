"""The registry of worker processes: each writes regularly that it runs, and what it works on."""

from __future__ import annotations

from datetime import datetime

import msgspec
from peewee import SQL, BigIntegerField, DoubleField, IntegerField, TextField
from playhouse.postgres_ext import DateTimeTZField

from graphnode.storage.database import JsonField, Record, database

#: Seconds after which the row of a process that ended without a clean stop is deleted.
FORGOTTEN_AFTER_S = 3600

#: A process is late when its row is this many intervals old: it has died, or cannot reach the database.
LATE_AFTER_INTERVALS = 3

#: Holds for rows of processes that are not late.
SEEN_LATELY = f"seen_at > now() - make_interval(secs => {LATE_AFTER_INTERVALS} * interval_s)"

#: Writes the row of a process, and deletes rows that are older than `FORGOTTEN_AFTER_S`. A query of several statements
#: is one transaction: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
SAVE = """
SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '5s';
WITH forgotten AS (
    DELETE FROM workers WHERE id IN (
        SELECT id FROM workers WHERE seen_at < now() - make_interval(secs => %(forgotten_after_s)s) AND id <> %(id)s
        FOR UPDATE SKIP LOCKED))
INSERT INTO workers (id, host, pid, version, newest_migration, threads, interval_s, started_at, seen_at, in_hand,
                     running, runs, outage_service, outage_since, outage_error, outage_advice, handled, retried, dead)
VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, %(newest_migration)s, %(threads)s, %(interval_s)s, %(started_at)s,
        now(), %(in_hand)s, %(running)s, %(runs)s, %(outage_service)s, %(outage_since)s, %(outage_error)s,
        %(outage_advice)s, %(handled)s, %(retried)s, %(dead)s)
ON CONFLICT (id) DO UPDATE SET
    seen_at = excluded.seen_at, in_hand = excluded.in_hand, running = excluded.running,
    runs = excluded.runs,
    outage_service = excluded.outage_service, outage_since = excluded.outage_since,
    outage_error = excluded.outage_error, outage_advice = excluded.outage_advice,
    handled = excluded.handled, retried = excluded.retried, dead = excluded.dead
"""

REMOVE = """
SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '5s';
DELETE FROM workers WHERE id = %s
"""


class WorkerRecord(Record):
    """A worker process. It writes all fields but `seen_at`, which the database sets."""

    id = TextField(primary_key=True)
    host = TextField()
    pid = IntegerField()
    version = TextField()
    #: The newest migration that its code knows; None: it is older than this column.
    newest_migration = TextField(null=True)
    threads = IntegerField()
    #: Seconds between two writes of this row.
    interval_s = DoubleField()
    started_at = DateTimeTZField()
    seen_at = DateTimeTZField()
    #: Messages in flight, and how many of them an actor is handling.
    in_hand = IntegerField()
    running = IntegerField()
    #: What the actors handle just now: `RunningActor`s. None: its code is older than this column.
    runs = JsonField(null=True)
    #: What keeps it from taking messages: the service, since when, the error, and what mends it. Processes of 0.1
    #: write neither error nor advice.
    outage_service = TextField(null=True)
    outage_since = DateTimeTZField(null=True)
    outage_error = TextField(null=True)
    outage_advice = TextField(null=True)
    #: Since the start: messages that were handled, that failed and will be tried again, that became dead letters.
    handled = BigIntegerField()
    retried = BigIntegerField()
    dead = BigIntegerField()

    class Meta:
        table_name = "workers"


class RunningActor(msgspec.Struct, frozen=True):
    """A message that an actor handles. It names no task: that would be a user's."""

    actor: str
    since: datetime


class WorkerProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process as `graphnode status` shows it; the fields are the columns of `WorkerRecord`."""

    host: str
    pid: int
    version: str
    threads: int
    started_at: datetime
    seen_at: datetime
    is_late: bool
    in_hand: int
    running: int
    outage_service: str | None
    outage_since: datetime | None
    outage_error: str | None
    outage_advice: str | None
    handled: int
    retried: int
    dead: int
    runs: list[RunningActor] | None = None


def save_process(process: WorkerRecord) -> None:
    """Insert or update the row of a process, and delete rows that are older than `FORGOTTEN_AFTER_S`."""
    runs = msgspec.json.encode(process.runs).decode()
    database.execute_sql(SAVE, {**process.__data__, "runs": runs, "forgotten_after_s": FORGOTTEN_AFTER_S})


def remove_process(worker_id: str) -> None:
    """Delete the row of a process that stops."""
    database.execute_sql(REMOVE, (worker_id,))


def processes() -> list[WorkerProcess]:
    """All processes that have a row, by host; the oldest of a host first."""
    is_late = SQL(f"NOT ({SEEN_LATELY})").alias("is_late")
    query = WorkerRecord.select(WorkerRecord, is_late).order_by(WorkerRecord.host, WorkerRecord.started_at)
    return [msgspec.convert(row, WorkerProcess, from_attributes=True) for row in query]
