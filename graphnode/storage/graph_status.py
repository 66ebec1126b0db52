"""The status of a graph: derived from its user's tasks and its content, whenever one of them changes."""

from __future__ import annotations

from datetime import timedelta

from graphnode.storage.database import Bound, database
from graphnode.storage.statements import Statement, run
from graphnode.storage.tasks import TaskKey

#: The tasks that change a graph, by the type of their result.
TASK_TYPES = ("GRAPH_GENERATION_RESULT", "ADD_NODE_RESULT")

#: Derives the statuses of a graph, and stores them if they have changed. Its row says what last changed the content,
#: unless an earlier release has lost that. While tasks are open, the one that was registered last counts. A user
#: without a row gets one, but a forgotten user has none: all later tasks are SUPERSEDED. Uses the index
#: `tasks_open_of_user`.
DERIVE = Statement(f"""
INSERT INTO graphs (user_id, status, status_before, updated_at)
SELECT %(user_id)s, coalesce(under_way, settled), CASE WHEN under_way IS NOT NULL THEN settled END, now()
FROM (
    SELECT graphs.user_id,
        CASE WHEN status IN ('CREATED', 'UPDATED') THEN status
             WHEN status_before IN ('CREATED', 'UPDATED') THEN status_before
             WHEN node_count > 0 THEN CASE WHEN source_timestamp IS NULL THEN 'UPDATED' ELSE 'CREATED' END
             ELSE 'NOT_CREATED' END AS settled,
        (SELECT CASE task_type WHEN 'GRAPH_GENERATION_RESULT' THEN 'CREATING' ELSE 'UPDATING' END FROM tasks
         WHERE user_id = %(user_id)s AND task_type IN {TASK_TYPES} AND status IN ('PENDING', 'PROGRESS')
             AND (task_id, task_type) <> (%(ended_id)s, %(ended_type)s)
         ORDER BY created_at DESC, task_id DESC LIMIT 1) AS under_way
    FROM (VALUES (1)) AS one LEFT JOIN graphs ON graphs.user_id = %(user_id)s
) AS derived
WHERE user_id IS NOT NULL OR %(has_effect)s OR EXISTS (
    SELECT FROM tasks
    WHERE user_id = %(user_id)s AND task_type IN {TASK_TYPES} AND status <> 'SUPERSEDED'
        AND (task_id, task_type) <> (%(ended_id)s, %(ended_type)s))
ON CONFLICT (user_id) DO UPDATE
SET status = EXCLUDED.status, status_before = EXCLUDED.status_before, updated_at = EXCLUDED.updated_at
WHERE (graphs.status, graphs.status_before) IS DISTINCT FROM (EXCLUDED.status, EXCLUDED.status_before)
""")  # noqa: S608

#: Uses the indexes `graphs_under_way` and `tasks_open_of_user`.
STALE = f"""
SELECT user_id FROM graphs
WHERE status IN ('CREATING', 'UPDATING') AND updated_at < now() - make_interval(secs => %(seconds)s)
    AND NOT EXISTS (
        SELECT FROM tasks
        WHERE user_id = graphs.user_id AND task_type IN {TASK_TYPES} AND status IN ('PENDING', 'PROGRESS'))
ORDER BY updated_at LIMIT %(most)s
"""  # noqa: S608


def derivation(user_id: str, *, ended: TaskKey | None = None, superseded: bool = False) -> Bound:
    """The statement that derives the status of a user's graph, and stores it if it has changed.

    Run it in the transaction that registers or ends a task of TASK_TYPES, after the content is written.

    Parameters:
      ended: a task that the transaction ends later.
      superseded: whether it ends without an effect.
    """
    key = ended or TaskKey("", "")
    has_effect = ended is not None and not superseded
    return DERIVE.bind(user_id=user_id, ended_id=key.task_id, ended_type=key.task_type, has_effect=has_effect)


def derive_status(user_id: str) -> None:
    """As `derivation`, at once."""
    run(derivation(user_id))


def stale_statuses(*, older_than: timedelta, most: int) -> list[str]:
    """Users whose graph is CREATING or UPDATING without an open task, untouched for this long; the oldest first.

    A worker of an earlier release left it so, or the API server has not registered its task.

    Parameters:
      most: the most users.
    """
    values = {"seconds": older_than.total_seconds(), "most": most}
    return [user_id for (user_id,) in database.execute_sql(STALE, values)]
