from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.values import time_of, utc


@given(st.text() | st.floats() | st.integers() | st.none() | st.booleans() | st.lists(st.none()))
def test_any_value_is_a_time_in_utc_or_none(value: Any) -> None:
    read = utc(value)

    assert read is None or read.tzinfo is UTC


@given(st.datetimes(min_value=datetime(1800, 1, 1), timezones=st.timezones()))
def test_a_time_with_a_zone_is_converted_to_utc(written: datetime) -> None:
    assert utc(written.isoformat()) == written.astimezone(UTC)


@pytest.mark.parametrize("epoch", [0, 0.0, -0.0, "0", "0.0", "1970-01-01T00:00:00Z", "1970-01-01T09:00:00+09:00"])
def test_the_epoch_is_no_time_and_no_fault(epoch: Any) -> None:
    warnings = Counter[str]()

    assert time_of(epoch, warnings) is None
    assert time_of(60, warnings) == datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    assert warnings == {}
