"""Pages from templates. What a user, the AI server or SQS wrote is text: escaped, unprintable characters by number."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from graphnode import __version__
from graphnode.console.backends import Backends
from graphnode.console.charts import CHARTS, draw, duration, words
from graphnode.operations.dead_letters.advice import advice, runbook_chapter
from graphnode.text import escaped

HERE = Path(__file__)

#: The pages that the navigation names, by path.
NAVIGATION = {
    "/": "Overview",
    "/letters": "Dead letters",
    "/tasks": "Tasks",
    "/user": "Users",
    "/workers": "Workers",
    "/audit": "Audit",
}


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE.with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {"time": time_text, "age": duration, "number": _number, "json": _json}
    made.globals |= {
        "link": link,
        "draw": draw,
        "words": words,
        "CHARTS": CHARTS,
        "NAVIGATION": NAVIGATION,
        "VERSION": __version__,
        "advice": advice,
        "runbook_chapter": runbook_chapter,
    }
    return made


def _shown(value: Any) -> Any:
    """What a template prints: of text, each unprintable character by its number; nothing for None."""
    if value is None:
        return ""
    return escaped(value, but="\n") if isinstance(value, str) and not hasattr(value, "__html__") else value


def time_text(at: datetime | None) -> Markup:
    """A time in UTC; the script shows it in the viewer's zone."""
    if at is None:
        return Markup("")
    at = at.astimezone(UTC)
    shown = f"{at:%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at.isoformat(timespec="seconds"), shown, shown)


def link(path: str, **query: object) -> str:
    """A path with a query; what is None or empty is left out."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:,}"


def _json(value: Any) -> str:
    """A value as JSON, for people."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


_TEMPLATES = _environment()


def render(request: Request, template: str, /, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page.

    Parameters:
      template: its file.
      status: the HTTP status.
      values: what the template shows.
    """
    person = getattr(request.state, "person", None)
    text = _TEMPLATES.get_template(template).render(
        values | {"person": person, "path": request.url.path, "now": datetime.now(UTC)}
    )
    return HTMLResponse(text, status)


def message(request: Request, title: str, text: str, *, status: int) -> HTMLResponse:
    """A page that says one thing."""
    return render(request, "message.html", status=status, title=title, text=text)


def backends(request: Request) -> Backends:
    """What the pages read from."""
    found: Backends = request.app.state.backends
    return found


def query_text(request: Request, name: str) -> str | None:
    """A parameter of the query without spaces around it; None if it is empty."""
    return request.query_params.get(name, "").strip() or None
