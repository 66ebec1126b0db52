from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from graphnode.storage.failures import clear_failures, record_failure
from tests.integration.conftest import Query

pytestmark = pytest.mark.usefixtures("storage")


def fail(message_id: str = "m-1", *, error: str = "throttled") -> int:
    return record_failure(message_id, reason="SERVICE_BUSY", error=error)


def test_failures_are_counted_by_message() -> None:
    assert [fail("m-1"), fail("m-2"), fail("m-1"), fail("m-1")] == [1, 1, 2, 3]


def test_the_last_failure_is_kept_with_its_reason(query: Query) -> None:
    fail(error="first")
    fail(error="last")

    assert query("SELECT failures, reason, error FROM message_failures") == [(2, "SERVICE_BUSY", "last")]


def test_failures_at_the_same_time_are_all_counted() -> None:
    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(lambda _: fail(), range(20)))

    assert sorted(counts) == list(range(1, 21))


def test_what_is_done_with_is_forgotten(query: Query) -> None:
    fail("m-1")
    fail("m-2")

    clear_failures("m-1")

    assert query("SELECT message_id FROM message_failures") == [("m-2",)]
