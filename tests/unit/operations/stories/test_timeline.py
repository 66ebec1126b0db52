"""The timeline of a task: its entries and their texts."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from graphnode.contract.notifications import GraphProgress
from graphnode.operations.stories.story import Story
from graphnode.operations.stories.timeline import TimelineEntry, timeline
from tests.unit.operations.stories.samples import STORY, at, make_notification


def entries_of(story: Story, label: str) -> list[TimelineEntry]:
    return [entry for entry in timeline(story, now=at(60)) if entry.label == label]


def test_entries_are_in_the_order_of_their_times() -> None:
    times = [entry.at for entry in timeline(STORY, now=at(60)) if entry.at]
    assert times == sorted(times)
    assert len(times) == 7


def test_a_failure_has_its_reason_and_its_error() -> None:
    failed = msgspec.structs.replace(STORY, status="FAILED", deliveries=0, error="No result.", reason="TIMEOUT")
    assert entries_of(failed, "result") == [TimelineEntry(at(20), "result", "FAILED: TIMEOUT: No result.")]


@pytest.mark.parametrize(
    ("published_at", "waits_for"),
    [
        (at(1), "no result yet; last news at 2026-05-24 23:59:51"),
        (None, "not known to be published, and no result yet; last news at 2026-05-24 23:59:51"),
    ],
)
def test_an_open_task_says_what_it_waits_for(published_at: datetime | None, waits_for: str) -> None:
    waiting = Story(
        task_id="t",
        task_type="ADD_NODE_RESULT",
        user_id="ada",
        status="PENDING",
        registered_at=at(0),
        published_at=published_at,
        news_at=at(1),
    )
    assert timeline(waiting, now=at(60))[-1] == TimelineEntry(None, "waiting", waits_for)


def test_of_much_progress_the_newest_is_shown() -> None:
    much = [
        make_notification(GraphProgress.event, second, payload={"currentStage": f"stage {second}"})
        for second in range(40)
    ]
    progress = entries_of(msgspec.structs.replace(STORY, notifications=much), "progress")
    assert [entry.text for entry in progress] == ["… 30 times before", *(f"stage {second}" for second in range(30, 40))]


def test_a_pending_push_has_the_time_of_its_next_attempt() -> None:
    pending = make_notification(
        "GRAPH_GENERATION_FAILED",
        5,
        payload={},
        push_status="PENDING",
        push_attempts=1,
        push_error="UNAVAILABLE",
        push_due_at=at(40),
    )
    (push,) = entries_of(msgspec.structs.replace(STORY, notifications=[pending]), "push")
    assert push.text == "PENDING: UNAVAILABLE; next at 2026-05-25 00:00:30"


def test_the_keys_of_a_document_are_without_its_id() -> None:
    document = msgspec.structs.replace(STORY, task_id="doc_block", s3_keys=["in/doc/a.pdf", "out/doc_block/b.json"])
    assert [entry.text for entry in entries_of(document, "object")] == ["in/…/a.pdf", "out/…/b.json"]
