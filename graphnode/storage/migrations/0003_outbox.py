"""The outbox: when a sweep takes a notification, and which devices its push has not reached."""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

STATEMENTS = """
SET LOCAL lock_timeout = '5s';

ALTER TABLE notifications
    ADD COLUMN due_at timestamptz,
    ADD COLUMN retry_at timestamptz,
    ADD COLUMN remaining_tokens jsonb;

-- Set after the column is there, so that old rows have none. A worker of the version before this one writes rows that
-- way: what its crash leaves is swept, too, and of what it has pushed the sweep takes the date away.
ALTER TABLE notifications ALTER COLUMN due_at SET DEFAULT now() + interval '1 minute';

UPDATE notifications SET due_at = now() + interval '1 minute' WHERE push_status IN ('PENDING', 'SENDING');

-- Delivered rows have no date: ten million of them are not in this index.
CREATE INDEX notifications_due ON notifications (due_at) WHERE due_at IS NOT NULL;
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Add the columns and the index for sweeps."""
    db.execute_sql(STATEMENTS)
