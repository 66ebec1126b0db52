"""`graphs.content_updated_at` moves when a message changes the graph, and at no other time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from graphnode.storage import graph_status, tasks
from graphnode.storage.database import database
from graphnode.storage.tasks import TaskRecord
from tests.any_order.conftest import Play
from tests.any_order.delivery import Bench


@pytest.fixture(autouse=True)
def ada(play: Play, in_this_process: Bench) -> None:
    """Ada has a graph, with nodes that were added."""
    play("graph", task_id="task_graph_ada_1")
    play("add-node", task_id="task_add_node_ada_1")
    in_this_process.documents |= {"empty.json": {"nodes": []}, "nothing.json": {"results": []}}


def content_time() -> datetime:
    ((time,),) = database.execute_sql("SELECT content_updated_at FROM graphs")
    assert isinstance(time, datetime)
    return time


@pytest.mark.parametrize("kind", ["graph", "add-node"])
def test_a_graph_that_is_replaced_and_new_nodes_move_it(play: Play, kind: str) -> None:
    before = content_time()
    database.execute_sql("UPDATE graph_nodes SET num_messages = 0 WHERE orig_id LIKE 'a31de8ee%%'")

    play(kind, task_id="task_2")

    assert content_time() > before


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        pytest.param("graph", {"status": "FAILED"}, id="a graph that failed"),
        pytest.param("graph", {"resultS3Key": "empty.json"}, id="an empty graph"),
        pytest.param("progress", {"currentStage": "clustering"}, id="progress"),
        pytest.param("summary", {}, id="a summary"),
        pytest.param("add-node", {"status": "FAILED"}, id="new nodes that failed"),
        pytest.param("add-node", {"resultS3Key": "nothing.json"}, id="no new nodes"),
        pytest.param("add-node", {}, id="the same nodes"),
    ],
)
def test_what_leaves_the_graph_as_it_is_leaves_it(play: Play, kind: str, changes: dict[str, Any]) -> None:
    before = content_time()

    play(kind, task_id="task_2", **changes)

    assert content_time() == before


def test_the_same_graph_again_leaves_it(play: Play) -> None:
    play("graph", task_id="task_2")
    before = content_time()

    play("graph", task_id="task_3")

    assert content_time() == before
    assert TaskRecord.get(task_id="task_3").status == "COMPLETED"


def test_a_superseded_graph_leaves_it(play: Play) -> None:
    database.execute_sql("UPDATE graphs SET source_timestamp = source_timestamp + interval '1 minute'")
    before = content_time()

    play("graph", task_id="task_2")

    assert content_time() == before
    assert TaskRecord.get(task_id="task_2").status == "SUPERSEDED"


def test_statuses_leave_it_and_move_updated_at(play: Play) -> None:
    updated_at = "SELECT content_updated_at, updated_at FROM graphs"
    (before,) = database.execute_sql(updated_at)
    tasks.register("task_2", "ADD_NODE_RESULT", user_id="ada", s3_keys=[])

    graph_status.derive_status("ada")

    (after,) = database.execute_sql(updated_at)
    assert after[0] == before[0]
    assert after[1] > before[1]
