from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from graphnode.actors.overdue import overdue_result
from graphnode.contract.timeouts import TYPES

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize("name", TYPES)
def test_an_overdue_task_ends_as_if_the_ai_server_had_failed_when_its_time_was_over(name: str) -> None:
    envelope = overdue_result("t1", f"{name}_RESULT", "ada", NOON, timeout=timedelta(hours=2))

    assert (envelope.timestamp, envelope.no_news_since) == (NOON + timedelta(hours=2), NOON)
    assert (envelope.payload.status, envelope.payload.error) == ("FAILED", "There was no result within 2 h.")
    assert envelope.payload.s3_keys == []
