"""Asks the console without a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import anyio
import httpx
from starlette.applications import Starlette

from graphnode.console.access import Access
from graphnode.console.app import make_app
from graphnode.settings import ConsoleSettings

TOKEN = "operator-token-1234"
VIEWER_TOKEN = "viewer-token-123456"

#: A name that breaks out of text, attributes and scripts, and turns the direction of what follows.
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}\u202e\x1b[31m"


def app_of(
    environment: Mapping[str, str] | None = None, *, loopback: bool = True, allow_changes: bool = False, **settings: str
) -> Starlette:
    """A console with these settings, such as `token`."""
    known = ConsoleSettings(**{f"console_{name}": value for name, value in settings.items()})
    access = Access(known, is_loopback=loopback, allow_changes=allow_changes, owner="me")
    return make_app(environment or {}, access, hosts=frozenset({"console.example.com"}), loopback=loopback)


class Browser:
    """Keeps the cookies of a session, and sends forms with the CSRF token of the newest page."""

    def __init__(self, app: Starlette, *, address: str = "127.0.0.1") -> None:
        self.app = app
        self.address = address
        self.cookies = httpx.Cookies()
        self.csrf = ""

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self._ask("GET", path, headers=headers)

    def post(
        self, path: str, data: Mapping[str, Any] | None = None, *, csrf: str | None = None, **headers: str
    ) -> httpx.Response:
        fields = {"csrf": self.csrf if csrf is None else csrf, **(data or {})}
        return self._ask("POST", path, headers=headers, data=fields)

    def sign_in(self, token: str = TOKEN, name: str = "ada", onward: str = "/") -> httpx.Response:
        return self.post("/login", {"name": name, "token": token, "next": onward})

    def _ask(self, method: str, path: str, *, headers: Mapping[str, str], **options: Any) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(self.address, 1234))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost", cookies=self.cookies
            ) as client:
                answer = await client.request(method, path, headers=names, **options)
                self.cookies = client.cookies
                return answer

        answer = anyio.run(ask)
        if found := re.search(r'name="csrf" value="(\w+)"', answer.text):
            self.csrf = found[1]
        return answer
