"""Deleting all dead letters that match; each leaves a row in the table deleted_letters."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from graphnode.operations.dead_letters.deletion import record_letter_deletion
from graphnode.operations.dead_letters.letters import LetterFilter, letter_info
from graphnode.operations.dead_letters.reader import LetterQueue, LetterReader

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class DeletionProgress(NamedTuple):
    """How far a deletion is, as numbers of letters.

    Parameters:
      seen: letters that were read.
      deleted: those that matched and are gone.
      refused: those that matched and that SQS did not delete.
    """

    seen: int = 0
    deleted: int = 0
    refused: int = 0


def delete_letters(
    sqs: SQSClient,
    queue: LetterQueue,
    wanted: LetterFilter,
    *,
    because: str,
    deleted_by: str,
    stopping: Callable[[], bool] = lambda: False,
) -> Generator[DeletionProgress, None, None]:
    """Record and delete the letters that match; yields the progress after each batch. The storage must be open.

    Parameters:
      because: why they are deleted.
      deleted_by: who deletes them.
      stopping: called after each report: whether to stop.
    """
    now, done = datetime.now(UTC), DeletionProgress()
    with LetterReader(sqs, queue.url) as reader:
        for letters in reader.batches():
            infos = {letter.message_id: letter_info(letter, queue.name) for letter in letters}
            matching = [letter for letter in letters if wanted.matches(infos[letter.message_id], now=now)]
            for letter in matching:
                record_letter_deletion(letter, infos[letter.message_id], because=because, deleted_by=deleted_by)
            refused = len(reader.delete(matching)) if matching else 0
            done = DeletionProgress(reader.seen, done.deleted + len(matching) - refused, done.refused + refused)
            yield done
            if stopping():
                return
