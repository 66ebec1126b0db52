"""A task's life as lines: in its order, readable, and no wider than a terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.notifications import GraphProgress
from graphnode.operations.stories.telling import WIDTH, Attempt, Story, Told, story_text

START = datetime(2026, 5, 24, 23, 59, 50, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def told(type_: str, seconds: float, *, payload: dict[str, Any], **push: Any) -> Told:
    known: dict[str, Any] = {
        "push_status": "SKIPPED",
        "push_attempts": 0,
        "push_error": "stored only",
        "pushed_at": None,
        "push_due_at": None,
    }
    payload = {"taskId": "task_graph_ada_1", **payload}
    return Told(id=f"n{seconds}", type=type_, at=at(seconds), payload=payload, **known | push)


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
        Attempt(
            at=at(8),
            number=1,
            reason="OBJECT_NOT_FOUND",
            error="s3://graphnode-payloads/graph/ada/graph.json does not exist (yet)",
            given_up=False,
        )
    ],
    notifications=[
        told(GraphProgress.event, 4, payload={"currentStage": "Clustering", "progressPercent": 40.0, "etaSeconds": 30}),
        told(
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


def text_of(story: Story) -> str:
    return story_text(story, now=at(60))


def test_a_task_is_told_from_its_request_to_its_push() -> None:
    assert text_of(STORY) == (
        "task_graph_ada_1\n"
        "GRAPH_GENERATION_RESULT of ada: COMPLETED\n"
        "\n"
        "2026-05-24 UTC\n"
        "23:59:50  registered    by the API server\n"
        "23:59:51  published     on the request queue\n"
        "23:59:54  progress      40 %, Clustering, 30 s left\n"
        "23:59:58  attempt 1     OBJECT_NOT_FOUND:\n"
        "                        s3://graphnode-payloads/graph/ada/graph.json does not\n"
        "                        exist (yet)\n"
        "\n"
        "2026-05-25 UTC\n"
        "00:00:10  result        COMPLETED at delivery 2\n"
        "          object        graph/ada/…/graph.json\n"
        "          warning       repeated edges: 1\n"
        "00:00:10  told          GRAPH_GENERATION_COMPLETED: nodeCount 36, edgeCount 67,\n"
        "                        summaryIncluded True\n"
        "00:00:12  push          SENT at attempt 2"
    )


def test_a_failure_says_why_and_who_said_so() -> None:
    failed = msgspec.structs.replace(STORY, status="FAILED", deliveries=0, error="No result.", reason="TIMEOUT")
    assert "00:00:10  result        FAILED: TIMEOUT: No result.\n" in text_of(failed)


@pytest.mark.parametrize(
    ("published_at", "waits_for"),
    [(at(1), "no result yet; last news at 2026-05-24"), (None, "not known to be published, and no result yet")],
)
def test_a_task_that_is_open_says_what_it_waits_for(published_at: datetime | None, waits_for: str) -> None:
    waiting = Story(
        task_id="t",
        task_type="ADD_NODE_RESULT",
        user_id="ada",
        status="PENDING",
        registered_at=at(0),
        published_at=published_at,
        news_at=at(1),
    )
    _, last = text_of(waiting).split("          waiting       ")
    assert " ".join(last.split()).startswith(waits_for)


def test_a_task_of_which_nothing_is_stored_is_told_by_its_dead_letter() -> None:
    letter = Attempt(at=at(3), number=1, reason="INVALID_DOCUMENT", error="nodes: required", given_up=True)
    lost = Story(task_id="t", task_type="ADD_NODE_RESULT", user_id=None, attempts=[letter])
    assert text_of(lost).splitlines()[1:] == [
        "ADD_NODE_RESULT of nobody known: nothing of it is stored",
        "",
        "2026-05-24 UTC",
        "23:59:53  dead letter   INVALID_DOCUMENT at attempt 1: nodes: required",
    ]


def test_of_much_progress_the_newest_is_told() -> None:
    much = [told(GraphProgress.event, second, payload={"currentStage": f"stage {second}"}) for second in range(40)]
    lines = text_of(msgspec.structs.replace(STORY, notifications=much)).splitlines()
    stages = [line[24:] for line in lines if line[10:].startswith("progress")]
    assert stages == ["… 30 times before", *(f"stage {second}" for second in range(30, 40))]


def test_a_push_that_is_not_done_says_what_comes() -> None:
    pending = told(
        "GRAPH_GENERATION_FAILED",
        5,
        payload={},
        push_status="PENDING",
        push_attempts=1,
        push_error="UNAVAILABLE",
        push_due_at=at(40),
    )
    text = text_of(msgspec.structs.replace(STORY, notifications=[pending]))
    assert "push          PENDING: UNAVAILABLE; next at 2026-05-25 00:00:30" in text


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_no_line_is_wider_than_a_terminal(error: str) -> None:
    attempt = Attempt(at=at(3), number=1, reason="X", error=error, given_up=False)
    lines = text_of(msgspec.structs.replace(STORY, attempts=[attempt])).split("\n")
    assert max(map(len, lines)) <= WIDTH


def test_a_terminal_gets_nothing_to_obey() -> None:
    hostile = "a\x1b[31mb\x1b]0;title\x07c\x9b2J\u202ed\ne"
    attempt = Attempt(at=at(3), number=1, reason="X", error=hostile, given_up=False)
    notice = told("GRAPH_GENERATION_FAILED", 5, payload={"file": hostile}, push_error=hostile)
    story = msgspec.structs.replace(
        STORY,
        task_id=hostile,
        user_id=hostile,
        error=hostile,
        warnings={hostile: 1},
        s3_keys=[f"k/{hostile}/x"],
        attempts=[attempt],
        notifications=[notice],
    )
    assert all(line.isprintable() for line in text_of(story).split("\n"))


def test_of_a_document_the_keys_do_without_its_id() -> None:
    document = msgspec.structs.replace(STORY, task_id="doc_block", s3_keys=["in/doc/a.pdf", "out/doc_block/b.json"])
    assert "object        in/…/a.pdf\n          object        out/…/b.json\n" in text_of(document)
