"""The status of a graph: derived from its user's tasks and its content, whenever one of them changes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from graphnode.steps import is_step
from graphnode.storage.database import database
from graphnode.storage.graphs import GraphStatus

#: The tasks that change a graph, by the type of their result, with its status while one is open.
UNDER_WAY = {"GRAPH_GENERATION_RESULT": GraphStatus.CREATING, "ADD_NODE_RESULT": GraphStatus.UPDATING}

TASK_TYPES = tuple(UNDER_WAY)

#: What last changed the content of a graph.
CHANGED = (GraphStatus.CREATED, GraphStatus.UPDATED)

#: The graph's row, and the type of the user's open task that was registered last. A user without a row gets one, but a
#: forgotten user has none: all later tasks are SUPERSEDED. Uses the index `tasks_open_of_user`.
READ = f"""
SELECT status, status_before, node_count, source_timestamp,
    (SELECT task_type FROM tasks
     WHERE user_id = %(user_id)s AND task_type IN {TASK_TYPES} AND status IN ('PENDING', 'PROGRESS')
     ORDER BY created_at DESC, task_id DESC LIMIT 1),
    graphs.user_id IS NULL AND NOT EXISTS (
        SELECT FROM tasks WHERE user_id = %(user_id)s AND task_type IN {TASK_TYPES} AND status <> 'SUPERSEDED')
FROM (VALUES (1)) AS one LEFT JOIN graphs ON user_id = %(user_id)s
"""  # noqa: S608

WRITE = """
INSERT INTO graphs (user_id, status, status_before, updated_at)
VALUES (%(user_id)s, %(status)s, %(status_before)s, now())
ON CONFLICT (user_id) DO UPDATE
SET status = EXCLUDED.status, status_before = EXCLUDED.status_before, updated_at = EXCLUDED.updated_at
"""

#: Uses the indexes `graphs_under_way` and `tasks_open_of_user`.
STALE = f"""
SELECT user_id FROM graphs
WHERE status IN ('CREATING', 'UPDATING') AND updated_at < now() - make_interval(secs => %(seconds)s)
    AND NOT EXISTS (
        SELECT FROM tasks
        WHERE user_id = graphs.user_id AND task_type IN {TASK_TYPES} AND status IN ('PENDING', 'PROGRESS'))
ORDER BY updated_at LIMIT %(most)s
"""  # noqa: S608


class Statuses(NamedTuple):
    """The statuses in a graph's row.

    Parameters:
      status_before: while a task is open, what the status is without it.
    """

    status: str | None
    status_before: str | None


@is_step("graph")
def derive_status(user_id: str) -> None:
    """Derive the status of a user's graph, and store it if it has changed.

    Call it in the transaction that registers or ends a task of TASK_TYPES, after the content is written.
    """
    *row, task_type, is_forgotten = database.execute_sql(READ, {"user_id": user_id}).fetchone()
    stored = Statuses(*row[:2])
    derived = derived_statuses(stored, *row[2:], task_type=task_type)
    if derived != stored and not is_forgotten:
        database.execute_sql(WRITE, {"user_id": user_id, **derived._asdict()})


def derived_statuses(
    stored: Statuses, node_count: int | None, source_timestamp: datetime | None, *, task_type: str | None
) -> Statuses:
    """The statuses of a graph.

    Parameters:
      stored: its row's. They say what last changed the content, unless an earlier release has lost that.
      node_count: None: there is no row.
      source_timestamp: when it was sent as a whole; None: never.
      task_type: of the open task that was registered last.
    """
    settled = next((status for status in stored if status in CHANGED), None)
    if settled is None:
        settled = GraphStatus.NOT_CREATED
        if node_count:
            settled = GraphStatus.CREATED if source_timestamp else GraphStatus.UPDATED
    return Statuses(UNDER_WAY[task_type], settled) if task_type else Statuses(settled, None)


def stale_statuses(*, older_than: timedelta, most: int) -> list[str]:
    """Users whose graph is CREATING or UPDATING without an open task, untouched for this long; the oldest first.

    A worker of an earlier release left it so, or the API server has not registered its task.

    Parameters:
      most: the most users.
    """
    values = {"seconds": older_than.total_seconds(), "most": most}
    return [user_id for (user_id,) in database.execute_sql(STALE, values)]
