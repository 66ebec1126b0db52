"""What each request passes before it reaches a page."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from graphnode.console.gate import LARGEST_FORM
from tests.unit.console.asking import HOSTILE, TOKEN, VIEWER_TOKEN, Browser, app_of

#: Every page, every field of a query, and every form.
PAGES = ["/", "/workers", "/letters", "/letter", "/tasks", "/task", "/user", "/user/graph", "/audit", "/action"]
FIELDS = "id user task type status within behind queue reason before older next"
FORMS = ["/letters/check", "/letters/act", "/user/forget", "/action/stop", "/logout"]


@pytest.fixture
def shared() -> Browser:
    """A browser at a console that others can reach, not signed in."""
    return Browser(
        app_of(loopback=False, token=TOKEN, viewer_token=VIEWER_TOKEN, allow_changes=True), address="10.0.0.9"
    )


class TestSigningIn:
    @pytest.mark.parametrize("path", PAGES)
    def test_who_is_not_signed_in_sees_no_page_and_comes_back_to_it_after_signing_in(
        self, path: str, shared: Browser
    ) -> None:
        answer = shared.get(f"{path}?id=a%26b")

        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login?next=")
        login = shared.get(answer.headers["location"])
        assert f'value="{path}?id=a%26b"' in login.text

    @pytest.mark.parametrize("path", FORMS)
    def test_who_is_not_signed_in_sends_no_form(self, path: str, shared: Browser) -> None:
        assert shared.post(path).status_code == 401

    def test_live_updates_say_that_the_session_is_over(self, shared: Browser) -> None:
        assert shared.get("/live").status_code == 401
        assert shared.get("/", x_live="1").status_code == 401

    def test_the_cookie_is_for_the_server_alone(self, shared: Browser) -> None:
        answer = shared.sign_in(onward="/tasks")

        assert (answer.status_code, answer.headers["location"]) == (303, "/tasks")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert TOKEN not in cookie
        assert "ada" in shared.get("/").text

    def test_behind_tls_the_cookie_is_secure(self) -> None:
        app = app_of(loopback=False, token=TOKEN, trusted_header="X-User", proxies="10.0.0.7")
        data = {"name": "ada", "token": TOKEN}

        behind = Browser(app, address="10.0.0.7").post("/login", data, x_forwarded_proto="https")
        claimed = Browser(app, address="10.0.0.9").post("/login", data, x_forwarded_proto="https")

        assert "secure" in behind.headers["set-cookie"].lower()
        assert "secure" not in claimed.headers["set-cookie"].lower()

    @pytest.mark.parametrize("onward", ["//evil.example/", "https://evil.example/", "/\\evil.example", "evil", ""])
    def test_nobody_is_sent_to_another_site(self, onward: str, shared: Browser) -> None:
        assert shared.sign_in(onward=onward).headers["location"] == "/"

    def test_wrong_tokens_are_refused_and_soon_not_even_looked_at(self, shared: Browser) -> None:
        codes = [shared.sign_in("wrong-token").status_code for _ in range(12)]

        assert codes == [403] * 10 + [429] * 2
        assert shared.sign_in(TOKEN).status_code == 429

    def test_signing_out_ends_the_session(self, shared: Browser) -> None:
        shared.sign_in()
        shared.get("/")

        shared.post("/logout")

        assert shared.get("/").status_code == 303

    def test_a_link_from_another_site_brings_the_session_along_after_all(self, shared: Browser) -> None:
        answer = shared.get("/tasks", sec_fetch_site="cross-site")

        assert answer.status_code == 200
        assert "http-equiv='refresh'" in answer.text


class TestForms:
    @pytest.mark.parametrize("path", FORMS)
    @pytest.mark.parametrize("csrf", ["", "0" * 64, "é"])
    def test_a_form_without_the_sessions_token_changes_nothing(self, path: str, csrf: str) -> None:
        answer = Browser(app_of()).post(path, csrf=csrf)

        assert answer.status_code == 403
        assert "out of date" in answer.text

    @pytest.mark.parametrize("path", FORMS)
    def test_a_form_of_another_site_is_refused(self, path: str) -> None:
        browser = Browser(app_of())
        browser.get("/letters")

        assert browser.post(path, sec_fetch_site="cross-site").status_code == 403

    @pytest.mark.parametrize("path", ["/letters/act", "/user/forget", "/action/stop"])
    def test_a_viewer_changes_nothing(self, path: str, shared: Browser) -> None:
        shared.sign_in(VIEWER_TOKEN)
        shared.get("/")

        answer = shared.post(path, {"action": "redrive"})

        assert answer.status_code == 403
        assert "You may only look" in answer.text

    def test_an_operator_on_a_read_only_console_changes_nothing(self) -> None:
        browser = Browser(app_of(loopback=False, token=TOKEN))
        browser.sign_in()

        assert "read-only" in browser.get("/").text
        assert browser.post("/letters/act", {"action": "redrive"}).status_code == 403

    def test_a_huge_form_is_refused(self) -> None:
        browser = Browser(app_of())

        assert browser.post("/letters/act", {"because": "x" * LARGEST_FORM}).status_code == 413


class TestAnswers:
    @pytest.mark.parametrize("path", [*PAGES, "/login", "/nothing", "/static/console.css", "/static/../app.py"])
    def test_each_answer_has_the_headers_that_keep_it_safe(self, path: str) -> None:
        headers = Browser(app_of()).get(path).headers

        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"

    def test_no_page_has_inline_code(self) -> None:
        browser = Browser(app_of())

        for path in PAGES:
            text = browser.get(path).text
            assert "style=" not in text
            assert "onclick" not in text
            assert text.count("<script") == text.count('<script src="/static/console.js" defer>')

    def test_a_foreign_host_name_sees_nothing(self) -> None:
        browser = Browser(app_of())

        assert browser.get("/", host="evil.example").status_code == 421
        assert browser.get("/", host="console.example.com").status_code == 200

    def test_without_services_each_page_says_what_is_missing_and_no_secret(self) -> None:
        browser = Browser(app_of({"AWS_SECRET_ACCESS_KEY": "s3cret"}, token=TOKEN))
        browser.sign_in()

        for path in PAGES:
            answer = browser.get(path, accept="text/html")
            assert answer.status_code in (200, 404, 503)
            assert TOKEN not in answer.text
            assert "s3cret" not in answer.text
        assert "DATABASE_URL is missing" in browser.get("/").text

    def test_what_a_query_says_is_text(self) -> None:
        browser = Browser(app_of())

        query = urlencode(dict.fromkeys(FIELDS.split(), HOSTILE))

        for path in (*PAGES, "/login"):
            text = browser.get(f"{path}?{query}").text
            assert "<script>alert" not in text
            assert "<img src=x" not in text
            assert "\u202e" not in text
