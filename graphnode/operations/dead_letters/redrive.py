"""Redriving dead letters: each message is sent to its source queue first, then its letter is deleted.

A crash in between leaves both. The letter may be redriven again: the task's row makes the repeat harmless.

A message that fails again at once is a new letter, which SQS may deliver to the same redrive. It names the message that
was sent, and so it is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from graphnode.operations.dead_letters.letters import (
    Letter,
    LetterFilter,
    letter_info,
    sender_attributes,
    sender_group,
)
from graphnode.operations.dead_letters.reader import LetterQueue, LetterReader
from graphnode.operations.dead_letters.sender import OutgoingMessage, send_messages
from graphnode.sqs.queues import BATCH_ENTRIES

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: Seconds between two reports while the rate limit delays the next batch.
REPORT_S = 0.5


class RedriveProgress(NamedTuple):
    """How far a redrive is, as numbers of letters.

    Parameters:
      seen: letters that were read.
      matching: those that match the filter, up to the limit.
      moved: those that were sent; 0 in a dry run.
      refused: those that SQS refused; they stay letters.
      undeleted: those that were sent and could not be deleted; another redrive would repeat them.
      failed_again: those that were sent, failed and are letters again, as far as they were read.
      missing: about how many more SQS counted; in the last report.
      not_released: those that stay hidden for up to VISIBILITY_S; in the last report.
      error: why SQS refused the last one.
    """

    seen: int = 0
    matching: int = 0
    moved: int = 0
    refused: int = 0
    undeleted: int = 0
    failed_again: int = 0
    missing: int = 0
    not_released: int = 0
    error: str | None = None


class _Sent:
    """The messages that a redrive has sent."""

    def __init__(self) -> None:
        self._message_ids: set[str] = set()
        self._bodies: set[int] = set()

    def add(self, letter: Letter, message_id: str) -> None:
        """Note a letter's message, and its new ID."""
        self._message_ids.add(message_id)
        self._bodies.add(hash(letter.body))

    def has_failed_again(self, letter: Letter, *, since: datetime) -> bool:
        """Whether a letter is one of these messages, failed again.

        Parameters:
          since: the beginning of the redrive, for a letter that does not name its message.
        """
        if letter.original_message_id:
            return letter.original_message_id in self._message_ids
        return letter.sent_at >= since and hash(letter.body) in self._bodies


def redrive_letters(
    sqs: SQSClient,
    queue: LetterQueue,
    wanted: LetterFilter,
    *,
    limit: int | None = None,
    per_second: float | None = None,
    dry_run: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> Generator[RedriveProgress, None, None]:
    """Send the letters that match to their source queue; yields the progress after each batch.

    Bodies are sent byte for byte, without the attributes that a worker added. SQS counts receives from 1 again. When
    the iterator ends or is closed, all other letters are visible; another call continues with them.

    Parameters:
      limit: the largest number of letters to send.
      per_second: the largest number of letters to send in a second.
      dry_run: count the letters, send none.
      stopping: called after each report: whether to stop.
    """
    now, started = datetime.now(UTC), time.monotonic()
    done, sent = RedriveProgress(), _Sent()
    most = BATCH_ENTRIES if per_second is None else max(1, min(BATCH_ENTRIES, int(per_second)))
    with LetterReader(sqs, queue.url) as reader:
        for letters in reader.batches(most=most):
            fresh = [letter for letter in letters if not sent.has_failed_again(letter, since=reader.started)]
            done = done._replace(failed_again=done.failed_again + len(letters) - len(fresh))
            matching = [letter for letter in fresh if wanted.matches(letter_info(letter, queue.name), now=now)]
            if limit is not None:
                matching = matching[: limit - done.matching]
            done = done._replace(seen=done.seen + len(fresh), matching=done.matching + len(matching))
            if not dry_run:
                done = _move(sqs, queue, reader, matching, done, sent)
            yield done
            if stopping() or (limit is not None and done.matching >= limit):
                break
            while (
                per_second and not stopping() and (ahead := done.moved / per_second - (time.monotonic() - started)) > 0
            ):
                time.sleep(min(ahead, REPORT_S))
                reader.keep()
                yield done
        else:
            done = done._replace(missing=reader.missing)
    yield done._replace(not_released=reader.not_released)


def _move(
    sqs: SQSClient, queue: LetterQueue, reader: LetterReader, letters: list[Letter], done: RedriveProgress, sent: _Sent
) -> RedriveProgress:
    """Send letters to their source queue, and delete those that SQS accepted."""
    ours = [letter for letter in letters if reader.is_ours(letter)]
    if not ours:
        return done
    messages = [
        OutgoingMessage(letter.message_id, letter.body, sender_attributes(letter), sender_group(letter))
        for letter in ours
    ]
    result = send_messages(sqs, queue.source_url, messages)
    accepted = [letter for letter in ours if letter.message_id in result.accepted]
    for letter in accepted:
        sent.add(letter, result.accepted[letter.message_id])
    undeleted = reader.delete(accepted)
    return done._replace(
        moved=done.moved + len(accepted),
        refused=done.refused + len(result.refused),
        undeleted=done.undeleted + len(undeleted),
        error=next(iter(result.refused.values()), done.error),
    )
