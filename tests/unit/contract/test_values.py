from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.values import utc


@given(st.text() | st.floats() | st.integers() | st.none() | st.booleans() | st.lists(st.none()))
def test_any_value_is_a_time_in_utc_or_none(value: Any) -> None:
    read = utc(value)

    assert read is None or read.tzinfo is UTC


@given(st.datetimes(min_value=datetime(1800, 1, 1), timezones=st.timezones()))
def test_a_time_with_a_zone_is_converted_to_utc(written: datetime) -> None:
    assert utc(written.isoformat()) == written.astimezone(UTC)
