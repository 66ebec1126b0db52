"""Dead letters for a terminal: lines of at most 80 columns (an ID or a key may be longer), without colour."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from graphnode.cli.story_rendering import WIDTH, story_text
from graphnode.operations.dead_letters.advice import advice, runbook_chapter
from graphnode.operations.dead_letters.letters import LetterInfo, count_by_reason
from graphnode.operations.dead_letters.reader import VISIBILITY_S, Listing
from graphnode.operations.dead_letters.report import LetterReport
from graphnode.sqs.dead_letter import SHORTENED
from graphnode.text import escaped, printable

#: Letters of a group that a list shows by default.
SHOWN = 5

#: The longest body that is shown, in lines and characters; an export has all of it.
MOST_LINES = 60
LONGEST_BODY = 8000

#: Groups by age: the upper bound, and the label.
AGES = (
    (timedelta(hours=1), "under 1 hour old"),
    (timedelta(days=1), "1 hour to 1 day old"),
    (timedelta(days=7), "1 to 7 days old"),
    (timedelta.max, "over 7 days old"),
)

#: rich measures texts with it; nothing is printed on it.
_MEASURE = Console(width=WIDTH, color_system=None)


def list_text(listing: Listing, *, now: datetime, most: int | None = SHOWN) -> str:
    """The letters of a queue by reason, task type and age; the most frequent reason first.

    Parameters:
      most: letters of a group that are shown; None: all.
    """
    letters = listing.letters
    others = f"; {listing.others:,} other{'s' * (listing.others != 1)}" if listing.others else ""
    if not letters:
        none = "none could be read" if listing.hidden or listing.missing else "no dead letters"
        return f"{listing.queue.title}: {f'none {listing.wanted}' if others else none}{others}"
    oldest = ago(now - min(one.since for one in letters))
    lines = [f"{listing.queue.title}: {_letters(len(letters))}, the oldest {oldest} old{others}"]
    for reason, count in count_by_reason(letters).most_common():
        lines += ["", f"{printable(reason)}  {count:,}", *_wrap(advice(reason), 2)]
        own = sorted((one for one in letters if one.reason == reason), key=lambda one: _group(one, now))
        for (age, task_type), group in groupby(own, lambda one: _group(one, now)):
            members = sorted(group, key=lambda one: one.since)
            lines += ["", f"  {printable(task_type) or 'unknown type'}, {AGES[age][1]}: {len(members):,}"]
            for one in members[:most]:
                lines += _entry(one, now)
            if most is not None and len(members) > most:
                lines.append(f"    … {len(members) - most:,} more, with --all")
    return "\n".join(lines)


def incompleteness(listing: Listing) -> list[str]:
    """Why a list may lack letters, a line each; empty if it is complete."""
    title, notes = listing.queue.title, []
    if listing.missing:
        notes.append(f"{title}: SQS says there are about {listing.missing:,} more: the list may be incomplete.")
    if listing.hidden:
        notes.append(f"{title}: about {listing.hidden:,} letters were in flight elsewhere, and are not listed.")
    if listing.not_released:
        notes.append(not_released(title, listing.not_released))
    return notes


def not_released(title: str, count: int) -> str:
    """A line that says that letters stay hidden."""
    return f"{title}: {_letters(count)} could not be made visible again: hidden for up to {VISIBILITY_S} s."


def letter_text(report: LetterReport, *, now: datetime) -> str:
    """A letter's reason, what to do, its body, objects, task and stack."""
    info, diagnosis = report.info, report.diagnosis
    lines = [f"{info.message_id} on {report.title}", *_wrap(_heading(info, now), 2), ""]
    lines += [printable(info.reason) + ("" if info.stated else " (inferred: the letter has no reason)")]
    lines += _wrap(printable(info.error), 2)
    if diagnosis:
        lines += ["", f"Diagnosis: {diagnosis.reason or 'nothing is wrong with it'}"]
        lines += _wrap(printable(diagnosis.text), 2)
    chapter = runbook_chapter((diagnosis and diagnosis.reason) or info.reason)
    lines += ["", "What to do", *_wrap(report.what_to_do, 2), f"  More: {chapter}"]
    lines += ["", f"Body ({info.body_bytes:,} bytes)", *_body(report.body)]
    if report.objects:
        lines += ["", "Objects"]
        for one in report.objects:
            lines += [f"  {printable(one.name)}", f"    {printable(one.state)}"]
    lines += ["", *_task(report, now)]
    attempts = [one for story in report.stories for one in story.attempts if one.stack]
    if attempts:
        stack = max(attempts, key=lambda one: one.at).stack or ""
        lines += ["", "Stack of the last attempt", *(f"  {line}" for line in stack.splitlines())]
    return "\n".join(lines)


def ago(span: timedelta) -> str:
    """An age in whole seconds, minutes, hours or days."""
    seconds = max(0, int(span.total_seconds()))
    for unit, length, most in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{seconds // length} {unit}"
    return f"{seconds // 86_400} d"


def _group(info: LetterInfo, now: datetime) -> tuple[int, str]:
    age = now - info.since
    return next(index for index, (most, _) in enumerate(AGES) if age < most), info.task_type or ""


def _entry(info: LetterInfo, now: datetime) -> Iterator[str]:
    yield f"    {printable(info.task_id or info.notification_id or info.message_id)}"
    parts = [printable(info.user_id) if info.user_id else "unknown user", _attempts(info), ago(now - info.since)]
    yield from _wrap(f"{', '.join(parts)}: {printable(info.error)}", 6, most=3)


def _attempts(info: LetterInfo) -> str:
    if info.attempts is None:
        return f"received {info.received} times" if info.received != 1 else "received once"
    return f"{info.attempts} attempt{'s' * (info.attempts != 1)}"


def _heading(info: LetterInfo, now: datetime) -> str:
    parts = [f"{info.since:%Y-%m-%d %H:%M:%S} UTC ({ago(now - info.since)} ago)", _attempts(info)]
    if info.worker:
        parts.append(f"worker {printable(info.worker)}")
    what = printable(info.task_type or "unknown type")
    whose = printable(info.user_id) if info.user_id else "unknown user"
    return f"{what} of {whose}; {', '.join(parts)}"


def _body(body: str) -> list[str]:
    """JSON with indentation; anything else unchanged. Unprintable characters are escaped."""
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = body
    lines = [escaped(line) for line in text[:LONGEST_BODY].split("\n")[:MOST_LINES]]
    if len(text) > LONGEST_BODY or text.count("\n") >= MOST_LINES:
        lines.append("[…] all of it: graphnode dlq export FILE")
    return [f"  {line}" for line in lines]


def _task(report: LetterReport, now: datetime) -> list[str]:
    if report.note:
        return _wrap(report.note, 0)
    if not report.stories:
        return ["Task", "  The database does not know it."]
    return "\n\n".join(story_text(story, now=now) for story in report.stories).split("\n")


def _wrap(text: str, indent: int, *, most: int | None = None) -> list[str]:
    """Lines of a text, wrapped by terminal columns: a Korean or Chinese character takes two."""
    lines = [line.plain.rstrip() for line in Text(text).wrap(_MEASURE, WIDTH - indent)]
    if most is not None and len(lines) > most:
        room = WIDTH - indent - len(SHORTENED)
        lines = [*lines[: most - 1], set_cell_size(lines[most - 1], min(room, cell_len(lines[most - 1]))) + SHORTENED]
    return [" " * indent + line for line in lines]


def _letters(count: int) -> str:
    return f"{count:,} dead letter{'s' * (count != 1)}"
