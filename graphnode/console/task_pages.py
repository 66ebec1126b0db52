"""Tasks: a search, and a task's story."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from graphnode.console.rendering import backends, link, query_text, render
from graphnode.contract.envelopes import ROUTES
from graphnode.contract.timeouts import typed_duration
from graphnode.operations.stories.story import find_stories
from graphnode.operations.stories.timeline import timeline
from graphnode.storage.task_search import TaskCursor, TaskFilter, search_tasks
from graphnode.storage.tasks import TaskStatus

#: The types of tasks, as their rows have them.
TYPES = sorted({route.task_type for route in ROUTES.values()})


def tasks(request: Request) -> Response:
    """The tasks that match, the newest first."""
    if task_id := query_text(request, "task"):
        return RedirectResponse(link("/task", id=task_id), 303)
    status, within = query_text(request, "status"), query_text(request, "within")
    span = typed_duration(within) if within else None
    wanted = TaskFilter(
        user_id=query_text(request, "user"),
        task_type=query_text(request, "type"),
        status=next((known for known in TaskStatus if known == status), None),
        since=None if span is None else datetime.now(UTC) - span,
    )
    page = search_tasks(wanted, behind=_cursor(query_text(request, "behind")))
    shown = {"user": wanted.user_id, "type": wanted.task_type, "status": wanted.status, "within": within}
    return render(
        request,
        "tasks.html",
        page=page,
        wanted=wanted,
        within=within,
        types=TYPES,
        statuses=list(TaskStatus),
        next=page.behind and link("/tasks", **shown, behind=_written(page.behind)),
        first=link("/tasks", **shown) if query_text(request, "behind") else None,
        within_is_wrong=bool(within) and span is None,
    )


def task(request: Request) -> Response:
    """The stories of the tasks with an ID."""
    task_id = query_text(request, "id") or ""
    stories = find_stories(task_id) if task_id else []
    now = datetime.now(UTC)
    shelf = backends(request).letters.latest(refresh=False) or []
    letters = [one.info for queue in shelf for one in queue.letters if one.info.task_id == task_id]
    return render(
        request,
        "task.html",
        status=200 if stories or letters else 404,
        task_id=task_id,
        stories=[(story, timeline(story, now=now)) for story in stories],
        letters=letters,
    )


def _written(cursor: TaskCursor) -> str:
    """A cursor in a link."""
    return f"{cursor.at.timestamp():.6f}~{cursor.task_type}~{cursor.task_id}"


def _cursor(text: str | None) -> TaskCursor | None:
    """The cursor of a link; None if it is not one."""
    at, _, rest = (text or "").partition("~")
    task_type, _, task_id = rest.partition("~")
    if not task_id or not re.fullmatch(r"\d{1,11}\.\d{6}", at):
        return None
    seconds, micros = map(int, at.split("."))
    return TaskCursor(datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros), task_id, task_type)
