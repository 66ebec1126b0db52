from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from graphnode.contract.requests import REQUESTS
from graphnode.contract.timeouts import PATTERN, duration_text, task_timeouts

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)


def test_every_task_that_can_be_requested_has_a_timeout() -> None:
    assert task_timeouts("2h").keys() == {kind.task_type for kind in REQUESTS.values()}


def test_the_first_duration_is_for_all_types_without_their_own() -> None:
    timeouts = task_timeouts("2h,ADD_NODE=30m,MICROSCOPE_INGEST=1d")

    assert timeouts.pop("ADD_NODE_RESULT") == timedelta(minutes=30)
    assert timeouts.pop("MICROSCOPE_INGEST_RESULT") == timedelta(days=1)
    assert set(timeouts.values()) == {timedelta(hours=2)}


@pytest.mark.parametrize("text", ["1s", "90s", "30m", "2h", "365d", "2h,ADD_NODE=30m"])
def test_valid_settings(text: str) -> None:
    assert re.fullmatch(PATTERN, text)
    assert task_timeouts(text)


@pytest.mark.parametrize("text", ["2", "h", "0h", "-1h", "2 h", "1.5h", "ADD_NODE=30m", "2h,", "2h,VIDEO=1h", "2h,3h"])
def test_invalid_settings(text: str) -> None:
    assert not re.fullmatch(PATTERN, text)


@pytest.mark.parametrize(
    ("span", "text"),
    [(timedelta(seconds=90), "90 s"), (timedelta(minutes=120), "2 h"), (timedelta(hours=24), "1 d")],
)
def test_a_duration_is_shown_in_its_largest_whole_unit(span: timedelta, text: str) -> None:
    assert duration_text(span) == text
