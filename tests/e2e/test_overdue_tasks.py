"""A running worker ends tasks without news, whether other results come or not."""

from __future__ import annotations

import time

import pytest

from tests.e2e.ai_server import PATIENCE_S, AiServer
from tests.e2e.conftest import StartWorker

STATUSES = (
    "SELECT task.status, graph.status FROM tasks AS task JOIN graphs AS graph USING (user_id) WHERE task_id = 't1'"
)


@pytest.mark.parametrize("others_come", [True, False], ids=["while other results come", "on an empty queue"])
def test_a_task_without_a_result_ends_and_its_graph_is_no_longer_being_made(
    ai: AiServer, start_worker: StartWorker, others_come: bool
) -> None:
    ai.execute(
        "INSERT INTO tasks (task_id, task_type, user_id, status)"
        " VALUES ('t1', 'GRAPH_GENERATION_RESULT', 'ada', 'PENDING')"
    )
    ai.execute("INSERT INTO graphs (user_id, status, status_before) VALUES ('ada', 'CREATING', 'NOT_CREATED')")
    start_worker(
        GRAPHNODE_TASK_TIMEOUT="1s",
        # A message counts as come lately for three of these and a poll.
        GRAPHNODE_VISIBILITY_TIMEOUT="2",
        GRAPHNODE_SWEEP_INTERVAL="0.2",
    )

    deadline = time.monotonic() + PATIENCE_S
    while ai.rows(STATUSES) != [("FAILED", "NOT_CREATED")]:
        assert time.monotonic() < deadline, ai.rows(STATUSES)
        if others_come:
            ai.ended(ai.send(ai.result("summary", user_id="bob", status="FAILED")))

    assert ai.rows("SELECT type FROM notifications WHERE user_id = 'ada'") == [("GRAPH_GENERATION_FAILED",)]
