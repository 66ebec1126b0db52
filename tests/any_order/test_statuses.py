"""A graph's status follows its user's open tasks and its content, however tasks end and in whichever order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from graphnode.storage import graph_status
from graphnode.storage.database import database, user_transaction
from tests.any_order import api_server
from tests.any_order.delivery import Bench, deliver, sweep_up_overdue
from tests.chaos.model.state import Message

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)

GRAPH = "GRAPH_GENERATION_RESULT"
NODES = "ADD_NODE_RESULT"

#: A graph of one node, and a batch of another one.
DOCUMENTS: dict[str, Any] = {
    "graph.json": {"nodes": [{"id": 0, "orig_id": "c1"}]},
    "batch.json": {"userId": "ada", "results": [{"conversationId": "c2", "nodes": [{"id": "ada_c2"}], "edges": []}]},
}

#: Requests a task of ada: `request_task("g1")` a graph, `request_task("n1")` new nodes; published, or refused by SQS.
Request = Callable[..., None]

#: Ends a task of ada, by a result that was sent so many minutes after noon.
End = Callable[..., None]


def type_of(task_id: str) -> str:
    return GRAPH if task_id.startswith("g") else NODES


def stored() -> list[tuple[str, str | None]]:
    return list(database.execute_sql("SELECT status, status_before FROM graphs"))


@pytest.fixture
def request_task(in_this_process: Bench) -> Request:
    in_this_process.documents |= DOCUMENTS

    def run(task_id: str, *, accepts: bool = True) -> None:
        kind = "GRAPH_GENERATION" if type_of(task_id) == GRAPH else "ADD_CONVERSATION"
        api_server.request(kind, task_id, user_id="ada", accepts=accepts)

    return run


@pytest.fixture
def end(request_task: Request) -> End:
    def run(task_id: str, status: str = "COMPLETED", *, minutes: float = 0) -> None:
        at = NOON + timedelta(minutes=minutes)
        key = "graph.json" if type_of(task_id) == GRAPH else "batch.json"
        payload = {"userId": "ada", "status": status, **({"resultS3Key": key} if status == "COMPLETED" else {})}
        body = {"taskType": type_of(task_id), "taskId": task_id, "timestamp": at.isoformat(), "payload": payload}
        deliver(Message(body, at, {}), attempt=1)

    return run


def time_out(task_id: str) -> None:
    api_server.let_time_pass(task_id, type_of(task_id))
    assert sweep_up_overdue() == (task_id, type_of(task_id))


@pytest.mark.parametrize("other", ["g1", "n1"])
@pytest.mark.parametrize("how", ["COMPLETED", "FAILED", "TIMEOUT", "NOT_PUBLISHED"])
def test_the_end_of_one_task_leaves_the_status_of_another_that_is_open(
    request_task: Request, end: End, other: str, how: str
) -> None:
    """This is also the first of two generations that fails, or completes late, while the second one runs."""
    if how == "NOT_PUBLISHED":
        request_task(other)
        request_task("g0", accepts=False)
    else:
        request_task("g0")
        request_task(other)
        if how == "TIMEOUT":
            time_out("g0")
        else:
            end("g0", how)

    status = "CREATING" if other == "g1" else "UPDATING"
    assert stored() == [(status, "CREATED" if how == "COMPLETED" else "NOT_CREATED")]


def test_of_two_open_tasks_the_one_that_was_registered_last_says_the_status(request_task: Request, end: End) -> None:
    for graph, nodes in (("g0", "n0"), ("g1", "n1")):
        request_task(graph)
        request_task(nodes)
        assert stored() == [("UPDATING", "NOT_CREATED")]
        end(nodes, "FAILED")
        assert stored() == [("CREATING", "NOT_CREATED")]
        end(graph, "FAILED")
        assert stored() == [("NOT_CREATED", None)]
    request_task("n2")
    request_task("g2")
    assert stored() == [("CREATING", "NOT_CREATED")]


def test_new_nodes_that_come_while_a_graph_is_generated_leave_creating(request_task: Request, end: End) -> None:
    request_task("g0")

    end("n0")

    assert stored() == [("CREATING", "UPDATED")]
    end("g0", "FAILED")
    assert stored() == [("UPDATED", None)]


def test_a_graph_that_comes_while_nodes_are_added_leaves_updating(request_task: Request, end: End) -> None:
    request_task("n0")

    end("g0")

    assert stored() == [("UPDATING", "CREATED")]
    end("n0", "FAILED")
    assert stored() == [("CREATED", None)]


@pytest.mark.parametrize("last", ["g9", "n9"])
@pytest.mark.parametrize("how", ["FAILED", "TIMEOUT", "NOT_PUBLISHED"])
def test_a_task_that_fails_gives_back_what_last_changed_the_content(
    request_task: Request, end: End, last: str, how: str
) -> None:
    end("g8")
    end(last, minutes=1)
    changed = stored()
    for task_id in ("g0", "n0"):
        request_task(task_id, accepts=how != "NOT_PUBLISHED")
        if how == "FAILED":
            end(task_id, how)
        elif how == "TIMEOUT":
            time_out(task_id)

        assert stored() == changed == [("CREATED" if last == "g9" else "UPDATED", None)]


def test_a_superseded_graph_leaves_nothing_under_way(request_task: Request, end: End) -> None:
    """Two producers whose clocks are a minute apart."""
    end("g0", minutes=1)
    request_task("g1")

    end("g1", minutes=0)

    assert list(database.execute_sql("SELECT status FROM tasks WHERE task_id = 'g1'")) == [("SUPERSEDED",)]
    assert stored() == [("CREATED", None)]


def test_a_task_that_is_requested_again_is_the_newest(request_task: Request) -> None:
    request_task("n0", accepts=False)
    request_task("g0")
    request_task("n0")

    assert stored() == [("UPDATING", "NOT_CREATED")]


@pytest.mark.parametrize(
    ("status", "status_before", "healed"),
    [
        ("CREATING", "UPDATED", "UPDATED"),
        ("UPDATING", "CREATED", "CREATED"),
        ("CREATING", "NOT_CREATED", "CREATED"),
        ("UPDATING", None, "CREATED"),
        ("NOT_CREATED", None, "CREATED"),
    ],
)
def test_a_status_that_an_earlier_release_left_heals_at_the_next_end(
    end: End, status: str, status_before: str | None, healed: str
) -> None:
    end("g0")
    api_server.lie_about_status("ada", status=status, status_before=status_before)

    end("n0", "FAILED")

    assert stored() == [(healed, None)]


def test_a_graph_that_was_never_sent_as_a_whole_heals_as_updated(end: End) -> None:
    end("n0")
    api_server.lie_about_status("ada", status="CREATING", status_before=None)

    end("g0", "FAILED")

    assert stored() == [("UPDATED", None)]


@pytest.mark.parametrize("end_of", ["summary", "microscope"])
def test_other_tasks_have_no_say(request_task: Request, end: End, play: Callable[..., None], end_of: str) -> None:
    end("g0")
    api_server.request("GRAPH_SUMMARY", "s0", user_id="ada", accepts=True)
    assert stored() == [("CREATED", None)]
    api_server.lie_about_status("ada", status="CREATING", status_before="CREATED")

    play(end_of, status="FAILED")

    assert stored() == [("CREATING", "CREATED")]


def test_another_users_tasks_have_no_say(request_task: Request, end: End) -> None:
    api_server.request("GRAPH_GENERATION", "g-eve", user_id="eve", accepts=True)

    end("g0")

    assert list(database.execute_sql("SELECT user_id, status FROM graphs ORDER BY user_id")) == [
        ("ada", "CREATED"),
        ("eve", "CREATING"),
    ]


def test_a_status_that_stays_is_not_written_again(end: End) -> None:
    end("g0")
    before = list(database.execute_sql("SELECT updated_at, xmin::text FROM graphs"))

    with user_transaction("ada"):
        graph_status.derive_status("ada")

    assert list(database.execute_sql("SELECT updated_at, xmin::text FROM graphs")) == before


def test_a_user_whose_tasks_are_all_superseded_gets_no_row(in_this_process: Bench) -> None:
    """So a late result of a forgotten user makes none."""
    database.execute_sql(
        "INSERT INTO tasks (task_id, task_type, user_id, status, finished_at) VALUES ('g0', %s, 'ada', %s, now())",
        (GRAPH, "SUPERSEDED"),
    )

    with user_transaction("ada"):
        graph_status.derive_status("ada")

    assert stored() == []
