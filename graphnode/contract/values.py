"""Converts single values of documents for columns: times, numbers, IDs, keywords."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

#: `{term, score}`, a pair of both, or the term alone.
Keyword = dict[str, Any] | tuple[str, float | None] | str

#: The largest `integer` of PostgreSQL.
MAX_INTEGER = 2**31 - 1

#: The AI server writes 0 seconds for a time that it does not know.
EPOCH = datetime.fromtimestamp(0, UTC)

#: How far a producer's clock may be ahead of SQS's, and a stored time of a producer ahead of now.
MOST_AHEAD = timedelta(minutes=5)


def utc(value: Any) -> datetime | None:
    """The time of ISO 8601 (without zone: UTC) or of seconds since 1970; None for anything else."""
    try:
        match value:
            case bool():
                return None
            case int() | float():
                return datetime.fromtimestamp(value, UTC)
            case str():
                return _utc_of_text(value.strip())
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _utc_of_text(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(float(text), UTC)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def time_of(value: Any, warnings: Counter[str]) -> datetime | None:
    """The time that a value says; None if it says none, as the epoch does, or if it is unreadable, which is counted."""
    if value in (None, ""):
        return None
    time = utc(value)
    if time is None:
        warnings["unreadable times"] += 1
    return None if time == EPOCH else time


def finite(number: float | None, warnings: Counter[str]) -> float | None:
    """The number; None if it is NaN or infinite, which is counted."""
    if number is None or math.isfinite(number):
        return number
    warnings["numbers that are not finite"] += 1
    return None


def text_id(value: str | int | None) -> str | None:
    """The ID of a cluster or subcluster as text; None if it is not given."""
    return None if value is None or value == "" else str(value)


def as_keywords(keywords: Iterable[Keyword]) -> list[dict[str, Any]]:
    """Keywords in the form `{term, score}`; a bare term gets no score."""
    return [_as_keyword(keyword) for keyword in keywords]


def _as_keyword(keyword: Keyword) -> dict[str, Any]:
    if isinstance(keyword, dict):
        return keyword
    term, score = (keyword, None) if isinstance(keyword, str) else keyword
    return {"term": term, "score": score}
