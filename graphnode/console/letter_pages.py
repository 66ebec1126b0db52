"""Dead letters: the list by reason, one letter, and what can be done with them."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from graphnode.console.gate import Form, person_of
from graphnode.console.rendering import backends, link, message, render
from graphnode.contract.timeouts import typed_duration
from graphnode.operations.actions import Actor
from graphnode.operations.dead_letters.letter_files import export_letters
from graphnode.operations.dead_letters.letters import LetterFilter, LetterInfo
from graphnode.operations.dead_letters.reader import LetterQueue
from graphnode.operations.dead_letters.report import report_letter
from graphnode.operations.dead_letters.shelf import ShelvedLetter, ShelvedQueue
from graphnode.operations.dead_letters.subject import subject_of
from graphnode.text import escaped

#: Letters on the page; actions on all that match take the others, too.
SHOWN = 200

#: Seconds that a page waits for the first reading, and an action for a new one: it says how many it would take.
FIRST_S = 1.5
COUNT_S = 12.0

#: What can be done.
ACTIONS = ("redrive", "delete", "download")

#: Bytes of a download that are sent at a time.
CHUNK = 64 * 1024


class Wanted(NamedTuple):
    """Which letters: on these queues, and of those the ones that match.

    Parameters:
      queue: empty: all.
      older: as it was typed; empty if any age matches.
    """

    queue: str
    older: str
    filter: LetterFilter

    @classmethod
    def of(cls, given: dict[str, str], message_ids: Iterable[str] = ()) -> Wanted:
        """From the fields of a form or a query. An age that is none is left out."""
        older = given.get("older", "")
        chosen = frozenset(message_ids)
        return cls(
            given.get("queue", ""),
            older,
            LetterFilter(
                reason=given.get("reason") or None,
                task_id=given.get("task") or None,
                task_type=given.get("type") or None,
                older_than=typed_duration(older),
                user_id=given.get("user") or None,
                message_ids=chosen or None,
            ),
        )

    @property
    def fields(self) -> dict[str, str]:
        """The fields of a form or a query, without the chosen letters."""
        one = self.filter
        fields = {
            "queue": self.queue,
            "reason": one.reason,
            "type": one.task_type,
            "user": one.user_id,
            "task": one.task_id,
            "older": self.older,
        }
        return {name: value for name, value in fields.items() if value}

    def matching(self, shelf: Iterable[ShelvedQueue]) -> list[LetterInfo]:
        """The letters of a reading that match."""
        now = datetime.now(UTC)
        return [
            one.info
            for queue in shelf
            if self.queue in ("", queue.name)
            for one in queue.letters
            if self.filter.matches(one.info, now=now)
        ]


def letters(request: Request) -> Response:
    """The list, grouped by reason."""
    own = backends(request)
    is_live = "x-live" in request.headers
    shelf = own.letters.latest(wait_s=FIRST_S, refresh=not is_live)
    wanted = Wanted.of(dict(request.query_params))
    every = [one.info for queue in shelf or [] for one in queue.letters]
    found = wanted.matching(shelf or [])
    return render(
        request,
        "letters.html",
        shelf=shelf,
        is_reading=own.letters.is_reading,
        wanted=wanted,
        found=found[:SHOWN],
        count=len(found),
        every=len(every),
        by_reason=Counter(info.reason for info in found).most_common(),
        reasons=sorted({info.reason for info in every}),
        types=sorted({info.task_type for info in every if info.task_type}),
        can_redrive=person_of(request).may_change,
    )


def letter(request: Request) -> Response:
    """One letter with all that is known of it."""
    own = backends(request)
    queue_name, message_id = request.query_params.get("queue", ""), request.query_params.get("id", "")
    shelf = own.letters.latest(wait_s=FIRST_S) or []
    place = next((one for one in shelf if one.name == queue_name), None)
    shelved = _on(place, message_id)
    if not place or not place.queue or not shelved:
        return message(
            request,
            "No such letter",
            f"No dead letter has the ID {escaped(message_id)}: it may have been redriven or deleted meanwhile, or is "
            "hidden for up to two minutes because somebody reads the queue.",
            status=404,
        )
    found = shelved.letter or own.find_letter(place.queue, message_id)
    if found is None:
        return message(request, "The letter is gone", "It was redriven or deleted a moment ago.", status=404)
    report = report_letter(
        found,
        place.queue,
        s3=own.s3,
        bucket=own.bucket,
        no_database=None if own.has_database else "DATABASE_URL is missing",
    )
    stacks = [
        attempt.stack for story in report.stories for attempt in story.attempts if attempt.given_up and attempt.stack
    ]
    errors = {name: value["StringValue"] for name, value in found.attributes.items() if "StringValue" in value}
    return render(
        request,
        "letter.html",
        report=report,
        queue=queue_name,
        attributes=errors,
        stack=stacks[-1] if stacks else None,
    )


def _on(place: ShelvedQueue | None, message_id: str) -> ShelvedLetter | None:
    return next((one for one in place.letters if one.info.message_id == message_id), None) if place else None


def check(request: Request, form: Form) -> Response:
    """Say what an action would do, and ask for the rest of what it needs: the dry run. It changes nothing."""
    action = form.text("action")
    own, wanted = backends(request), _wanted(form)
    if action not in ACTIONS:
        return message(request, "Nothing chosen", "Choose what to do with the letters.", status=400)
    if form.text("scope") == "chosen" and not wanted.filter.message_ids:
        return message(request, "No letter chosen", "Choose letters in the list, or act on all that match.", status=400)
    if action == "download":
        return download(request, form)
    if not person_of(request).may_change:
        return forbidden(request)
    before = own.letters.version
    shelf = own.letters.new(wait_s=COUNT_S) or []
    found = wanted.matching(shelf)
    return render(
        request,
        "check.html",
        action=action,
        wanted=wanted,
        count=len(found),
        is_fresh=own.letters.version > before,
        is_partial=any(queue.missing for queue in shelf),
        by_reason=Counter(info.reason for info in found).most_common(),
    )


def act(request: Request, form: Form) -> Response:
    """Begin an action; the page of its audit entry shows how far it is."""
    action, because = form.text("action"), form.text("because")
    own, wanted, person = backends(request), _wanted(form), person_of(request)
    queues = _queues(own.letters.latest(wait_s=COUNT_S) or [], wanted)
    if action not in ("redrive", "delete"):
        return message(request, "Nothing chosen", "Choose what to do with the letters.", status=400)
    if action == "delete" and not because:
        return message(request, "Why?", "Say why the letters are deleted: go back and fill it in.", status=400)
    rate = form.text("rate")
    if rate and not re.fullmatch(r"[1-9]\d{0,4}", rate):
        return message(request, "The rate is no number", "Give letters a second, from 1 to 99999.", status=400)
    count = form.text("count")
    subject = subject_of(
        wanted.filter, queues=wanted.queue, count=int(count) if count.isdecimal() and len(count) < 10 else None
    )
    who = f"{person.name} (console)"
    entry_id = own.jobs.start(
        action,
        subject.text,
        partial(own.redrive, queues, wanted.filter, float(rate) if rate else None)
        if action == "redrive"
        else partial(own.delete, queues, wanted.filter, because, who),
        actor=Actor(person.name, "console"),
        because=because or None,
        user_id=subject.user_id,
        at_end=own.letters.expire,
    )
    return RedirectResponse(link("/action", id=entry_id), 303)


def download(request: Request, form: Form) -> Response:
    """The letters as `graphnode dlq export` writes them."""
    own, wanted = backends(request), _wanted(form)
    file = tempfile.TemporaryFile()  # noqa: SIM115 # the answer closes it
    try:
        queues = _queues(own.letters.latest(wait_s=COUNT_S) or [], wanted)
        with own.reading_letters():
            for queue in queues:
                for _ in export_letters(own.sqs, queue, wanted.filter, file):
                    pass
    except BaseException:
        file.close()
        raise
    file.seek(0)

    def chunks() -> Iterator[bytes]:
        with file:
            while chunk := file.read(CHUNK):
                yield chunk

    name = f"dead-letters-{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl"
    return StreamingResponse(
        chunks(),
        media_type="application/x-ndjson",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


def _wanted(form: Form) -> Wanted:
    given = {name: values[0].strip() for name, values in form.items() if values}
    return Wanted.of(given, form.get("letter", ()) if form.text("scope") == "chosen" else ())


def _queues(shelf: Iterable[ShelvedQueue], wanted: Wanted) -> list[LetterQueue]:
    return [one.queue for one in shelf if one.queue and wanted.queue in ("", one.name)]


def forbidden(request: Request) -> Response:
    """The answer to a viewer who wants to change something."""
    return message(
        request,
        "You may only look",
        "Changes need the role operator, and on a shared address a console that was started with --allow-changes.",
        status=403,
    )
