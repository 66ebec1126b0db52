"""Signing in and out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from graphnode.console.access import COOKIE, SESSION_S, Access
from graphnode.console.gate import Form, client_address, is_secure
from graphnode.console.rendering import render


def login(request: Request) -> Response:
    """The form."""
    return render(request, "login.html", next=_own_path(request.query_params.get("next", "/")), problem="")


def sign_in(request: Request, form: Form) -> Response:
    """Begin a session, or say why not."""
    access: Access = request.app.state.access
    address, onward = client_address(request, access), _own_path(form.text("next"))
    if access.is_refused(address):
        problem = "Too many wrong tokens came from your address: try again in a quarter of an hour."
        return render(request, "login.html", status=429, next=onward, problem=problem)
    cookie = access.sign_in(form.text("name"), form.text("token"), address=address)
    if cookie is None:
        return render(request, "login.html", status=403, next=onward, problem="This token is wrong.")
    answer = RedirectResponse(onward, 303)
    answer.set_cookie(
        COOKIE, cookie, max_age=SESSION_S, httponly=True, samesite="strict", secure=is_secure(request, access)
    )
    return answer


def sign_out(_request: Request, _form: Form) -> Response:
    """End the session in this browser."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _own_path(path: str) -> str:
    """A path of this console; no other site's address is one."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"
