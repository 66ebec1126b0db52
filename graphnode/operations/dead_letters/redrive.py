"""Putting dead letters back on their queue: first the message is sent, then its letter is deleted.

A crash in between leaves both. Then the message is handled, and the letter can be redriven once more: a repeat, which
the task's row makes harmless.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from graphnode.operations.dead_letters.letters import Letter, Wanted, facts_of, without_ours
from graphnode.operations.dead_letters.reading import LetterQueue, Reading
from graphnode.operations.dead_letters.sending import Outgoing, send
from graphnode.sqs.queues import BATCH_ENTRIES as BATCH

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: The longest time between two reports, in seconds.
REPORT_S = 0.5


class Redriven(NamedTuple):
    """How far a redrive is.

    Parameters:
      seen: letters that were read.
      matching: those of them that are meant, as far as the limit goes.
      moved: those that are on their queue again; in a dry run none.
      refused: those that SQS did not take; they stay letters.
      undeleted: those that are on their queue and are letters still: another redrive would repeat them.
      missing: letters that SQS says there are and did not give, about; at the end.
      not_released: letters that stay hidden for up to VISIBILITY_S; at the end.
      error: why SQS refused the last one.
    """

    seen: int = 0
    matching: int = 0
    moved: int = 0
    refused: int = 0
    undeleted: int = 0
    missing: int = 0
    not_released: int = 0
    error: str | None = None


def redrive(
    sqs: SQSClient,
    queue: LetterQueue,
    wanted: Wanted,
    *,
    limit: int | None = None,
    per_second: float | None = None,
    dry_run: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> Generator[Redriven, None, None]:
    """Put the letters that are meant back on their queue, and say after each batch how far it is.

    Bodies are sent byte for byte, without what a worker wrote beside them: to SQS they are new messages, with all their
    attempts before them. All other letters are visible again when the iterator ends, or is closed; called again, it
    goes on with what is left.

    Parameters:
      wanted: which letters.
      limit: the most that are moved.
      per_second: the most that are moved in a second.
      dry_run: count them only.
      stopping: asked after each report whether to end there.
    """
    now, started = datetime.now(UTC), time.monotonic()
    done = Redriven()
    most = BATCH if per_second is None else max(1, min(BATCH, int(per_second)))
    with Reading(sqs, queue.url) as reading:
        for letters in reading.batches(most=most):
            meant = [each for each in letters if wanted.matches(facts_of(each, queue.name), now=now)]
            if limit is not None:
                meant = meant[: limit - done.matching]
            done = done._replace(seen=reading.seen, matching=done.matching + len(meant))
            if not dry_run:
                done = _move(sqs, queue, reading, meant, done)
            yield done
            if stopping() or (limit is not None and done.matching >= limit):
                break
            while (
                per_second and not stopping() and (ahead := done.moved / per_second - (time.monotonic() - started)) > 0
            ):
                time.sleep(min(ahead, REPORT_S))
                reading.keep()
                yield done
        else:
            done = done._replace(missing=reading.missing)
    yield done._replace(not_released=reading.not_released)


def _move(sqs: SQSClient, queue: LetterQueue, reading: Reading, letters: list[Letter], done: Redriven) -> Redriven:
    """Send letters to their queue and delete those that SQS has taken."""
    ours = [letter for letter in letters if reading.is_ours(letter)]
    if not ours:
        return done
    sent = send(
        sqs, queue.source_url, [Outgoing(letter.message_id, letter.body, without_ours(letter)) for letter in ours]
    )
    undeleted = reading.delete([letter for letter in ours if letter.message_id in sent.taken])
    return done._replace(
        moved=done.moved + len(sent.taken),
        refused=done.refused + len(sent.refused),
        undeleted=done.undeleted + len(undeleted),
        error=next(iter(sent.refused.values()), done.error),
    )
