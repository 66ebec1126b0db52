"""No producer's clock is believed without bound, and a time in the future that is stored already loses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from graphnode.storage.database import database
from tests.any_order import api_server
from tests.any_order.delivery import Bench, deliver
from tests.chaos.model.state import Message

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)

#: What a clock of Seoul that names no zone is ahead, and one that is wrong.
WRONG = pytest.mark.parametrize("ahead", [timedelta(hours=9), timedelta(days=26_000)], ids=["Seoul", "2097"])

DOCUMENTS: dict[str, Any] = {
    "graph.json": {"nodes": [{"id": 0, "orig_id": "c1"}]},
    "summary.json": {"overview": {"summary_text": "tea"}},
}

pytestmark = pytest.mark.usefixtures("documents")


@pytest.fixture
def documents(in_this_process: Bench) -> None:
    in_this_process.documents |= DOCUMENTS


def send(task_type: str, task_id: str, *, minutes: float, ahead: timedelta = timedelta()) -> None:
    """Deliver a message of ada that SQS has accepted so many minutes after noon, by a producer with this clock."""
    sent_at = NOON + timedelta(minutes=minutes)
    payloads: dict[str, dict[str, Any]] = {
        "GRAPH_GENERATION_RESULT": {"status": "COMPLETED", "resultS3Key": "graph.json"},
        "GRAPH_SUMMARY_RESULT": {"status": "COMPLETED", "summaryS3Key": "summary.json"},
        "GRAPH_GENERATION_PROGRESS": {"currentStage": f"stage {minutes}", "progressPercent": 10},
    }
    timestamp = (sent_at + ahead).replace(tzinfo=None).isoformat()
    payload = {"userId": "ada", **payloads[task_type]}
    body = {"taskType": task_type, "taskId": task_id, "timestamp": timestamp, "payload": payload}
    deliver(Message(body, sent_at, {}), attempt=1)


def statuses() -> list[str]:
    return [status for (status,) in database.execute_sql("SELECT status FROM tasks ORDER BY task_id")]


@WRONG
@pytest.mark.parametrize("task_type", ["GRAPH_GENERATION_RESULT", "GRAPH_SUMMARY_RESULT"])
def test_a_result_of_a_wrong_clock_does_not_supersede_later_ones(task_type: str, ahead: timedelta) -> None:
    send(task_type, "t1", minutes=0, ahead=ahead)
    send(task_type, "t2", minutes=1)

    assert statuses() == ["COMPLETED", "COMPLETED"]
    ((warnings,),) = database.execute_sql("SELECT warnings FROM tasks WHERE warnings IS NOT NULL")
    assert [name.split()[0] for name in warnings] == ["timestamp"]


def test_a_superseded_result_keeps_the_warning_of_its_clock() -> None:
    send("GRAPH_GENERATION_RESULT", "t1", minutes=1)
    send("GRAPH_GENERATION_RESULT", "t2", minutes=0, ahead=timedelta(hours=9))

    assert statuses() == ["COMPLETED", "SUPERSEDED"]
    ((warnings,),) = database.execute_sql("SELECT warnings FROM tasks WHERE task_id = 't2'")
    assert {name.partition(" 2026")[0] for name in warnings} == {"timestamp", "a newer graph is stored, of"}


@WRONG
def test_progress_of_a_wrong_clock_does_not_freeze_progress(ahead: timedelta) -> None:
    send("GRAPH_GENERATION_PROGRESS", "t1", minutes=0, ahead=ahead)
    send("GRAPH_GENERATION_PROGRESS", "t1", minutes=1)

    assert list(database.execute_sql("SELECT current_stage, progress_at FROM tasks")) == [
        ("stage 1", NOON + timedelta(minutes=1))
    ]


def test_times_in_the_future_that_are_stored_already_lose_against_any_message() -> None:
    for task_type in ("GRAPH_GENERATION_RESULT", "GRAPH_SUMMARY_RESULT"):
        send(task_type, "t1", minutes=0)
    send("GRAPH_GENERATION_PROGRESS", "t2", minutes=0)
    api_server.poison_times("ada", at=datetime(2099, 1, 1, tzinfo=UTC))

    for task_type in ("GRAPH_GENERATION_PROGRESS", "GRAPH_GENERATION_RESULT", "GRAPH_SUMMARY_RESULT"):
        send(task_type, "t2", minutes=-1)

    assert set(statuses()) == {"COMPLETED"}
    healed = NOON - timedelta(minutes=1)
    assert list(database.execute_sql("SELECT source_timestamp FROM graphs")) == [(healed,)]
    assert list(database.execute_sql("SELECT source_timestamp FROM graph_summaries")) == [(healed,)]
    assert list(database.execute_sql("SELECT progress_at FROM tasks WHERE progress_at IS NOT NULL")) == [(healed,)]


def test_two_producers_whose_clocks_are_a_minute_apart_leave_nothing_under_way() -> None:
    for task_id in ("t1", "t2"):
        api_server.request("GRAPH_GENERATION", task_id, user_id="ada", accepts=True)

    send("GRAPH_GENERATION_RESULT", "t1", minutes=0, ahead=timedelta(minutes=1))
    send("GRAPH_GENERATION_RESULT", "t2", minutes=0.5)

    assert statuses() == ["COMPLETED", "SUPERSEDED"]
    assert list(database.execute_sql("SELECT status FROM graphs")) == [("CREATED",)]
