"""What each request passes: the Host check, who it is, and the headers of each answer."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graphnode.console.access import Access, Person, is_known_host

#: Only what this server sends is loaded, nothing inline runs, nobody may frame a page.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}

#: The largest form: a selection of a few thousand letters.
LARGEST_FORM = 512 * 1024

#: Paths for those who have not signed in.
OPEN_PATHS = ("/login", "/static/")


class Gate:
    """ASGI middleware around the whole console.

    Parameters:
      hosts: the names under which it is known.
      loopback: whether it listens on loopback.
    """

    def __init__(self, app: ASGIApp, access: Access, *, hosts: frozenset[str], loopback: bool) -> None:
        self.app = app
        self.access = access
        self.hosts = hosts
        self.loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to who may not ask; otherwise the scope gets the person."""
        headers = Headers(scope=scope)
        if not is_known_host(headers.get("host", ""), self.hosts, loopback=self.loopback):
            return PlainTextResponse(
                "The console is not known under this name: GRAPHNODE_CONSOLE_HOSTS has its names.\n", 421
            )
        if scope["method"] not in ("GET", "HEAD") and headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return PlainTextResponse("Another site sent this form.\n", 403)
        address = scope["client"][0] if scope["client"] else ""
        person = self.access.person(headers=headers, cookies=_cookies(headers), address=address)
        scope.setdefault("state", {})["person"] = person
        if person or scope["path"].startswith(OPEN_PATHS):
            return None
        if scope["method"] != "GET" or scope["path"] == "/live" or "x-live" in headers:
            return PlainTextResponse("Sign in first.\n", 401)
        if headers.get("sec-fetch-site") == "cross-site":
            # From a link on another site a browser sends no SameSite=Strict cookie. From this answer it does.
            return Response(
                "<!doctype html><title>GraphNode</title><meta http-equiv='refresh' content='0'>",
                200,
                media_type="text/html",
            )
        path = scope["path"] + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        return RedirectResponse(f"/login?next={quote(path, safe='')}", 303)


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def person_of(request: Request) -> Person:
    """Who asks; the gate lets nobody else in."""
    person: Person = request.state.person
    return person


def client_address(request: Request, access: Access) -> str:
    """From where somebody signs in: behind the trusted proxy, as that says."""
    address = request.client.host if request.client else ""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return forwarded if forwarded and access.is_proxy(address) else address


def is_secure(request: Request, access: Access) -> bool:
    """Whether the browser speaks TLS, with this server or with the trusted proxy."""
    address = request.client.host if request.client else ""
    forwarded = access.is_proxy(address) and request.headers.get("x-forwarded-proto") == "https"
    return request.url.scheme == "https" or forwarded


class Form(dict[str, list[str]]):
    """The fields of a form, each with its values."""

    def text(self, name: str) -> str:
        """The value of a field without spaces around it; empty if there is none."""
        return self.get(name, [""])[0].strip()


async def read_form(request: Request) -> Form | None:
    """The fields of a form; None if it is too large, or no form."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            return None
    form = Form()
    try:
        for name, value in parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=20_000):
            form.setdefault(name, []).append(value)
    except ValueError:
        return None
    return form
