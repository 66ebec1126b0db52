"""Dead letters as a terminal shows them: in lines of at most 80 columns, but for an ID's or a key's; without colour."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from graphnode.contract.envelopes import ROUTES
from graphnode.operations.dead_letters.advice import UNEXPLAINED, advice, runbook_chapter
from graphnode.operations.dead_letters.diagnosis import Diagnosis, Found
from graphnode.operations.dead_letters.letters import Facts, count_by_reason
from graphnode.operations.dead_letters.reading import VISIBILITY_S, Listing
from graphnode.operations.stories.telling import WIDTH, Story, story_text
from graphnode.sqs.dead_letter import SHORTENED
from graphnode.text import escaped, printable

#: Letters of a group that are shown, unless all are asked for.
SHOWN = 5

#: Lines and characters of an envelope that are shown; an export has all of it.
MOST_LINES = 60
LONGEST_BODY = 8000

#: The groups of ages: up to which age, and how it is told.
AGES = (
    (timedelta(hours=1), "under 1 hour old"),
    (timedelta(days=1), "1 hour to 1 day old"),
    (timedelta(days=7), "1 to 7 days old"),
    (timedelta.max, "over 7 days old"),
)

#: What rich measures a text with; nothing is printed on it.
_MEASURE = Console(width=WIDTH, color_system=None)


class Shown(NamedTuple):
    """A letter and all that was looked up about it.

    Parameters:
      title: the dead-letter queue's name.
      objects: what S3 says of the objects it names.
      stories: its task's, if the database knows any.
      note: why the database was not asked.
      diagnosis: what decoding it gave, if that was asked for.
    """

    facts: Facts
    title: str
    body: str
    objects: Sequence[Found]
    stories: Sequence[Story]
    note: str | None
    diagnosis: Diagnosis | None


def list_text(listing: Listing, *, now: datetime, most: int | None = SHOWN) -> str:
    """The letters of a queue by reason, task type and age: those that are the most first.

    Parameters:
      most: letters of a group that are shown; None: all.
    """
    letters = listing.letters
    if not letters:
        return f"{listing.queue.title}: no dead letters"
    oldest = ago(now - min(one.since for one in letters))
    lines = [f"{listing.queue.title}: {_letters(len(letters))}, the oldest {oldest} old"]
    for reason, count in count_by_reason(letters).most_common():
        lines += ["", f"{printable(reason)}  {count:,}", *_wrap(advice(reason), 2)]
        own = sorted((one for one in letters if one.reason == reason), key=lambda one: _group(one, now))
        for (age, task_type), group in groupby(own, lambda one: _group(one, now)):
            members = sorted(group, key=lambda one: one.since)
            lines += ["", f"  {printable(task_type) or 'of no known type'}, {AGES[age][1]}: {len(members):,}"]
            for one in members[:most]:
                lines += _entry(one, now)
            if most is not None and len(members) > most:
                lines.append(f"    … {len(members) - most:,} more, with --all")
    return "\n".join(lines)


def completeness(listing: Listing) -> list[str]:
    """What a list cannot vouch for."""
    title, notes = listing.queue.title, []
    if listing.missing:
        notes.append(f"{title}: SQS says there are about {listing.missing:,} more: the list may be incomplete.")
    if listing.hidden:
        notes.append(f"{title}: about {listing.hidden:,} letters were in somebody else's hands, and are not listed.")
    if listing.not_released:
        notes.append(not_released(title, listing.not_released))
    return notes


def not_released(title: str, count: int) -> str:
    """That letters could not be given back."""
    return f"{title}: {_letters(count)} could not be given back: hidden for up to {VISIBILITY_S} s."


def show_text(shown: Shown, *, now: datetime) -> str:
    """A letter: what it says, what to do, its body, its objects, its task, its stack."""
    facts = shown.facts
    lines = [f"{facts.message_id} on {shown.title}", *_wrap(_origin(facts, now), 2), ""]
    lines += [printable(facts.reason) + ("" if facts.stated else " (worked out: the letter has no reason)")]
    lines += _wrap(printable(facts.error), 2)
    if shown.diagnosis:
        lines += ["", f"Diagnosis: {shown.diagnosis.reason or 'nothing is wrong with it'}"]
        lines += _wrap(printable(shown.diagnosis.text), 2)
    wrong = shown.diagnosis.reason if shown.diagnosis else None
    lines += ["", "What to do", *_wrap(what_to_do(shown), 2), f"  More: {runbook_chapter(wrong or facts.reason)}"]
    lines += ["", f"Body ({facts.body_bytes:,} bytes)", *_body(shown.body)]
    if shown.objects:
        lines += ["", "Objects"]
        lines += [line for one in shown.objects for line in (f"  {printable(one.name)}", f"    {printable(one.state)}")]
    lines += ["", *_task(shown, now)]
    if stack := last_stack(shown.stories):
        lines += ["", "Stack of the last attempt", *(f"  {line}" for line in stack.splitlines())]
    return "\n".join(lines)


def what_to_do(shown: Shown) -> str:
    """The advice for a letter's reason; or that its task is over."""
    facts = shown.facts
    row_type = ROUTES[facts.task_type].task_type if facts.task_type in ROUTES else facts.task_type
    if any(story.status == "COMPLETED" and story.task_type == row_type for story in shown.stories):
        return (
            "Its task is COMPLETED: redriven, it has no effect. "
            f"Delete it: graphnode dlq delete {facts.message_id} --because TEXT"
        )
    if shown.diagnosis and shown.diagnosis.reason:
        return advice(shown.diagnosis.reason)
    if shown.diagnosis and facts.reason != UNEXPLAINED:
        return "What failed is mended: redrive it."
    return advice(facts.reason)


def last_stack(stories: Sequence[Story]) -> str | None:
    """Where the newest attempt that has a stack failed."""
    attempts = [one for story in stories for one in story.attempts if one.stack]
    return max(attempts, key=lambda one: one.at).stack if attempts else None


def ago(span: timedelta) -> str:
    """An age in its largest unit."""
    seconds = max(0, int(span.total_seconds()))
    for unit, length, most in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{seconds // length} {unit}"
    return f"{seconds // 86_400} d"


def _group(facts: Facts, now: datetime) -> tuple[int, str]:
    age = now - facts.since
    return next(index for index, (most, _) in enumerate(AGES) if age < most), facts.task_type or ""


def _entry(facts: Facts, now: datetime) -> Iterator[str]:
    yield f"    {printable(facts.task_id or facts.notification_id or facts.message_id)}"
    parts = [printable(facts.user_id) if facts.user_id else "nobody known", _attempts(facts), ago(now - facts.since)]
    yield from _wrap(f"{', '.join(parts)}: {printable(facts.error)}", 6, most=3)


def _attempts(facts: Facts) -> str:
    if facts.attempts is None:
        return f"received {facts.received} times" if facts.received != 1 else "received once"
    return f"{facts.attempts} attempt{'s' * (facts.attempts != 1)}"


def _origin(facts: Facts, now: datetime) -> str:
    parts = [f"{facts.since:%Y-%m-%d %H:%M:%S} UTC ({ago(now - facts.since)} ago)", _attempts(facts)]
    if facts.worker:
        parts.append(f"worker {printable(facts.worker)}")
    what = printable(facts.task_type or "of no known type")
    whose = printable(facts.user_id) if facts.user_id else "nobody known"
    return f"{what} of {whose}; {', '.join(parts)}"


def _body(body: str) -> list[str]:
    """An envelope, pretty-printed; what is no JSON as it is, with escapes for what is not for the eye."""
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = body
    lines = [escaped(line) for line in text[:LONGEST_BODY].split("\n")[:MOST_LINES]]
    if len(text) > LONGEST_BODY or text.count("\n") >= MOST_LINES:
        lines.append("[…] all of it: graphnode dlq export FILE")
    return [f"  {line}" for line in lines]


def _task(shown: Shown, now: datetime) -> list[str]:
    if shown.note:
        return _wrap(shown.note, 0)
    if not shown.stories:
        return ["Task", "  The database knows nothing of it."]
    return "\n\n".join(story_text(story, now=now) for story in shown.stories).split("\n")


def _wrap(text: str, indent: int, *, most: int | None = None) -> list[str]:
    """A text in lines, measured in a terminal's columns: Korean and Chinese characters have two."""
    lines = [line.plain.rstrip() for line in Text(text).wrap(_MEASURE, WIDTH - indent)]
    if most is not None and len(lines) > most:
        room = WIDTH - indent - len(SHORTENED)
        lines = [*lines[: most - 1], set_cell_size(lines[most - 1], min(room, cell_len(lines[most - 1]))) + SHORTENED]
    return [" " * indent + line for line in lines]


def _letters(count: int) -> str:
    return f"{count:,} dead letter{'s' * (count != 1)}"
