"""A task's timeline on a terminal: readable, and no wider than 80 columns."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from graphnode.cli.story_rendering import WIDTH, story_text
from graphnode.operations.stories.story import FailedAttempt, Story
from tests.unit.operations.stories.samples import STORY, at, make_notification


def text_of(story: Story) -> str:
    return story_text(story, now=at(60))


def test_a_task_is_shown_from_its_request_to_its_push() -> None:
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
        "00:00:10  notified      GRAPH_GENERATION_COMPLETED: nodeCount 36, edgeCount 67,\n"
        "                        summaryIncluded True\n"
        "00:00:12  push          SENT at attempt 2"
    )


def test_a_task_without_a_row_is_shown_by_its_dead_letter() -> None:
    letter = FailedAttempt(at=at(3), number=1, reason="INVALID_DOCUMENT", error="nodes: required", given_up=True)
    lost = Story(task_id="t", task_type="ADD_NODE_RESULT", user_id=None, attempts=[letter])
    assert text_of(lost).splitlines()[1:] == [
        "ADD_NODE_RESULT of unknown user: not stored",
        "",
        "2026-05-24 UTC",
        "23:59:53  dead letter   INVALID_DOCUMENT at attempt 1: nodes: required",
    ]


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_no_line_is_wider_than_a_terminal(error: str) -> None:
    attempt = FailedAttempt(at=at(3), number=1, reason="X", error=error, given_up=False)
    lines = text_of(msgspec.structs.replace(STORY, attempts=[attempt])).split("\n")
    assert max(map(len, lines)) <= WIDTH


def test_a_terminal_gets_no_control_characters() -> None:
    hostile = "a\x1b[31mb\x1b]0;title\x07c\x9b2J\u202ed\ne"
    attempt = FailedAttempt(at=at(3), number=1, reason="X", error=hostile, given_up=False)
    notice = make_notification("GRAPH_GENERATION_FAILED", 5, payload={"file": hostile}, push_error=hostile)
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
