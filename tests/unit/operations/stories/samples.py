"""A story that tests change one thing of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from graphnode.contract.notifications import GraphProgress
from graphnode.operations.stories.story import FailedAttempt, Story, TaskNotification

START = datetime(2026, 5, 24, 23, 59, 50, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def make_notification(type_: str, seconds: float, *, payload: dict[str, Any], **push: Any) -> TaskNotification:
    known: dict[str, Any] = {
        "push_status": "SKIPPED",
        "push_attempts": 0,
        "push_error": "stored only",
        "pushed_at": None,
        "push_due_at": None,
    }
    payload = {"taskId": "task_graph_ada_1", **payload}
    return TaskNotification(id=f"n{seconds}", type=type_, at=at(seconds), payload=payload, **known | push)


STORY = Story(
    task_id="task_graph_ada_1",
    task_type="GRAPH_GENERATION_RESULT",
    user_id="ada",
    status="COMPLETED",
    deliveries=2,
    warnings={"repeated edges": 1},
    s3_keys=["graph/ada/task_graph_ada_1/graph.json"],
    registered_at=at(0),
    published_at=at(1),
    news_at=at(20),
    finished_at=at(20),
    attempts=[
        FailedAttempt(
            at=at(8),
            number=1,
            reason="OBJECT_NOT_FOUND",
            error="s3://graphnode-payloads/graph/ada/graph.json does not exist (yet)",
            given_up=False,
        )
    ],
    notifications=[
        make_notification(
            GraphProgress.event, 4, payload={"currentStage": "Clustering", "progressPercent": 40.0, "etaSeconds": 30}
        ),
        make_notification(
            "GRAPH_GENERATION_COMPLETED",
            20.1,
            payload={"nodeCount": 36, "edgeCount": 67, "summaryIncluded": True},
            push_status="SENT",
            push_attempts=2,
            push_error=None,
            pushed_at=at(22),
        ),
    ],
)
