"""The audit table, and one action while it runs and after."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from graphnode.console.gate import Form
from graphnode.console.rendering import backends, link, message, query_text, render
from graphnode.storage.audit import AuditEntry, entries, entry

#: Entries on a page.
PAGE = 50


def audit(request: Request) -> Response:
    """The newest entries."""
    before = query_text(request, "before")
    found = entries(before=_number(before), action=query_text(request, "action"), most=PAGE + 1)
    more = found[PAGE - 1].id if len(found) > PAGE else None
    action = query_text(request, "action")
    return render(
        request,
        "audit.html",
        entries=found[:PAGE],
        action=action,
        next=more and link("/audit", action=action, before=more),
    )


def action(request: Request) -> Response:
    """One action: how far it is, or how it ended."""
    found = _entry(query_text(request, "id"))
    if found is None:
        return message(request, "No such action", "The audit table has no entry with this ID.", status=404)
    return render(request, "action.html", entry=found, can_stop=backends(request).jobs.is_ours(found.id))


def stop(request: Request, form: Form) -> Response:
    """Stop an action of this process."""
    found = _entry(form.text("id"))
    if found is None:
        return message(request, "No such action", "The audit table has no entry with this ID.", status=404)
    backends(request).jobs.stop(found.id)
    return RedirectResponse(link("/action", id=found.id), 303)


def _entry(text: str | None) -> AuditEntry | None:
    number = _number(text)
    return None if number is None else entry(number)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 18 else None
