"""Who may look at the console, and who may change something: tokens, sessions, a proxy's header."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import secrets
import time
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from graphnode.errors import SettingsError
from graphnode.settings import ConsoleSettings

#: The cookie of a session, and how long a session lasts.
COOKIE = "graphnode_session"
SESSION_S = 12 * 3600

#: So many failed logins from an address in so many seconds are enough: further ones are refused unseen.
MOST_FAILURES = 10
FAILURES_S = 900.0

#: The failures that are kept in memory.
MOST_KEPT = 1000

#: The longest name that a person may give.
LONGEST_NAME = 60


class Role(StrEnum):
    """What a person may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


class Person(NamedTuple):
    """Who asks.

    Parameters:
      may_change: whether they may change something, here.
      csrf: what each form of theirs must carry.
      has_session: whether they signed in here, and can sign out.
    """

    name: str
    role: Role
    may_change: bool
    csrf: str
    has_session: bool


class _Session(msgspec.Struct, frozen=True):
    name: str
    role: Role
    ends_at: int
    nonce: str


class Access:
    """Decides who somebody is. Without tokens and without a trusted header, everybody on this machine is an operator.

    Parameters:
      settings: the tokens, and the proxy's header.
      is_loopback: whether only this machine can connect.
      allow_changes: whether operators may change something on a shared address.
      owner: the name of who uses a console without tokens.

    Raises SettingsError if nothing protects a shared address.
    """

    def __init__(self, settings: ConsoleSettings, *, is_loopback: bool, allow_changes: bool, owner: str) -> None:
        header = settings.console_trusted_header
        if bool(header) != bool(settings.console_proxies):
            raise SettingsError(
                "GRAPHNODE_CONSOLE_TRUSTED_HEADER and GRAPHNODE_CONSOLE_PROXIES go together: set both or none."
            )
        self.tokens = {
            token: role
            for token, role in (
                (settings.console_viewer_token, Role.VIEWER),
                (settings.console_token, Role.OPERATOR),
            )
            if token
        }
        if not is_loopback and not settings.console_token and not header:
            raise SettingsError(
                "Others can connect to this address: set GRAPHNODE_CONSOLE_TOKEN, or GRAPHNODE_CONSOLE_TRUSTED_HEADER."
            )
        self.header = header.lower() if header else None
        self.proxies = _networks(settings.console_proxies or "")
        self.operators = frozenset((settings.console_operators or "").split(","))
        #: A proxy's users share a loopback address, too.
        self.is_open = is_loopback and not self.tokens and not header
        self.allows_changes = allow_changes or (is_loopback and not header)
        self.owner = owner
        # A session outlives a restart, and ends when the tokens change.
        secret = "\n".join(self.tokens) or secrets.token_hex()
        self._key = hmac.digest(secret.encode(), b"graphnode console session", "sha256")
        self._failures: deque[tuple[float, str]] = deque(maxlen=MOST_KEPT)

    def person(self, *, headers: Mapping[str, str], cookies: Mapping[str, str], address: str) -> Person | None:
        """Who sends this request; None: somebody who has to sign in.

        Parameters:
          address: from where the connection comes.
        """
        if self.is_open:
            return self._person(self.owner, Role.OPERATOR, seed=self.owner, has_session=False)
        if self.header and (name := headers.get(self.header, "").strip()) and self.is_proxy(address):
            role = Role.OPERATOR if name in self.operators else Role.VIEWER
            return self._person(name, role, seed=name, has_session=False)
        cookie = cookies.get(COOKIE, "")
        session = self._session(cookie)
        return self._person(session.name, session.role, seed=cookie, has_session=True) if session else None

    def is_proxy(self, address: str) -> bool:
        """Whether the connection comes from the trusted proxy."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.proxies)

    def sign_in(self, name: str, token: str, *, address: str, now: float | None = None) -> str | None:
        """A session's cookie; None if the token is wrong, or if too many were wrong before."""
        now = time.monotonic() if now is None else now
        if self.is_refused(address, now=now):
            return None
        # All are compared, so that the time says nothing.
        roles = [role for known, role in self.tokens.items() if hmac.compare_digest(known.encode(), token.encode())]
        if not roles:
            self._failures.append((now, address))
            return None
        session = _Session(
            " ".join(name.split())[:LONGEST_NAME] or "somebody",
            roles[-1],
            int(time.time()) + SESSION_S,
            secrets.token_hex(8),
        )
        return self._signed(msgspec.json.encode(session))

    def is_refused(self, address: str, *, now: float | None = None) -> bool:
        """Whether an address has failed too often lately."""
        now = time.monotonic() if now is None else now
        return sum(failed == address and now - at < FAILURES_S for at, failed in self._failures) >= MOST_FAILURES

    def is_csrf(self, person: Person, given: str) -> bool:
        """Whether a form was made for this person."""
        return hmac.compare_digest(person.csrf.encode(), given.encode())

    def _person(self, name: str, role: Role, *, seed: str, has_session: bool) -> Person:
        csrf = hmac.digest(self._key, b"csrf " + seed.encode(), "sha256").hex()
        return Person(name, role, role is Role.OPERATOR and self.allows_changes, csrf, has_session)

    def _signed(self, content: bytes) -> str:
        signature = hmac.digest(self._key, b"session " + content, "sha256")
        return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (content, signature))

    def _session(self, cookie: str) -> _Session | None:
        """The session of a cookie; None if it is not one of ours, or over."""
        try:
            content, signature = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in cookie.split("."))
        except (ValueError, binascii.Error):
            return None
        if not hmac.compare_digest(signature, hmac.digest(self._key, b"session " + content, "sha256")):
            return None
        session = msgspec.json.decode(content, type=_Session)
        return session if session.ends_at > time.time() else None


def _networks(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    try:
        return [ipaddress.ip_network(part) for part in text.split(",") if part]
    except ValueError as error:
        raise SettingsError(f"GRAPHNODE_CONSOLE_PROXIES: {error}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_known_host(header: str, names: frozenset[str], *, loopback: bool) -> bool:
    """Whether a Host header is one of ours: a foreign site that has its own name lead here does not read this page.

    Parameters:
      names: the host names under which the console is known.
      loopback: whether it listens on loopback: then no other IP address is its own.
    """
    host = header.rpartition(":")[0] if ":" in header and not header.endswith("]") else header
    host = host.strip("[]").lower()
    if host == "localhost" or host in names:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or not loopback
