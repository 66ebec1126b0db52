"""All dead letters at one moment, for a page: read quickly, and all visible again at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from graphnode.errors import GraphNodeError, one_line
from graphnode.operations.dead_letters.letters import Letter, LetterInfo, letter_info
from graphnode.operations.dead_letters.reader import LetterQueue, LetterReader, find_queue
from graphnode.sqs.queues import visible_messages

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: Seconds for a queue, and the most of its letters: meanwhile they are hidden from others.
MOST_S = 5.0
MOST_LETTERS = 2_000

#: The visibility timeout in seconds: if this process is killed, its letters are back soon.
VISIBILITY_S = 20

#: The largest body that is kept, and the most bytes of all kept bodies of a queue. Of other letters it is read again.
LARGEST_BODY = 16 * 1024
MOST_BYTES = 4 << 20


class ShelvedLetter(msgspec.Struct, frozen=True):
    """A letter: what it says, and itself if it is small."""

    info: LetterInfo
    letter: Letter | None


class ShelvedQueue(msgspec.Struct, frozen=True, kw_only=True):
    """A dead-letter queue's letters.

    Parameters:
      name: the source queue's, `results` or `requests`.
      missing: about how many more SQS counts.
      unseen: why it was not read; empty if it was.
    """

    name: str
    queue: LetterQueue | None = None
    letters: list[ShelvedLetter] = []
    missing: int = 0
    unseen: str = ""


def read_shelf(sqs: SQSClient, urls: Mapping[str, str]) -> list[ShelvedQueue]:
    """The letters of the source queues with these URLs, by name. What cannot be read says why."""
    return [_read_queue(sqs, name, url) for name, url in urls.items()]


def _read_queue(sqs: SQSClient, name: str, url: str) -> ShelvedQueue:
    try:
        queue = find_queue(sqs, name, url)
        if queue is None:
            return ShelvedQueue(name=name, unseen="it has no dead-letter queue")
        if queue.own_limit is not None:
            unseen = (
                "it has a redrive policy of its own, so that each look counts: remove that, or use `graphnode dlq list`"
            )
            return ShelvedQueue(name=name, queue=queue, unseen=unseen)
        # An empty poll takes a second.
        letters, missing = _read_letters(sqs, queue) if visible_messages(sqs, queue.url) else ([], 0)
        return ShelvedQueue(name=name, queue=queue, letters=letters, missing=missing)
    except (ClientError, BotoCoreError, GraphNodeError) as error:
        return ShelvedQueue(name=name, unseen=one_line(error))


def _read_letters(sqs: SQSClient, queue: LetterQueue) -> tuple[list[ShelvedLetter], int]:
    """The letters, and about how many more there are."""
    until = time.monotonic() + MOST_S
    found: list[ShelvedLetter] = []
    kept = 0
    with LetterReader(sqs, queue.url) as reader:
        reader.visibility_s = VISIBILITY_S
        for letters in reader.batches():
            for letter in letters:
                info = letter_info(letter, queue.name)
                is_kept = info.body_bytes <= LARGEST_BODY and kept + info.body_bytes <= MOST_BYTES
                kept += info.body_bytes if is_kept else 0
                found.append(ShelvedLetter(info, letter if is_kept else None))
            if len(found) >= MOST_LETTERS or time.monotonic() > until:
                break
            if not reader.missing:
                # All that SQS has counted: the rest of the polls would be empty.
                break
    found.sort(key=lambda one: one.info.since, reverse=True)
    return found, reader.missing
