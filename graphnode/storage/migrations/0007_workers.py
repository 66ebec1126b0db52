"""The registry of worker processes, and an index to count tasks that ended recently."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

STATEMENTS = """
SET LOCAL lock_timeout = '5s';

-- A few rows that are written again and again: room on the page, and no index beside the key, keep it at one page.
CREATE TABLE workers (
    id             text PRIMARY KEY,
    host           text NOT NULL,
    pid            integer NOT NULL,
    version        text NOT NULL,
    threads        integer NOT NULL,
    interval_s     double precision NOT NULL,
    started_at     timestamptz NOT NULL,
    seen_at        timestamptz NOT NULL,
    in_hand        integer NOT NULL,
    running        integer NOT NULL,
    outage_service text,
    outage_since   timestamptz,
    handled        bigint NOT NULL,
    retried        bigint NOT NULL,
    dead           bigint NOT NULL
) WITH (fillfactor = 50);

-- For `graphnode status`, which counts what ended in the last hour.
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Add the table and the index."""
    db.execute_sql(STATEMENTS)
