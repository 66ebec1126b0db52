"""Deleting a dead letter, which leaves a row in the table deleted_letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from graphnode.operations.dead_letters.letters import Letter, LetterInfo, letter_info
from graphnode.operations.dead_letters.reader import LetterQueue, LetterReader
from graphnode.storage.deleted_letters import record_deletion

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: How a deletion ended.
Deletion = Literal["deleted", "refused by SQS", "not found", "stopped"]


def delete_letter(
    sqs: SQSClient,
    queue: LetterQueue,
    letter: Letter,
    *,
    because: str,
    deleted_by: str,
    stopping: Callable[[], bool] = lambda: False,
) -> Deletion:
    """Find a letter again, record its deletion and delete it. The storage must be open.

    Parameters:
      because: why it is deleted.
      deleted_by: who deletes it, on which machine.
      stopping: called after each poll: whether to stop.
    """
    with LetterReader(sqs, queue.url) as reader:
        for letters in reader.batches():
            if found := [one for one in letters if one.message_id == letter.message_id]:
                record_letter_deletion(letter, letter_info(letter, queue.name), because=because, deleted_by=deleted_by)
                return "refused by SQS" if reader.delete(found) else "deleted"
            if stopping():
                return "stopped"
    return "not found"


def record_letter_deletion(letter: Letter, info: LetterInfo, *, because: str, deleted_by: str) -> None:
    """Record that a letter is deleted: before it is, so that none goes without a row.

    Parameters:
      because, deleted_by: as of `delete_letter`.
    """
    record_deletion(
        letter.message_id,
        queue=info.queue,
        task_id=info.task_id,
        task_type=info.task_type,
        user_id=info.user_id,
        reason=info.reason,
        because=because,
        deleted_by=deleted_by,
        body=letter.body,
    )
