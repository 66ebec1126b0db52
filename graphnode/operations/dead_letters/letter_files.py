"""Dead letters in a file: JSON Lines, one letter a line, body and attributes unchanged."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import msgspec

from graphnode.errors import InvalidLetterFile, NotSent
from graphnode.operations.dead_letters.letters import Letter, LetterFilter, letter_info, sender_attributes, sender_group
from graphnode.operations.dead_letters.reader import LetterQueue, LetterReader
from graphnode.operations.dead_letters.sender import OutgoingMessage, send_messages
from graphnode.sqs.queues import batches_of
from graphnode.text import LONGEST_PROBLEM, excerpt

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class RecordedAttribute(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message attribute: SQS's data type, and a text or bytes."""

    type: str
    text: str | None = None
    binary: bytes | None = None


class LetterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the file.

    Parameters:
      queue: `results`, `notifications` or `requests`.
      group_id: its MessageGroupId, if it has one.
    """

    queue: str
    message_id: str
    sent_at: datetime
    received: int
    moved_by_sqs: bool
    attributes: dict[str, RecordedAttribute]
    body: str
    group_id: str | None = None

    @classmethod
    def of(cls, letter: Letter, queue: str) -> LetterRecord:
        """The record of a letter."""
        return cls(
            queue=queue,
            message_id=letter.message_id,
            sent_at=letter.sent_at,
            received=letter.received,
            moved_by_sqs=letter.moved_by_sqs,
            attributes={
                name: RecordedAttribute(value["DataType"], value.get("StringValue"), value.get("BinaryValue"))
                for name, value in letter.attributes.items()
            },
            body=letter.body,
            group_id=letter.group_id,
        )

    def letter(self) -> Letter:
        """The letter, without a receipt handle."""
        attributes: dict[str, Any] = {
            name: {"DataType": value.type}
            | ({"StringValue": value.text} if value.text is not None else {})
            | ({"BinaryValue": value.binary} if value.binary is not None else {})
            for name, value in self.attributes.items()
        }
        return Letter(
            self.message_id, self.body, attributes, "", self.received, self.sent_at, self.moved_by_sqs, self.group_id
        )


class ExportProgress(NamedTuple):
    """How far an export is, as numbers of letters.

    Parameters:
      seen: letters that were read.
      missing: about how many more SQS counted; in the last report.
      not_released: those that stay hidden for up to VISIBILITY_S; in the last report.
    """

    seen: int = 0
    written: int = 0
    deleted: int = 0
    missing: int = 0
    not_released: int = 0


def export_letters(
    sqs: SQSClient,
    queue: LetterQueue,
    wanted: LetterFilter,
    file: IO[bytes],
    *,
    delete: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> Generator[ExportProgress, None, None]:
    """Write the letters that match to a file; yields the progress after each batch.

    Parameters:
      delete: delete letters from the queue once they are on the disk.
      stopping: called after each report: whether to stop.
    """
    now = datetime.now(UTC)
    done = ExportProgress()
    with LetterReader(sqs, queue.url) as reader:
        for letters in reader.batches():
            matching = [letter for letter in letters if wanted.matches(letter_info(letter, queue.name), now=now)]
            for letter in matching:
                file.write(msgspec.json.encode(LetterRecord.of(letter, queue.name)) + b"\n")
            done = done._replace(seen=reader.seen, written=done.written + len(matching))
            if delete and matching:
                _sync(file)
                left = reader.delete([letter for letter in matching if reader.is_ours(letter)])
                done = done._replace(deleted=done.deleted + len(matching) - len(left))
            yield done
            if stopping():
                break
        else:
            done = done._replace(missing=reader.missing)
    _sync(file)
    yield done._replace(not_released=reader.not_released)


def read_records(file: IO[bytes]) -> Iterator[LetterRecord]:
    """The records of a file. Raises InvalidLetterFile, which names the line."""
    decoder = msgspec.json.Decoder(LetterRecord)
    for number, line in enumerate(file, 1):
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            problem = excerpt(str(error), most=LONGEST_PROBLEM)
            raise InvalidLetterFile(
                f"Line {number} is no letter as `graphnode dlq export` writes it: {problem}"
            ) from None


def import_letters(
    sqs: SQSClient, queues: dict[str, LetterQueue], records: Iterator[LetterRecord], *, to_source: bool, skip: int = 0
) -> Generator[int, None, None]:
    """Send letters to their dead-letter queue or to their source queue; yields how many lines are done.

    Parameters:
      queues: by name; it has the queue of every record.
      to_source: send them to the source queue, without the attributes that a worker added.
      skip: lines to leave out because an earlier import sent them.

    Raises NotSent, which says where to continue.
    """
    done = skip
    for name, group in groupby(islice(records, skip, None), key=lambda record: record.queue):
        for batch in batches_of(group):
            _import_batch(sqs, queues[name], batch, to_source=to_source, done=done)
            done += len(batch)
            yield done


def _import_batch(sqs: SQSClient, queue: LetterQueue, batch: list[LetterRecord], *, to_source: bool, done: int) -> None:
    messages = []
    for index, letter in enumerate(record.letter() for record in batch):
        attributes = sender_attributes(letter) if to_source else letter.attributes
        group_id = sender_group(letter) if to_source else letter.group_id
        messages.append(OutgoingMessage(str(index), letter.body, attributes, group_id))
    sent = send_messages(sqs, queue.source_url if to_source else queue.url, messages)
    if sent.refused:
        first = min(map(int, sent.refused))
        after = sum(int(key) > first for key in sent.accepted)
        raise NotSent(
            f"SQS refused line {done + first + 1} ({sent.refused[str(first)]}). Go on with --skip {done + first}"
            + (f": {after} lines after it were accepted, and will be there twice." if after else ".")
        )


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
