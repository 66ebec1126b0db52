"""A search for tasks that stays fast with millions of rows: pages by key, and a bound on what a page reads.

Tasks are listed by their last news, the newest first: of an ended task its end. There are three lists, each with an
index that has it in order.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

from graphnode.storage.database import database
from graphnode.storage.tasks import OPEN, TaskStatus

#: Tasks on a page.
PAGE = 50

#: The most rows of a list that a page reads for a type: a rare one would otherwise read them all.
MOST_READ = 20_000

#: The lists: the column with the time, and the condition of the index.
LISTS = {
    "open": ("updated_at", "status IN ('PENDING', 'PROGRESS')"),
    "ended": ("finished_at", "finished_at IS NOT NULL"),
    "without effect": ("finished_at", "status IN ('FAILED', 'SUPERSEDED')"),
}

#: The columns of a found task.
COLUMNS = "task_id, task_type, user_id, status, attempts, error, created_at"

#: A list's rows: the newest that are older than the cursor, then those of them that match.
NEWEST = f"""
SELECT {COLUMNS}, at FROM (
    SELECT {COLUMNS}, {{time}} AS at FROM tasks
    WHERE {{listed}} AND {{time}} <= %(before)s AND {{time}} >= %(since)s
        AND ({{time}}, task_id, task_type) < (%(before)s, %(before_id)s, %(before_type)s)
    ORDER BY {{time}} DESC, task_id DESC, task_type DESC LIMIT %(read)s) AS newest
WHERE {{wanted}} ORDER BY at DESC, task_id DESC, task_type DESC LIMIT %(most)s
"""  # noqa: S608

#: Where a list's search ended, if it reached the bound.
BOUND = """
SELECT {time}, task_id, task_type FROM tasks
WHERE {listed} AND {time} <= %(before)s AND {time} >= %(since)s
    AND ({time}, task_id, task_type) < (%(before)s, %(before_id)s, %(before_type)s)
ORDER BY {time} DESC, task_id DESC, task_type DESC OFFSET %(read)s - 1 LIMIT 1
"""

#: A user's tasks, all of which are read: they are few. Uses the index on user_id.
OF_USER = f"""
WITH own AS MATERIALIZED (
    SELECT {COLUMNS}, coalesce(finished_at, updated_at) AS at FROM tasks WHERE user_id = %(user_id)s)
SELECT {COLUMNS}, at FROM own
WHERE at <= %(before)s AND at >= %(since)s AND (at, task_id, task_type) < (%(before)s, %(before_id)s, %(before_type)s)
    AND {{wanted}}
ORDER BY at DESC, task_id DESC, task_type DESC LIMIT %(most)s
"""  # noqa: S608


class TaskCursor(NamedTuple):
    """A place in a list: the tasks behind it are older."""

    at: datetime
    task_id: str
    task_type: str


class TaskFilter(NamedTuple):
    """Conditions on a task; None matches every task.

    Parameters:
      since: only tasks with news since then.
    """

    user_id: str | None = None
    task_type: str | None = None
    status: TaskStatus | None = None
    since: datetime | None = None


class FoundTask(msgspec.Struct, frozen=True):
    """A task in a list. `at` is its last news, or its end."""

    task_id: str
    task_type: str
    user_id: str
    status: str
    attempts: int
    error: str | None
    created_at: datetime
    at: datetime


class TaskPage(NamedTuple):
    """A page of a list.

    Parameters:
      behind: where the next page begins; None on the last one.
      is_partial: whether the search stopped at its bound: older tasks may match, even if this page has none.
    """

    tasks: list[FoundTask]
    behind: TaskCursor | None
    is_partial: bool


def search_tasks(wanted: TaskFilter, *, behind: TaskCursor | None = None) -> TaskPage:
    """A page of the tasks that match, the newest first."""
    conditions = [f"{name} = %({name})s" for name in ("task_type", "status") if getattr(wanted, name)]
    condition = " AND ".join(conditions) or "true"
    at, task_id, task_type = behind or ("infinity", "", "")
    values: dict[str, object] = {
        **wanted._asdict(),
        "since": wanted.since or "-infinity",
        "before": at,
        "before_id": task_id,
        "before_type": task_type,
        "most": PAGE + 1,
        "read": MOST_READ if conditions else PAGE + 1,
    }
    if wanted.user_id:
        return _page(_run(OF_USER.format(wanted=condition), values), bound=None)
    found: list[FoundTask] = []
    bounds: list[TaskCursor] = []
    for time, listed in _lists(wanted.status):
        rows = _run(NEWEST.format(time=time, listed=listed, wanted=condition), values)
        found += rows
        if conditions and len(rows) <= PAGE:
            bound = database.execute_sql(BOUND.format(time=time, listed=listed), values).fetchone()
            bounds += [TaskCursor(*bound)] if bound else []
    found.sort(key=_place, reverse=True)
    return _page(found, bound=max(bounds, default=None))


def _lists(status: TaskStatus | None) -> list[tuple[str, str]]:
    match status:
        case None:
            names = ["open", "ended"]
        case status if status in OPEN:
            names = ["open"]
        case TaskStatus.COMPLETED:
            names = ["ended"]
        case _:
            names = ["without effect"]
    return [LISTS[name] for name in names]


def _run(statement: str, values: dict[str, object]) -> list[FoundTask]:
    return [FoundTask(*row) for row in database.execute_sql(statement, values).fetchall()]


def _page(found: list[FoundTask], *, bound: TaskCursor | None) -> TaskPage:
    """The page of what was found, in order. What is behind a bound was not searched in every list."""
    if bound:
        found = [task for task in found if _place(task) >= bound]
    if len(found) > PAGE:
        return TaskPage(found[:PAGE], _place(found[PAGE - 1]), False)
    return TaskPage(found, bound, bound is not None)


def _place(task: FoundTask) -> TaskCursor:
    return TaskCursor(task.at, task.task_id, task.task_type)
