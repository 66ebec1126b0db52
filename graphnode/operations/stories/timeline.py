"""The timeline of a task: what happened to it, in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from graphnode.contract.notifications import GraphProgress
from graphnode.contract.task_ids import parse_task_id
from graphnode.operations.stories.story import Story, TaskNotification

#: The most progress entries in a timeline: the newest.
MOST_PROGRESS = 10

#: Parts of a notification's payload that the story shows elsewhere.
SHOWN_ELSEWHERE = ("taskId", "timestamp", "error")


class TimelineEntry(NamedTuple):
    """Something that happened; without a time it belongs to the entry before it."""

    at: datetime | None
    label: str
    text: str


def timeline(story: Story, *, now: datetime) -> list[TimelineEntry]:
    """All that happened to a task, in order."""
    events = [*_beginning(story), *_progress(story), *_attempts(story), *_end(story), *_pushes(story)]
    events.sort(key=lambda event: event[0].at or now)
    return [entry for event in events for entry in event]


def _beginning(story: Story) -> Iterator[list[TimelineEntry]]:
    if story.registered_at:
        yield [TimelineEntry(story.registered_at, "registered", "by the API server")]
    if story.published_at:
        yield [TimelineEntry(story.published_at, "published", "on the request queue")]


def _progress(story: Story) -> Iterator[list[TimelineEntry]]:
    progress = [one for one in story.notifications if one.type == GraphProgress.event]
    for index, one in enumerate(progress[-MOST_PROGRESS:]):
        percent, eta = one.payload.get("progressPercent"), one.payload.get("etaSeconds")
        parts = [
            None if percent is None else f"{percent:g} %",
            one.payload.get("currentStage"),
            None if eta is None else f"{eta:g} s left",
        ]
        entries = [TimelineEntry(one.at, "progress", ", ".join(filter(None, parts)))]
        if index == 0 and len(progress) > MOST_PROGRESS:
            entries.insert(0, TimelineEntry(one.at, "progress", f"… {len(progress) - MOST_PROGRESS} times before"))
        yield entries


def _attempts(story: Story) -> Iterator[list[TimelineEntry]]:
    for one in story.attempts:
        label = "dead letter" if one.given_up else f"attempt {one.number}"
        when = f" at attempt {one.number}" if one.given_up else ""
        yield [TimelineEntry(one.at, label, f"{one.reason}{when}: {one.error}")]


def _end(story: Story) -> Iterator[list[TimelineEntry]]:
    if not story.finished_at:
        if story.status and story.news_at:
            news = f"{_unfinished(story)}; last news at {story.news_at:%Y-%m-%d %H:%M:%S}"
            yield [TimelineEntry(None, "waiting", news)]
        return
    how = f" at delivery {story.deliveries}" if story.deliveries else ""
    why = ": ".join(filter(None, (story.reason, story.error)))
    entries = [TimelineEntry(story.finished_at, "result", f"{story.status}{how}" + (f": {why}" if why else ""))]
    entries += [TimelineEntry(None, "object", _short_key(key, story.task_id)) for key in story.s3_keys]
    entries += [TimelineEntry(None, "warning", f"{name}: {count}") for name, count in (story.warnings or {}).items()]
    yield entries


def _short_key(key: str, task_id: str) -> str:
    """An object's key without the task's ID, which makes most keys longer than a line."""
    return key.replace(task_id, "…").replace(parse_task_id(task_id).document_id, "…")


def _unfinished(story: Story) -> str:
    if story.status == "PENDING" and story.registered_at and not story.published_at:
        return "not known to be published, and no result yet"
    return "no result yet"


def _pushes(story: Story) -> Iterator[list[TimelineEntry]]:
    for one in story.notifications:
        if one.type == GraphProgress.event:
            continue
        said = ", ".join(
            f"{name} {value}"
            for name, value in one.payload.items()
            if name not in SHOWN_ELSEWHERE and value not in (None, "")
        )
        yield [TimelineEntry(one.at, "notified", f"{one.type}: {said}" if said else one.type)]
        yield [TimelineEntry(one.pushed_at or one.at, "push", _push_text(one))]


def _push_text(notification: TaskNotification) -> str:
    text = notification.push_status
    if notification.push_attempts > 1:
        text += f" at attempt {notification.push_attempts}"
    if notification.push_error:
        text += f": {notification.push_error}"
    if notification.push_due_at:
        text += f"; next at {notification.push_due_at:%Y-%m-%d %H:%M:%S}"
    return text
