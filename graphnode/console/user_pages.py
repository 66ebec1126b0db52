"""Users: what is stored of one, the picture of the graph, and forgetting."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from graphnode.console.gate import Form, person_of
from graphnode.console.rendering import backends, message, query_text, render
from graphnode.operations.actions import Actor, recorded
from graphnode.operations.user_overview import user_overview
from graphnode.storage.task_search import TaskFilter, search_tasks
from graphnode.storage.users import forget_user

#: Tasks that a user's page shows.
TASKS = 10

#: The picture's own policy, which names its script and its style by their digests.
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">')


def user(request: Request) -> Response:
    """What is stored of a user, or the question which one."""
    user_id = query_text(request, "id")
    if not user_id:
        return render(request, "user.html", user_id="", found=None, tasks=[])
    found = user_overview(user_id)
    tasks = search_tasks(TaskFilter(user_id=user_id)).tasks[:TASKS]
    return render(
        request,
        "user.html",
        status=404 if found.is_empty and not tasks and not found.forgotten_at else 200,
        user_id=user_id,
        found=found,
        tasks=tasks,
    )


def graph(request: Request) -> Response:
    """The picture of a user's graph. Raises NothingStored."""
    text = backends(request).draw_graph(query_text(request, "id") or "")
    found = POLICY.search(text)
    policy = found[1] if found else "default-src 'none'"
    return HTMLResponse(
        text,
        headers={"content-security-policy": f"{policy}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"},
    )


def forget(request: Request, form: Form) -> Response:
    """Delete all data of a user whose ID was typed again."""
    user_id, person = form.get("id", [""])[0], person_of(request)
    if not user_id or form.text("typed") != user_id.strip():
        return message(
            request, "Not forgotten", "What you typed is not the user's ID. Nothing was changed.", status=400
        )
    with recorded(
        "forget",
        f"user {user_id}",
        Actor(person.name, "console"),
        because=form.text("because") or None,
        user_id=user_id,
    ) as recording:
        removed = forget_user(user_id)
        rows = {table: count for table, count in removed.rows.items() if count}
        recording.outcome = f"{sum(rows.values()):,} rows deleted; {len(removed.s3_keys):,} keys in S3 were named"
    return render(request, "forgotten.html", rows=rows, s3_keys=removed.s3_keys, entry_id=recording.entry_id)
