"""Who may look and change: tokens, sessions, the proxy's header, the Host header."""

from __future__ import annotations

import pytest

from graphnode.console.access import (
    COOKIE,
    FAILURES_S,
    MOST_FAILURES,
    Access,
    Person,
    Role,
    is_known_host,
    is_loopback,
)
from graphnode.errors import SettingsError
from graphnode.settings import ConsoleSettings
from tests.unit.console.asking import TOKEN, VIEWER_TOKEN

HERE = "10.0.0.9"


def access(*, loopback: bool = False, allow_changes: bool = False, **settings: str) -> Access:
    known = ConsoleSettings(**{f"console_{name}": value for name, value in settings.items()})
    return Access(known, is_loopback=loopback, allow_changes=allow_changes, owner="me")


def person(found: Access, cookie: str | None = None, address: str = HERE, **headers: str) -> Person | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return found.person(headers=named, cookies={COOKIE: cookie} if cookie else {}, address=address)


def signed_in(found: Access, token: str = TOKEN) -> str:
    cookie = found.sign_in("ada", token, address=HERE)
    assert cookie
    return cookie


class TestAddress:
    def test_a_shared_address_without_a_token_or_a_proxy_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="GRAPHNODE_CONSOLE_TOKEN"):
            access()
        with pytest.raises(SettingsError, match="GRAPHNODE_CONSOLE_TOKEN"):
            access(viewer_token=VIEWER_TOKEN)

    def test_on_loopback_without_a_token_everybody_is_an_operator_who_may_change(self) -> None:
        found = person(access(loopback=True))

        assert found
        assert (found.name, found.role, found.may_change) == ("me", Role.OPERATOR, True)

    def test_with_a_token_loopback_asks_for_it_too(self) -> None:
        assert person(access(loopback=True, token=TOKEN)) is None

    def test_a_header_without_the_proxy_that_may_send_it_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="GRAPHNODE_CONSOLE_PROXIES"):
            access(trusted_header="X-User")

    def test_a_proxy_that_is_no_network_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="GRAPHNODE_CONSOLE_PROXIES"):
            access(trusted_header="X-User", proxies="10.0.0.300")

    def test_which_addresses_are_this_machines_alone(self) -> None:
        assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
        assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com")))  # noqa: S104


class TestTokens:
    def test_each_token_gives_its_role_and_a_shared_address_is_read_only(self) -> None:
        found = access(token=TOKEN, viewer_token=VIEWER_TOKEN)

        operator, viewer = person(found, signed_in(found)), person(found, signed_in(found, VIEWER_TOKEN))

        assert operator
        assert viewer
        assert (operator.role, operator.may_change) == (Role.OPERATOR, False)
        assert (viewer.role, viewer.may_change) == (Role.VIEWER, False)

    def test_with_allow_changes_an_operator_may_change_and_a_viewer_may_not(self) -> None:
        found = access(token=TOKEN, viewer_token=VIEWER_TOKEN, allow_changes=True)

        assert (who := person(found, signed_in(found)))
        assert who.may_change
        assert (who := person(found, signed_in(found, VIEWER_TOKEN)))
        assert not who.may_change

    def test_a_wrong_token_is_refused_and_too_many_refuse_the_right_one_for_a_while(self) -> None:
        found = access(token=TOKEN)

        for _ in range(MOST_FAILURES):
            assert found.sign_in("eve", "wrong", address=HERE, now=100) is None
        assert found.sign_in("ada", TOKEN, address=HERE, now=101) is None
        assert found.sign_in("ada", TOKEN, address="10.0.0.10", now=101) is not None
        assert found.sign_in("ada", TOKEN, address=HERE, now=101 + FAILURES_S) is not None

    def test_a_changed_cookie_is_nobody(self) -> None:
        found = access(token=TOKEN)
        cookie = signed_in(found)

        for changed in (
            cookie[:-2] + "xx",
            "x" + cookie,
            cookie.replace(".", ""),
            cookie + ".x",
            "é",
            "a.b",
            "..",
            ".",
        ):
            assert person(found, changed) is None, changed

    def test_a_session_ends_when_its_time_is_over_and_when_the_token_changes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = access(token=TOKEN)
        cookie = signed_in(found)

        assert person(access(token=TOKEN), cookie), "a restart ends no session"
        assert person(access(token="another-token-1234"), cookie) is None
        monkeypatch.setattr("time.time", lambda: 4e9)
        assert person(found, cookie) is None

    def test_a_form_of_one_session_is_no_form_of_another(self) -> None:
        found = access(token=TOKEN)
        one, other = (person(found, signed_in(found)) for _ in range(2))

        assert one
        assert other
        assert found.is_csrf(one, one.csrf)
        assert not found.is_csrf(one, other.csrf)
        assert not found.is_csrf(one, "")


class TestProxy:
    def test_its_header_counts_from_its_address_alone(self) -> None:
        found = access(trusted_header="X-User", proxies="10.0.0.7,fd00::/8", operators="ada")

        assert (ada := person(found, address="10.0.0.7", x_user="ada"))
        assert ada.role is Role.OPERATOR
        assert (bob := person(found, address="fd00::1", x_user="bob"))
        assert bob.role is Role.VIEWER
        assert person(found, address="10.0.0.8", x_user="ada") is None
        assert person(found, address="127.0.0.1", x_user="ada") is None
        assert person(found, address="10.0.0.7") is None

    def test_behind_it_loopback_is_a_shared_address(self) -> None:
        found = access(loopback=True, trusted_header="X-User", proxies="127.0.0.1", operators="ada")

        assert person(found, address="127.0.0.1") is None
        assert (ada := person(found, address="127.0.0.1", x_user="ada"))
        assert not ada.may_change


class TestHost:
    NAMES = frozenset({"console.example.com"})

    def test_our_own_names_are_known(self) -> None:
        for host in ("localhost", "localhost:8650", "127.0.0.1:8650", "[::1]:8650", "[::1]", "CONSOLE.example.com:443"):
            assert is_known_host(host, self.NAMES, loopback=True), host

    def test_a_foreign_name_is_not(self) -> None:
        for host in (
            "",
            "evil.example",
            "evil.example:8650",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
        ):
            assert not is_known_host(host, self.NAMES, loopback=True), host

    def test_on_a_shared_address_any_ip_address_is_ours(self) -> None:
        assert is_known_host("10.0.0.1:8650", frozenset(), loopback=False)
