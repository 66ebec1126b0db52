"""PostgreSQL's own record of a run: each effect on a task, in order, and each step of a push.

Triggers write it in the worker's transactions, with rights of their own, so it contains exactly what was committed. The
contract's lock makes the effects of one user sequential, so their numbers are their order.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from psycopg2.extensions import connection

SCHEMA = """
CREATE SCHEMA chaos;

CREATE TABLE chaos.effects (
    number bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), user_id text, task_id text,
    task_type text, status text, progress_at timestamptz);
CREATE FUNCTION chaos.note_effect() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO chaos.effects (user_id, task_id, task_type, status, progress_at)
    VALUES (NEW.user_id, NEW.task_id, NEW.task_type, NEW.status, NEW.progress_at);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_effect AFTER INSERT OR UPDATE ON tasks
    FOR EACH ROW WHEN (NEW.status <> 'PENDING') EXECUTE FUNCTION chaos.note_effect();

CREATE TABLE chaos.pushes (
    number bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), notification_id text,
    attempts integer, is_done boolean);
CREATE FUNCTION chaos.note_push() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO chaos.pushes (notification_id, attempts, is_done) VALUES (NEW.id, NEW.push_attempts,
        NEW.push_status IN ('SENT', 'FAILED', 'SKIPPED') AND NEW.remaining_tokens IS NULL);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_push AFTER INSERT OR UPDATE ON notifications FOR EACH ROW EXECUTE FUNCTION chaos.note_push();

CREATE TABLE chaos.switches (disk_full boolean);
INSERT INTO chaos.switches VALUES (false);
CREATE FUNCTION chaos.take_room() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    IF (SELECT disk_full FROM chaos.switches) THEN
        RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file: No space left on device';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_room BEFORE INSERT ON graph_nodes FOR EACH STATEMENT EXECUTE FUNCTION chaos.take_room();
CREATE TRIGGER chaos_room BEFORE INSERT ON tasks FOR EACH STATEMENT EXECUTE FUNCTION chaos.take_room();
CREATE TRIGGER chaos_room BEFORE INSERT ON task_attempts FOR EACH STATEMENT EXECUTE FUNCTION chaos.take_room();
CREATE TRIGGER chaos_room BEFORE INSERT ON workers FOR EACH STATEMENT EXECUTE FUNCTION chaos.take_room();
CREATE TRIGGER chaos_room BEFORE INSERT ON notifications FOR EACH STATEMENT EXECUTE FUNCTION chaos.take_room();
"""


class Effect(NamedTuple):
    """A committed effect.

    Parameters:
      at: the time just before the commit, by the database's clock.
      progress_at: for progress, the producer's time.
    """

    at: datetime
    user_id: str
    task_id: str
    task_type: str
    status: str
    progress_at: datetime | None


class Attempt(NamedTuple):
    """An attempt that was charged to a message of a task."""

    task_id: str
    reason: str
    error: str
    at: datetime


class PushStep(NamedTuple):
    """A change of the push columns in a notification's row.

    Parameters:
      attempts: the claims so far.
      is_done: whether no push may follow.
    """

    at: datetime
    attempts: int
    is_done: bool


def read_effects(database: connection) -> list[Effect]:
    """All effects, in order."""
    with database.cursor() as cursor:
        cursor.execute("SELECT at, user_id, task_id, task_type, status, progress_at FROM chaos.effects ORDER BY number")
        return [Effect(*row) for row in cursor]


def read_pushes(database: connection) -> dict[str, list[PushStep]]:
    """The steps of each notification's push in order, by notification ID."""
    steps: dict[str, list[PushStep]] = {}
    with database.cursor() as cursor:
        cursor.execute("SELECT notification_id, at, attempts, is_done FROM chaos.pushes ORDER BY number")
        for notification_id, *step in cursor:
            steps.setdefault(notification_id, []).append(PushStep(*step))
    return steps


def read_attempts(database: connection) -> list[Attempt]:
    """The charged attempts that the worker has stored."""
    with database.cursor() as cursor:
        cursor.execute("SELECT task_id, reason, error, failed_at FROM task_attempts WHERE task_id IS NOT NULL")
        return [Attempt(*row) for row in cursor]


def ended_tasks(database: connection) -> set[str]:
    """The IDs of the tasks that have ended."""
    with database.cursor() as cursor:
        cursor.execute("SELECT task_id FROM chaos.effects WHERE status <> 'PROGRESS'")
        return {task_id for (task_id,) in cursor}
