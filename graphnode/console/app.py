"""The console, put together: which path is which page, and what an error looks like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

import structlog
from anyio import to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from graphnode.console import (
    audit_pages,
    letter_pages,
    overview_pages,
    session_pages,
    task_pages,
    user_pages,
)
from graphnode.console.access import Access
from graphnode.console.backends import Backends
from graphnode.console.gate import Form, Gate, person_of, read_form
from graphnode.console.live import Live
from graphnode.console.rendering import HERE, backends, message
from graphnode.errors import Unexpected, classify_error
from graphnode.operations.show.palette import DARK, LIGHT, variables
from graphnode.storage.database import Limits, statement_limits

#: Threads that pages of the database are made in; each keeps a connection.
THREADS = 6

#: Milliseconds that a statement of a page may take: somebody waits.
STATEMENT_MS = 5_000

Page: TypeAlias = Callable[[Request], Response]
Change: TypeAlias = Callable[[Request, Form], Response]
Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger("graphnode.console")


def make_app(
    environment: Mapping[str, str], access: Access, *, hosts: frozenset[str] = frozenset(), loopback: bool = True
) -> Starlette:
    """The application. The storage must be open if the environment names a database.

    Parameters:
      environment: the variables of a deployment.
      access: who may do what.
      hosts: the host names under which the console is known.
      loopback: whether it listens on loopback.
    """
    own = Backends(environment)
    get = [
        Route("/", _quick(overview_pages.overview)),
        Route("/workers", _quick(overview_pages.workers)),
        Route("/letters", _quick(letter_pages.letters)),
        Route("/letter", _slow(letter_pages.letter)),
        Route("/tasks", _stored(task_pages.tasks)),
        Route("/task", _stored(task_pages.task)),
        Route("/user", _stored(user_pages.user)),
        Route("/user/graph", _stored(user_pages.graph)),
        Route("/audit", _stored(audit_pages.audit)),
        Route("/action", _stored(audit_pages.action)),
        Route("/login", _quick(session_pages.login)),
        Route("/live", Live().stream),
        Route("/static/palette.css", _quick(palette)),
        Mount("/static", StaticFiles(directory=HERE.with_name("static"))),
    ]
    post = [
        Route("/letters/check", _changing(letter_pages.check, anybody=True), methods=["POST"]),
        Route("/letters/act", _changing(_with_database(letter_pages.act)), methods=["POST"]),
        Route("/user/forget", _changing(_with_database(user_pages.forget)), methods=["POST"]),
        Route("/action/stop", _changing(_with_database(audit_pages.stop)), methods=["POST"]),
        Route("/login", _signing(session_pages.sign_in), methods=["POST"]),
        Route("/logout", _changing(session_pages.sign_out, anybody=True), methods=["POST"]),
    ]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield
        own.jobs.stop_all()

    app = Starlette(
        routes=[*get, *post], lifespan=lifespan, exception_handlers={HTTPException: _http_error, Exception: _fault}
    )
    app.state.backends, app.state.access = own, access
    app.add_middleware(Gate, access=access, hosts=hosts, loopback=loopback)
    return app


def palette(_request: Request) -> Response:
    """The colours of `graphnode show`, for both schemes, as CSS."""
    css = f":root{{{variables(LIGHT)}}}\n@media (prefers-color-scheme: dark){{:root{{{variables(DARK)}}}}}\n"
    return PlainTextResponse(css, media_type="text/css", headers={"cache-control": "max-age=3600"})


def _quick(page: Page) -> Handler:
    """A page from memory: shown even while all threads wait for a database that does not answer."""

    async def handle(request: Request) -> Response:
        return _answer(request, lambda: page(request))

    return handle


def _slow(page: Page) -> Handler:
    """A page that waits for services, in a thread."""

    async def handle(request: Request) -> Response:
        return await run_in_threadpool(_answer, request, lambda: page(request))

    return handle


def _stored(page: Page) -> Handler:
    """A page of what is stored."""

    def show(request: Request) -> Response:
        backends(request).require_database()
        return page(request)

    return _slow(show)


def _with_database(change: Change) -> Change:
    """A form's handler that needs the database."""

    def handle(request: Request, form: Form) -> Response:
        backends(request).require_database()
        return change(request, form)

    return handle


def _changing(change: Change, *, anybody: bool = False) -> Handler:
    """A form's handler. The form must be this person's, who may change things, unless `anybody` may do this."""

    async def handle(request: Request) -> Response:
        form, person = await read_form(request), person_of(request)
        access: Access = request.app.state.access
        if form is None:
            return message(request, "The form is too large", "Choose fewer letters.", status=413)
        if not access.is_csrf(person, form.text("csrf")):
            return message(
                request, "This form is out of date", "Go back, load the page again and send it again.", status=403
            )
        if not anybody and not person.may_change:
            return letter_pages.forbidden(request)
        return await run_in_threadpool(_answer, request, lambda: change(request, form))

    return handle


def _signing(change: Change) -> Handler:
    """The login's handler: there is no session yet, so there is nothing that another site could use."""

    async def handle(request: Request) -> Response:
        form = await read_form(request)
        return change(request, form if form is not None else Form())

    return handle


def _answer(request: Request, make: Callable[[], Response]) -> Response:
    """The page, or one that says what is away or wrong."""
    try:
        with statement_limits(Limits(statement_ms=STATEMENT_MS)):
            return make()
    except Exception as raised:
        error = classify_error(raised)
        if isinstance(error, Unexpected):
            raise
        return message(request, "This cannot be shown now", str(error), status=503)


async def _http_error(request: Request, raised: Exception) -> Response:
    status = raised.status_code if isinstance(raised, HTTPException) else 500
    return message(request, "There is no such page", "The address is wrong, or the page is gone.", status=status)


async def _fault(request: Request, raised: Exception) -> Response:
    log.error("a page of the console failed", path=request.url.path, exc_info=raised)
    return message(request, "This page has a fault", "The console's log says which. The other pages go on.", status=500)
