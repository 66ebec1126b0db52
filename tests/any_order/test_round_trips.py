"""The round trips to PostgreSQL that each type of result takes: each costs more than what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from graphnode.storage.connections import Connection
from graphnode.storage.database import database
from tests.any_order.conftest import Play

PROGRESS = {"currentStage": "clustering", "progressPercent": 40, "etaSeconds": 30}
GRAPH_ALONE = {"featuresS3Key": None, "summaryS3Key": None}

#: The most round trips for the effect of a result, from a look at its task to its commit. Its push takes two more,
#: which many pushes share.
MOST = [
    ("progress", PROGRESS, 3),
    ("summary", {}, 6),
    ("add-node", {}, 8),
    ("graph", GRAPH_ALONE, 11),
    ("graph", {}, 17),
    ("microscope", {}, 7),
    ("microscope-from-node", {}, 7),
]


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often this process has waited for PostgreSQL since the last call."""
    waits = 0
    waiting = Connection.waiting

    @contextmanager
    def counted(connection: Connection, most_s: float) -> Iterator[None]:
        nonlocal waits
        waits += 1
        with waiting(connection, most_s):
            yield

    def since() -> int:
        nonlocal waits
        found, waits = waits, 0
        return found

    monkeypatch.setattr(Connection, "waiting", counted)
    return since


@pytest.mark.parametrize(("kind", "changes", "most"), MOST)
def test_a_result_takes_few(
    play: Play, round_trips: Callable[[], int], kind: str, changes: dict[str, Any], most: int
) -> None:
    play("graph", task_id="task_graph_before")
    # The user has a graph, and the connection is open.
    database.execute_sql("SELECT 1")
    round_trips()

    play(kind, task_id=f"task_{kind}_counted", **changes)

    assert 2 < round_trips() <= most


def test_a_repeated_result_takes_one(play: Play, round_trips: Callable[[], int]) -> None:
    play("graph", task_id="task_graph_once")
    round_trips()

    play("graph", task_id="task_graph_once")

    assert round_trips() == 1
