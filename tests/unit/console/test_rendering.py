"""What a user wrote is text on a page, whatever it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from graphnode.console.rendering import _TEMPLATES, link, time_text
from tests.unit.console.asking import HOSTILE


def test_text_is_escaped_and_unprintable_characters_are_numbers() -> None:
    shown = _TEMPLATES.from_string('<a title="{{ text }}">{{ text }}</a>').render(text=HOSTILE)

    assert shown.count("<") == 2
    assert shown.count('"') == 2
    assert "\\u202e" in shown
    assert "\\x1b" in shown
    assert "{{7*7}}" in shown


def test_nothing_is_shown_for_what_is_missing() -> None:
    assert _TEMPLATES.from_string("<{{ missing }}>").render(missing=None) == "<>"


def test_a_time_is_in_utc_for_those_without_a_script_and_on_hover() -> None:
    at = datetime(2026, 5, 24, 1, 2, 3, tzinfo=timezone(timedelta(hours=9)))

    shown = "2026-05-23 16:02:03 UTC"
    assert time_text(at) == f'<time datetime="2026-05-23T16:02:03+00:00" title="{shown}">{shown}</time>'
    assert time_text(datetime(2026, 5, 24, tzinfo=UTC)).startswith('<time datetime="2026-05-24T00:00:00+00:00"')
    assert time_text(None) == ""


def test_a_link_has_only_what_is_given_and_quotes_it() -> None:
    assert link("/task", id="a/b&c=<d>", more=None, empty="") == "/task?id=a%2Fb%26c%3D%3Cd%3E"
    assert link("/tasks", user="") == "/tasks"
