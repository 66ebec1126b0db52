"""Reading a dead-letter queue: each letter once; all letters are visible again when the reader closes.

SQS delivers messages in no order and hides each one that it delivers. So a reader keeps every letter hidden until it
closes: then whatever SQS still delivers is new to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from graphnode.operations.dead_letters.letters import Letter, LetterFilter, LetterInfo, letter_from_sqs, letter_info
from graphnode.sqs.queues import BATCH_ENTRIES, batches_of, named_if_missing, queue_url, redrive_policy

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: The visibility timeout in seconds. The letters of a process that is killed are visible again after it.
VISIBILITY_S = 120

#: Seconds that a poll waits. Any value above 0 makes SQS ask all of its servers.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
WAIT_S = 1

#: Polls without a new letter after which a reader stops, even if SQS says that there are more.
EMPTY_POLLS = 3

#: Threads that make letters visible again.
THREADS = 4

#: Attempts at a deletion.
TRIES = 3

#: What SQS answers when a queue has its maximum of messages in flight (120,000).
OVER_LIMIT = ("OverLimit", "AWS.SimpleQueueService.OverLimit")


class LetterQueue(NamedTuple):
    """A dead-letter queue and its source queue.

    Parameters:
      name: `results`, `notifications` or `requests`.
      source_url, source_arn: the source queue.
      url, arn: the dead-letter queue.
      own_limit: the maxReceiveCount of the dead-letter queue's own redrive policy; None if it has none.
    """

    name: str
    source_url: str
    source_arn: str
    url: str
    arn: str
    own_limit: int | None

    @property
    def title(self) -> str:
        """The dead-letter queue's name at SQS."""
        return self.arn.rpartition(":")[2]


def find_queue(sqs: SQSClient, name: str, source_url: str) -> LetterQueue | None:
    """The dead-letter queue of a source queue; None if it has none. Raises NoSuchQueue and botocore's errors."""
    with named_if_missing(source_url):
        policy = redrive_policy(sqs, source_url)
    if policy is None:
        return None
    with named_if_missing(policy.arn):
        url = queue_url(sqs, policy.arn)
    own = redrive_policy(sqs, url)
    source = sqs.get_queue_attributes(QueueUrl=source_url, AttributeNames=["QueueArn"])
    return LetterQueue(
        name, source_url, source["Attributes"]["QueueArn"], url, policy.arn, own.max_receive_count if own else None
    )


class _Hidden(NamedTuple):
    """A letter that is hidden for this reader, until a time of the monotonic clock."""

    receipt_handle: str
    until: float


class LetterReader:
    """Reads a dead-letter queue. As a context manager it makes every letter visible again when it closes.

    Parameters:
      url: the dead-letter queue.
    """

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self.sqs = sqs
        self.url = url
        self.visibility_s = VISIBILITY_S
        #: About how many letters were visible at the start.
        self.expected = 0
        #: About how many were in flight elsewhere at the start: they are not read.
        self.hidden = 0
        #: SQS's time at the start, in whole seconds.
        self.started = datetime.min.replace(tzinfo=UTC)
        #: How many were read.
        self.seen = 0
        #: How many could not be made visible: they are when their visibility timeout ends.
        self.not_released = 0
        #: By message ID, in the order in which their visibility timeouts end.
        self._hidden: dict[str, _Hidden] = {}
        self._known: set[str] = set()

    def __enter__(self) -> LetterReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def missing(self) -> int:
        """About how many letters SQS counted and did not deliver."""
        return max(0, self.expected - self.seen)

    def batches(self, *, most: int = BATCH_ENTRIES) -> Iterator[list[Letter]]:
        """The letters that were on the queue at the start, each once, a list a poll; it may be empty.

        Later letters are left out: otherwise a letter that is redriven and fails at once would be read for ever.

        Parameters:
          most: the largest number of letters in a poll, up to ten.
        """
        self._count()
        empty = 0
        while empty < EMPTY_POLLS and not (empty and self.seen >= self.expected):
            self.keep()
            try:
                answer = self.sqs.receive_message(
                    QueueUrl=self.url,
                    MaxNumberOfMessages=most,
                    VisibilityTimeout=self.visibility_s,
                    WaitTimeSeconds=WAIT_S,
                    MessageAttributeNames=["All"],
                    MessageSystemAttributeNames=["All"],
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in OVER_LIMIT:
                    return
                raise
            letters = self._hide(map(letter_from_sqs, answer.get("Messages", [])))
            self.seen += len(letters)
            empty = 0 if letters else empty + 1
            yield letters

    def is_ours(self, letter: Letter) -> bool:
        """Whether a letter stays hidden long enough to send and delete it."""
        hidden = self._hidden.get(letter.message_id)
        return hidden is not None and hidden.until - time.monotonic() > self.visibility_s / 4

    def keep(self) -> None:
        """Extend visibility timeouts that end soon. A letter that cannot be extended is visible: forget it."""
        soon = time.monotonic() + self.visibility_s / 2
        due = [message_id for message_id, _ in takewhile(lambda item: item[1].until <= soon, self._hidden.items())]
        for batch in batches_of(due):
            until = time.monotonic() + self.visibility_s
            failed = self._change(batch, self.visibility_s)
            for message_id in batch:
                hidden = self._hidden.pop(message_id)
                if message_id not in failed:
                    self._hidden[message_id] = hidden._replace(until=until)

    def delete(self, letters: Sequence[Letter]) -> list[Letter]:
        """Delete up to ten letters; returns those that SQS did not delete."""
        left = {letter.message_id: letter for letter in letters}
        for _ in range(TRIES):
            if not left:
                break
            answer = self.sqs.delete_message_batch(
                QueueUrl=self.url,
                Entries=[{"Id": key, "ReceiptHandle": letter.receipt_handle} for key, letter in left.items()],
            )
            for deleted in answer.get("Successful", []):
                del left[deleted["Id"]]
                self._hidden.pop(deleted["Id"], None)
        return list(left.values())

    def release(self) -> None:
        """Make all letters visible again."""
        with ThreadPoolExecutor(THREADS) as threads:
            for failed in threads.map(lambda batch: self._change(batch, 0), list(batches_of(self._hidden))):
                self.not_released += len(failed)
        self._hidden.clear()

    def _count(self) -> None:
        """Ask SQS how many letters there are, and for its time."""
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )
        self.expected = int(answer["Attributes"]["ApproximateNumberOfMessages"])
        self.hidden = int(answer["Attributes"]["ApproximateNumberOfMessagesNotVisible"])
        stated = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        now = parsedate_to_datetime(stated) if stated else datetime.now(UTC)
        self.started = now.replace(microsecond=0)

    def _hide(self, letters: Iterable[Letter]) -> list[Letter]:
        """Note that letters are hidden; returns those that were not read before."""
        # SQS's time has whole seconds.
        before = self.started + timedelta(seconds=1)
        until = time.monotonic() + self.visibility_s
        fresh = []
        for letter in letters:
            self._hidden.pop(letter.message_id, None)
            self._hidden[letter.message_id] = _Hidden(letter.receipt_handle, until)
            if letter.message_id not in self._known and letter.sent_at <= before:
                self._known.add(letter.message_id)
                fresh.append(letter)
        return fresh

    def _change(self, message_ids: Sequence[str], visibility_s: int) -> set[str]:
        """Change the visibility timeout of up to ten letters; returns the IDs of those that failed."""
        try:
            answer = self.sqs.change_message_visibility_batch(
                QueueUrl=self.url,
                Entries=[
                    {
                        "Id": message_id,
                        "ReceiptHandle": self._hidden[message_id].receipt_handle,
                        "VisibilityTimeout": visibility_s,
                    }
                    for message_id in message_ids
                ],
            )
        except (ClientError, BotoCoreError):
            return set(message_ids)
        return {failure["Id"] for failure in answer.get("Failed", [])}


class Listing(NamedTuple):
    """The letters on a queue that match a filter.

    Parameters:
      missing: about how many more SQS counted.
      hidden: about how many were in flight elsewhere.
      not_released: how many stay hidden for up to VISIBILITY_S.
      wanted: the filter.
      others: how many were read and do not match.
    """

    queue: LetterQueue
    letters: list[LetterInfo]
    missing: int
    hidden: int
    not_released: int
    wanted: LetterFilter = LetterFilter()
    others: int = 0


def list_letters(
    sqs: SQSClient,
    queue: LetterQueue,
    *,
    wanted: LetterFilter = LetterFilter(),  # noqa: B008
    stopping: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int], None] = lambda _seen: None,
) -> Listing:
    """The letters on a queue that match a filter. They stay there, and no body is kept in memory.

    Parameters:
      stopping: called after each poll: whether to stop reading.
      on_progress: called after each poll with the number of letters read.
    """
    found = []
    now = datetime.now(UTC)
    with LetterReader(sqs, queue.url) as reader:
        for letters in reader.batches():
            infos = (letter_info(letter, queue.name) for letter in letters)
            found += [info for info in infos if wanted.matches(info, now=now)]
            on_progress(reader.seen)
            if stopping():
                break
    others = reader.seen - len(found)
    return Listing(queue, found, reader.missing, reader.hidden, reader.not_released, wanted, others)


def find_letters(
    sqs: SQSClient, queue: LetterQueue, identity: str, *, stopping: Callable[[], bool] = lambda: False
) -> list[Letter]:
    """The letter with this message ID, or all letters of the message, task or notification with this ID."""
    found: list[Letter] = []
    with LetterReader(sqs, queue.url) as reader:
        for letters in reader.batches():
            for letter in letters:
                if letter.message_id == identity:
                    return [letter]
                info = letter_info(letter, queue.name)
                if identity in (info.original_message_id, info.task_id, info.notification_id):
                    found.append(letter)
            if stopping():
                break
    return found
