"""A completed graph without any node does not wipe one that has nodes."""

from __future__ import annotations

from typing import Any

import pytest

from graphnode.storage import graph_status, tasks
from graphnode.storage.database import database
from tests.any_order.conftest import Play, Snapshot
from tests.any_order.delivery import Bench

EMPTY = "empty.json"
PARTS = ("graph_nodes", "graph_edges", "graph_clusters", "graph_subclusters", "node_embeddings", "graph_summaries")


@pytest.fixture(autouse=True)
def empty_document(in_this_process: Bench) -> None:
    in_this_process.documents[EMPTY] = {"nodes": [], "edges": [{"source": 0, "target": 1}]}


def one_row(query: str) -> tuple[Any, ...]:
    (row,) = database.execute_sql(query)
    return tuple(row)


def test_the_stored_graph_stays_and_the_task_says_why(play: Play, snapshot: Any) -> None:
    play("graph", task_id="full")
    before: Snapshot = snapshot()

    play("graph", task_id="empty", resultS3Key=EMPTY)

    assert {name: snapshot()[name] for name in PARTS} == {name: before[name] for name in PARTS}
    status, warnings = one_row("SELECT status, warnings FROM tasks WHERE task_id = 'empty'")
    assert status == "COMPLETED"
    assert warnings["the graph has no nodes: the stored one stays"] == 1


def test_the_user_is_told_of_the_graph_that_there_is(play: Play) -> None:
    play("graph", task_id="full")
    play("graph", task_id="empty", resultS3Key=EMPTY)

    told = "SELECT payload - 'taskId' - 'summaryIncluded' - 'timestamp' FROM notifications"
    told = f"{told} WHERE payload ->> 'taskId' = '{{}}'"
    assert one_row(told.format("empty")) == one_row(told.format("full"))


def test_the_status_is_what_it_was_before_the_request(play: Play) -> None:
    play("graph", task_id="full")
    before = one_row("SELECT status, source_timestamp, node_count FROM graphs")
    tasks.register("empty", "GRAPH_GENERATION_RESULT", user_id="ada", s3_keys=[])
    graph_status.derive_status("ada")
    assert one_row("SELECT status FROM graphs") == ("CREATING",)

    play("graph", task_id="empty", resultS3Key=EMPTY)

    assert one_row("SELECT status, source_timestamp, node_count FROM graphs") == before


def test_a_user_without_nodes_gets_the_empty_graph(play: Play) -> None:
    play("graph", task_id="empty", resultS3Key=EMPTY)

    assert one_row("SELECT status, node_count FROM graphs") == ("CREATED", 0)
    assert one_row("SELECT payload -> 'nodeCount' FROM notifications") == (0,)
