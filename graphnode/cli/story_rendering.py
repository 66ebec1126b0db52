"""A task's timeline for a terminal."""

from __future__ import annotations

import textwrap
from datetime import datetime

from graphnode.operations.stories.story import Story
from graphnode.operations.stories.timeline import TimelineEntry, timeline
from graphnode.text import printable

#: Columns of a line, of the time and of the label.
WIDTH = 80
TIME_WIDTH = 10
LABEL_WIDTH = 14


def story_text(story: Story, *, now: datetime) -> str:
    """A task's timeline, with times in UTC, in lines of at most WIDTH columns; the ID's line may be longer."""
    heading = printable(f"{story.task_type} of {story.user_id or 'unknown user'}: {story.status or 'not stored'}")
    lines = [printable(story.task_id), *textwrap.wrap(heading, WIDTH)]
    day = None
    for entry in timeline(story, now=now):
        if entry.at and entry.at.date() != day:
            day = entry.at.date()
            lines += ["", f"{day} UTC"]
        lines += _lines(entry)
    return "\n".join(lines)


def _lines(entry: TimelineEntry) -> list[str]:
    time = f"{entry.at:%H:%M:%S}" if entry.at else ""
    head = f"{time:<{TIME_WIDTH}}{entry.label:<{LABEL_WIDTH}}"
    return textwrap.wrap(
        printable(entry.text),
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
    ) or [head.rstrip()]
