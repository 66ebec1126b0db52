"""A dead letter with what S3 and the database know of it, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from graphnode.contract.envelopes import RESULT_QUEUE, ROUTES
from graphnode.errors import classify_error
from graphnode.operations.dead_letters.advice import UNEXPLAINED, advice
from graphnode.operations.dead_letters.diagnosis import Diagnosis, NamedObject, diagnose, look_up_objects
from graphnode.operations.dead_letters.letters import Letter, LetterInfo, letter_info, summarize
from graphnode.operations.dead_letters.reader import LetterQueue
from graphnode.operations.stories.story import FailedAttempt, Story, find_stories
from graphnode.storage.notifications import NotificationRecord
from graphnode.storage.schema import check_schema

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class LetterReport(msgspec.Struct, frozen=True, kw_only=True, rename={"info": "facts"}):
    """A letter and all that was looked up about it. In JSON, `info` is called `facts`.

    Parameters:
      title: the dead-letter queue's name.
      objects: the objects that it names.
      stories: its task's, as far as the database knows it.
      note: why the database was not read.
      diagnosis: None if it was not asked for.
    """

    info: LetterInfo
    title: str
    body: str
    objects: Sequence[NamedObject]
    stories: Sequence[Story]
    note: str | None
    diagnosis: Diagnosis | None
    what_to_do: str


def report_letter(
    letter: Letter,
    queue: LetterQueue,
    *,
    s3: S3Client,
    bucket: str | None,
    no_database: str | None = None,
    largest_bytes: int | None = None,
) -> LetterReport:
    """Look up a letter's objects and task, and decide what to do about it.

    Parameters:
      bucket: the payload bucket; None if it is unknown.
      no_database: why the storage is not open; None if it is.
      largest_bytes: the size limit of a document in a diagnosis; None: no diagnosis. A diagnosis needs the bucket.
    """
    info = letter_info(letter, queue.name)
    stories, unread = ([], no_database) if no_database else _stories(info)
    diagnosis = None
    if largest_bytes is not None and bucket and queue.name == RESULT_QUEUE:
        diagnosis = diagnose(s3, letter, bucket=bucket, largest_bytes=largest_bytes)
    return LetterReport(
        info=info,
        title=queue.title,
        body=letter.body,
        objects=look_up_objects(s3, summarize(letter.body, queue.name), bucket=bucket),
        stories=stories,
        note=f"Its task was not looked up: {unread}" if unread else None,
        diagnosis=diagnosis,
        what_to_do=what_to_do(info, stories, diagnosis),
    )


def stories_of_letters(infos: Sequence[LetterInfo]) -> list[Story]:
    """The stories of tasks that the database does not know, from their letters; one for each task and type."""
    by_task: dict[tuple[str, str], list[LetterInfo]] = {}
    for info in sorted(infos, key=lambda one: one.since):
        by_task.setdefault((info.task_id or info.message_id, info.task_type or "unknown type"), []).append(info)
    return [
        Story(task_id=task_id, task_type=task_type, user_id=own[-1].user_id, attempts=list(map(_attempt, own)))
        for (task_id, task_type), own in by_task.items()
    ]


def what_to_do(info: LetterInfo, stories: Sequence[Story] = (), diagnosis: Diagnosis | None = None) -> str:
    """The advice for a letter: delete it if its task is COMPLETED, else by the diagnosis or by its reason."""
    row_type = ROUTES[info.task_type].task_type if info.task_type in ROUTES else info.task_type
    if any(story.status == "COMPLETED" and story.task_type == row_type for story in stories):
        return (
            "Its task is COMPLETED: redriven, it has no effect. "
            f"Delete it: graphnode dlq delete {info.message_id} --because TEXT"
        )
    if diagnosis and diagnosis.reason:
        return advice(diagnosis.reason)
    if diagnosis and info.reason != UNEXPLAINED:
        return "What failed is fixed: redrive it."
    return advice(info.reason)


def _attempt(info: LetterInfo) -> FailedAttempt:
    number = info.attempts or info.received
    return FailedAttempt(at=info.since, number=number, reason=info.reason, error=info.error, given_up=True)


def _stories(info: LetterInfo) -> tuple[list[Story], str | None]:
    """The stories of a letter's task, and why the database could not be read."""
    try:
        check_schema()
        task_id = info.task_id
        if info.notification_id:
            row = NotificationRecord.get_or_none(NotificationRecord.id == info.notification_id)
            task_id = row.payload.get("taskId") if row else None
        return (find_stories(task_id) if task_id else []), None
    except Exception as raised:
        error = classify_error(raised)
        if error.reason == "UNEXPECTED":
            raise
        return [], str(error)
