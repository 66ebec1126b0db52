"""A task's life as it is told: what is known of it, and the lines of its timeline."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from graphnode.contract.notifications import GraphProgress
from graphnode.contract.task_ids import parse_task_id
from graphnode.text import printable

#: Columns of the whole, of the time and of the label.
WIDTH = 80
TIME_WIDTH = 10
LABEL_WIDTH = 14

#: The most lines of progress that a timeline has: the newest.
MOST_PROGRESS = 10

#: What a notification says of where it belongs, which the story's heading says.
OF_THE_HEADING = ("taskId", "error")


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt at a message of the task that failed.

    Parameters:
      given_up: whether the message became a dead letter.
      stack: where the error was raised, without its text.
    """

    at: datetime
    number: int
    reason: str
    error: str
    given_up: bool
    stack: str | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A notification of the task, and its push.

    Parameters:
      at: when it was written; of progress, when the AI server said so.
      push_due_at: when the push is tried next; None: nothing is left to do.
    """

    id: str
    type: str
    at: datetime
    payload: dict[str, Any]
    push_status: str
    push_attempts: int
    push_error: str | None
    pushed_at: datetime | None
    push_due_at: datetime | None


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a task.

    Parameters:
      status: None: it has no row, for nothing of it was stored; its messages have failed.
      deliveries: how often the message that ended it was delivered.
      registered_at: when the API server made its row; None: nobody did, its first message made it.
      news_at: when there was news of it last.
    """

    task_id: str
    task_type: str
    user_id: str | None
    status: str | None = None
    reason: str | None = None
    error: str | None = None
    deliveries: int = 0
    warnings: dict[str, Any] | None = None
    s3_keys: Sequence[str] = ()
    registered_at: datetime | None = None
    published_at: datetime | None = None
    news_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: Sequence[Attempt] = ()
    notifications: Sequence[Told] = ()


class Line(NamedTuple):
    """A line of a timeline; without a time it belongs to the one before it."""

    at: datetime | None
    label: str
    text: str


def story_text(story: Story, *, now: datetime) -> str:
    """A task's timeline, times in UTC, in lines of at most WIDTH characters, but for the ID's."""
    whose = f"of {story.user_id}" if story.user_id else "of nobody known"
    status = story.status or "nothing of it is stored"
    heading = printable(f"{story.task_type} {whose}: {status}")
    lines = [printable(story.task_id), *textwrap.wrap(heading, WIDTH)]
    day = None
    for line in timeline(story, now=now):
        if line.at and line.at.date() != day:
            day = line.at.date()
            lines += ["", f"{day} UTC"]
        lines += _lines(line)
    return "\n".join(lines)


def timeline(story: Story, *, now: datetime) -> list[Line]:
    """All that happened to a task, in its order."""
    chapters = [*_beginning(story), *_progress(story), *_attempts(story), *_end(story), *_told(story)]
    chapters.sort(key=lambda chapter: chapter[0].at or now)
    return [line for chapter in chapters for line in chapter]


def _beginning(story: Story) -> Iterator[list[Line]]:
    if story.registered_at:
        yield [Line(story.registered_at, "registered", "by the API server")]
    if story.published_at:
        yield [Line(story.published_at, "published", "on the request queue")]


def _progress(story: Story) -> Iterator[list[Line]]:
    told = [one for one in story.notifications if one.type == GraphProgress.event]
    for index, one in enumerate(told[-MOST_PROGRESS:]):
        percent, eta = one.payload.get("progressPercent"), one.payload.get("etaSeconds")
        parts = [
            None if percent is None else f"{percent:g} %",
            one.payload.get("currentStage"),
            None if eta is None else f"{eta:g} s left",
        ]
        lines = [Line(one.at, "progress", ", ".join(filter(None, parts)))]
        if index == 0 and len(told) > MOST_PROGRESS:
            lines.insert(0, Line(one.at, "progress", f"… {len(told) - MOST_PROGRESS} times before"))
        yield lines


def _attempts(story: Story) -> Iterator[list[Line]]:
    for one in story.attempts:
        label = "dead letter" if one.given_up else f"attempt {one.number}"
        when = f" at attempt {one.number}" if one.given_up else ""
        yield [Line(one.at, label, f"{one.reason}{when}: {one.error}")]


def _end(story: Story) -> Iterator[list[Line]]:
    if not story.finished_at:
        if story.status and story.news_at:
            yield [Line(None, "waiting", f"{_unfinished(story)}; last news at {story.news_at:%Y-%m-%d %H:%M:%S}")]
        return
    how = f" at delivery {story.deliveries}" if story.deliveries else ""
    why = ": ".join(filter(None, (story.reason, story.error)))
    lines = [Line(story.finished_at, "result", f"{story.status}{how}" + (f": {why}" if why else ""))]
    lines += [Line(None, "object", _short(key, story.task_id)) for key in story.s3_keys]
    lines += [Line(None, "warning", f"{name}: {count}") for name, count in (story.warnings or {}).items()]
    yield lines


def _short(key: str, task_id: str) -> str:
    """An object's key without the ID that stands in the heading: with it, few keys fit into a line."""
    return key.replace(task_id, "…").replace(parse_task_id(task_id).document_id, "…")


def _unfinished(story: Story) -> str:
    if story.status == "PENDING" and story.registered_at and not story.published_at:
        return "not known to be published, and no result yet"
    return "no result yet"


def _told(story: Story) -> Iterator[list[Line]]:
    for one in story.notifications:
        if one.type == GraphProgress.event:
            continue
        told = ", ".join(
            f"{name} {value}"
            for name, value in one.payload.items()
            if name not in OF_THE_HEADING and value not in (None, "")
        )
        yield [Line(one.at, "told", f"{one.type}: {told}" if told else one.type)]
        yield [Line(one.pushed_at or one.at, "push", _push_text(one))]


def _push_text(told: Told) -> str:
    text = told.push_status
    if told.push_attempts > 1:
        text += f" at attempt {told.push_attempts}"
    if told.push_error:
        text += f": {told.push_error}"
    if told.push_due_at:
        text += f"; next at {told.push_due_at:%Y-%m-%d %H:%M:%S}"
    return text


def _lines(line: Line) -> list[str]:
    time = f"{line.at:%H:%M:%S}" if line.at else ""
    head = f"{time:<{TIME_WIDTH}}{line.label:<{LABEL_WIDTH}}"
    return textwrap.wrap(
        printable(line.text),
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
    ) or [head.rstrip()]
