"""Dead letters in a file: JSON Lines, one letter a line, bodies and attributes as they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import msgspec

from graphnode.errors import InvalidLetterFile, NotSent
from graphnode.operations.dead_letters.letters import Letter, Wanted, facts_of, without_ours
from graphnode.operations.dead_letters.reading import LetterQueue, Reading
from graphnode.operations.dead_letters.sending import Outgoing, send
from graphnode.sqs.queues import BATCH_ENTRIES as BATCH
from graphnode.text import LONGEST_PROBLEM, excerpt

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class Attribute(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message attribute: SQS's data type, and a text or bytes."""

    type: str
    text: str | None = None
    binary: bytes | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A letter in a file.

    Parameters:
      queue: `results`, `notifications` or `requests`.
    """

    queue: str
    message_id: str
    sent_at: datetime
    received: int
    moved_by_sqs: bool
    attributes: dict[str, Attribute]
    body: str

    @classmethod
    def of(cls, letter: Letter, queue: str) -> Line:
        """A letter as it is written."""
        return cls(
            queue=queue,
            message_id=letter.message_id,
            sent_at=letter.sent_at,
            received=letter.received,
            moved_by_sqs=letter.moved_by_sqs,
            attributes={
                name: Attribute(value["DataType"], value.get("StringValue"), value.get("BinaryValue"))
                for name, value in letter.attributes.items()
            },
            body=letter.body,
        )

    def letter(self) -> Letter:
        """The letter that was written."""
        attributes: dict[str, Any] = {
            name: {"DataType": value.type}
            | ({"StringValue": value.text} if value.text is not None else {})
            | ({"BinaryValue": value.binary} if value.binary is not None else {})
            for name, value in self.attributes.items()
        }
        return Letter(self.message_id, self.body, attributes, "", self.received, self.sent_at, self.moved_by_sqs)


class Exported(NamedTuple):
    """How far an export is: letters written, letters deleted from the queue, and of those that were not seen, about."""

    written: int = 0
    deleted: int = 0
    missing: int = 0
    not_released: int = 0


def export(
    sqs: SQSClient,
    queue: LetterQueue,
    wanted: Wanted,
    file: IO[bytes],
    *,
    delete: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> Generator[Exported, None, None]:
    """Write the letters that are meant into a file, and say after each batch how far it is.

    Parameters:
      wanted: which letters.
      file: where to; it is written through to the disk before a letter is deleted.
      delete: whether to delete what is written.
      stopping: asked after each report whether to end there.
    """
    now = datetime.now(UTC)
    done = Exported()
    with Reading(sqs, queue.url) as reading:
        for letters in reading.batches():
            meant = [each for each in letters if wanted.matches(facts_of(each, queue.name), now=now)]
            for letter in meant:
                file.write(msgspec.json.encode(Line.of(letter, queue.name)) + b"\n")
            done = done._replace(written=done.written + len(meant))
            if delete and meant:
                file.flush()
                os.fsync(file.fileno())
                left = reading.delete([letter for letter in meant if reading.is_ours(letter)])
                done = done._replace(deleted=done.deleted + len(meant) - len(left))
            yield done
            if stopping():
                break
        else:
            done = done._replace(missing=reading.missing)
    file.flush()
    os.fsync(file.fileno())
    yield done._replace(not_released=reading.not_released)


def read(file: IO[bytes]) -> Iterator[Line]:
    """The letters of a file, one at a time. Raises InvalidLetterFile, with the line's number."""
    decoder = msgspec.json.Decoder(Line)
    for number, line in enumerate(file, 1):
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            problem = excerpt(str(error), most=LONGEST_PROBLEM)
            raise InvalidLetterFile(
                f"Line {number} is no letter as `graphnode dlq export` writes it: {problem}"
            ) from None


def put(
    sqs: SQSClient, queues: dict[str, LetterQueue], lines: Iterator[Line], *, to_source: bool, skip: int = 0
) -> Generator[int, None, None]:
    """Put letters on their dead-letter queue, or on the queue they came from, and say how many lines are done.

    Parameters:
      queues: by name; each line's must be there.
      to_source: as new messages, without what a worker wrote beside them.
      skip: lines that were put there before.

    Raises NotSent, which says where to go on.
    """
    done = 0
    batch: list[Line] = []
    for line in lines:
        if done < skip:
            done += 1
            continue
        if batch and (len(batch) == BATCH or batch[0].queue != line.queue):
            done += _put(sqs, queues[batch[0].queue], batch, to_source=to_source, done=done)
            yield done
            batch = []
        batch.append(line)
    if batch:
        done += _put(sqs, queues[batch[0].queue], batch, to_source=to_source, done=done)
    yield done


def _put(sqs: SQSClient, queue: LetterQueue, batch: list[Line], *, to_source: bool, done: int) -> int:
    outgoing = []
    for index, letter in enumerate(line.letter() for line in batch):
        attributes = without_ours(letter) if to_source else letter.attributes
        outgoing.append(Outgoing(str(index), letter.body, attributes))
    sent = send(sqs, queue.source_url if to_source else queue.url, outgoing)
    if sent.refused:
        first = min(map(int, sent.refused))
        after = sum(int(key) > first for key in sent.taken)
        raise NotSent(
            f"SQS did not take line {done + first + 1} ({sent.refused[str(first)]}). Go on with --skip {done + first}"
            + (f": {after} lines after it were taken, and will be there twice." if after else ".")
        )
    return len(batch)
