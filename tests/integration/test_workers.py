"""The registry of worker processes: one row for each, until it stops or is not seen any more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from graphnode.storage import workers
from graphnode.storage.workers import RunningActor, WorkerRecord
from tests.integration.conftest import Query

#: The columns that 0.1 writes.
PREVIOUS = """
INSERT INTO workers (id, host, pid, version, threads, interval_s, started_at, seen_at, in_hand, running,
                     outage_service, outage_since, handled, retried, dead)
VALUES ('p', 'vm', 12, '0.1.0', 4, 30, now(), now(), 0, 0, 'AWS', now(), 0, 0, 0)
"""

pytestmark = pytest.mark.usefixtures("storage")


def process(name: str, **changes: Any) -> WorkerRecord:
    known: dict[str, Any] = {
        "id": name,
        "host": "alpha",
        "pid": 7,
        "version": "0.1.0",
        "newest_migration": "0008_floor",
        "threads": 8,
        "interval_s": 30.0,
        "started_at": datetime.now(UTC),
        "in_hand": 3,
        "running": 2,
        "outage_service": None,
        "outage_since": None,
        "outage_error": None,
        "outage_advice": None,
        "handled": 100,
        "retried": 5,
        "dead": 1,
    }
    return WorkerRecord(**{**known, **changes})


def test_a_process_has_one_row_with_its_last_values() -> None:
    workers.save_process(process("a"))
    since = datetime.now(UTC)
    outage = {"outage_service": "S3", "outage_since": since, "outage_error": "refused", "outage_advice": "Mend it."}
    workers.save_process(process("a", running=7, handled=200, **outage))

    (found,) = workers.processes()

    assert (found.running, found.handled, found.is_late) == (7, 200, False)
    assert (found.outage_service, found.outage_since) == ("S3", since)
    assert (found.outage_error, found.outage_advice) == ("refused", "Mend it.")


def test_a_row_says_what_the_actors_handle_and_since_when() -> None:
    runs = [RunningActor("add_node", datetime.now(UTC))]
    workers.save_process(process("a", runs=runs))

    (found,) = workers.processes()

    assert found.runs == runs


def test_a_process_of_the_previous_release_writes_neither_error_nor_advice(query: Query) -> None:
    query(PREVIOUS)

    (found,) = workers.processes()

    assert (found.outage_service, found.outage_error, found.outage_advice) == ("AWS", None, None)


def test_a_process_that_is_not_seen_is_late_and_forgotten_after_an_hour(query: Query) -> None:
    workers.save_process(process("a"))
    workers.save_process(process("b", pid=8))
    query("UPDATE workers SET seen_at = now() - interval '2 minutes' WHERE id = 'a'")

    assert {row.pid: row.is_late for row in workers.processes()} == {7: True, 8: False}

    query("UPDATE workers SET seen_at = now() - interval '61 minutes'")
    workers.save_process(process("b", pid=8))

    assert [row.pid for row in workers.processes()] == [8]


def test_a_process_that_stops_has_no_row() -> None:
    workers.save_process(process("a"))
    workers.remove_process("a")

    assert workers.processes() == []
