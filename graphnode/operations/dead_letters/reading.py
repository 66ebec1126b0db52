"""Reading a dead-letter queue: every letter once, and all of them visible again when the reading ends.

SQS gives messages in no order and hides each while it is in somebody's hands. So a reading keeps all it was given
hidden until its end: only then is what it has not seen yet all that SQS still gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from graphnode.operations.dead_letters.letters import Facts, Letter, Wanted, facts_of, letter_of
from graphnode.sqs.queues import BATCH_ENTRIES as BATCH
from graphnode.sqs.queues import queue_url, redrive_policy

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: Seconds that a letter in hand stays hidden between two extensions; those of a reading that was killed come back then.
VISIBILITY_S = 120

#: Seconds that a poll waits. Any wait at all has SQS ask all of its servers.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
WAIT_S = 1

#: Polls that bring nothing new until a reading gives up what SQS says there is.
EMPTY_POLLS = 3

#: Threads that give letters back.
THREADS = 4

#: Tries of a deletion.
TRIES = 3

#: What SQS answers when a queue has as many messages in hand as it may (120,000).
OVER_LIMIT = ("OverLimit", "AWS.SimpleQueueService.OverLimit")


class LetterQueue(NamedTuple):
    """A dead-letter queue and the queue behind which it stands.

    Parameters:
      name: `results`, `notifications` or `requests`.
      source_url, source_arn: the queue whose letters these are.
      url, arn: the dead-letter queue.
      own_limit: after how many receives SQS takes a letter away, if it has a redrive policy of its own.
    """

    name: str
    source_url: str
    source_arn: str
    url: str
    arn: str
    own_limit: int | None

    @property
    def title(self) -> str:
        """The queue's name at SQS."""
        return self.arn.rpartition(":")[2]


def find_queue(sqs: SQSClient, name: str, source_url: str) -> LetterQueue | None:
    """The dead-letter queue behind a queue; None: it has none."""
    policy = redrive_policy(sqs, source_url)
    if policy is None:
        return None
    url = queue_url(sqs, policy.arn)
    own = redrive_policy(sqs, url)
    source = sqs.get_queue_attributes(QueueUrl=source_url, AttributeNames=["QueueArn"])
    return LetterQueue(
        name, source_url, source["Attributes"]["QueueArn"], url, policy.arn, own.max_receive_count if own else None
    )


class _Held(NamedTuple):
    """A letter in hand: what changes its visibility, and until when it is hidden (monotonic)."""

    receipt_handle: str
    until: float


class Reading:
    """One reading of a dead-letter queue, as a context: at its end, however it comes, every letter is visible again.

    Parameters:
      sqs: an SQS client.
      url: the dead-letter queue.
    """

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self.sqs = sqs
        self.url = url
        self.visibility_s = VISIBILITY_S
        #: How many letters SQS said there were at the start, hidden ones included, about.
        self.expected = 0
        #: How many there were for whoever else reads, about: they are not seen.
        self.hidden = 0
        #: How many were seen.
        self.seen = 0
        #: How many could not be given back, and stay hidden until their visibility ends.
        self.not_released = 0
        self._held: dict[str, _Held] = {}
        self._known: set[str] = set()

    def __enter__(self) -> Reading:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def missing(self) -> int:
        """How many letters were not seen though SQS said they were there, about."""
        return max(0, self.expected - self.seen)

    def batches(self, *, most: int = BATCH) -> Iterator[list[Letter]]:
        """The letters that were on the queue at the start, each once; none after a poll in vain.

        A letter that comes meanwhile is left out: one that is redriven and fails at once would be read for ever.

        Parameters:
          most: letters that a poll asks for, up to ten.
        """
        before = self._look()
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
            letters = self._take([letter_of(message) for message in answer.get("Messages", [])], before=before)
            self.seen += len(letters)
            empty = 0 if letters else empty + 1
            yield letters

    def is_ours(self, letter: Letter) -> bool:
        """Whether a letter is hidden from everybody else for long enough to do something with it."""
        held = self._held.get(letter.message_id)
        return held is not None and held.until - time.monotonic() > self.visibility_s / 4

    def keep(self) -> None:
        """Extend what would be visible soon. What cannot be extended is visible already: it is left alone."""
        soon = time.monotonic() + self.visibility_s / 2
        due = []
        for message_id, held in self._held.items():
            if held.until > soon:
                break  # They stand in the order in which they end.
            due.append(message_id)
        for start in range(0, len(due), BATCH):
            batch = due[start : start + BATCH]
            until = time.monotonic() + self.visibility_s
            failed = self._change(batch, self.visibility_s)
            for message_id in batch:
                held = self._held.pop(message_id)
                if message_id not in failed:
                    self._held[message_id] = held._replace(until=until)

    def delete(self, letters: Sequence[Letter]) -> list[Letter]:
        """Delete up to ten letters from the queue; those that could not be."""
        left = {letter.message_id: letter for letter in letters}
        for _ in range(TRIES):
            if not left:
                break
            answer = self.sqs.delete_message_batch(
                QueueUrl=self.url,
                Entries=[{"Id": key, "ReceiptHandle": letter.receipt_handle} for key, letter in left.items()],
            )
            for gone in answer.get("Successful", []):
                del left[gone["Id"]]
                self._held.pop(gone["Id"], None)
        return list(left.values())

    def release(self) -> None:
        """Make everything in hand visible again. What SQS does not take now comes back when its visibility ends."""
        ids = list(self._held)
        batches = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
        with ThreadPoolExecutor(THREADS) as threads:
            for failed in threads.map(lambda batch: self._change(batch, 0), batches):
                self.not_released += len(failed)
        self._held.clear()

    def _look(self) -> datetime:
        """Ask SQS how many letters there are, and for its time."""
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )
        self.expected = int(answer["Attributes"]["ApproximateNumberOfMessages"])
        self.hidden = int(answer["Attributes"]["ApproximateNumberOfMessagesNotVisible"])
        stated = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        now = parsedate_to_datetime(stated) if stated else datetime.now(UTC)
        # A header has whole seconds.
        return now + timedelta(seconds=1)

    def _take(self, letters: Sequence[Letter], *, before: datetime) -> list[Letter]:
        """Hold letters; those that are new to this reading."""
        until = time.monotonic() + self.visibility_s
        fresh = []
        for letter in letters:
            self._held.pop(letter.message_id, None)
            self._held[letter.message_id] = _Held(letter.receipt_handle, until)
            if letter.message_id not in self._known and letter.sent_at <= before:
                self._known.add(letter.message_id)
                fresh.append(letter)
        return fresh

    def _change(self, message_ids: Sequence[str], visibility_s: int) -> set[str]:
        """Change the visibility of up to ten letters in hand; the IDs of those that failed."""
        try:
            answer = self.sqs.change_message_visibility_batch(
                QueueUrl=self.url,
                Entries=[
                    {
                        "Id": message_id,
                        "ReceiptHandle": self._held[message_id].receipt_handle,
                        "VisibilityTimeout": visibility_s,
                    }
                    for message_id in message_ids
                ],
            )
        except (ClientError, BotoCoreError):
            return set(message_ids)
        return {failure["Id"] for failure in answer.get("Failed", [])}


class Listing(NamedTuple):
    """The letters of a queue, as one reading saw them.

    Parameters:
      missing: how many more SQS says there are, about.
      hidden: how many are in somebody else's hands, about.
      not_released: how many stay hidden for up to VISIBILITY_S.
    """

    queue: LetterQueue
    letters: list[Facts]
    missing: int
    hidden: int
    not_released: int


def list_letters(
    sqs: SQSClient,
    queue: LetterQueue,
    *,
    wanted: Wanted = Wanted(),  # noqa: B008
    stopping: Callable[[], bool] = lambda: False,
    tell: Callable[[int], None] = lambda _seen: None,
) -> Listing:
    """Read what lies on a dead-letter queue, which keeps it. Of a letter its facts are kept, not its body.

    Parameters:
      wanted: which letters to keep.
      stopping: asked between two polls: whether to end with what has been read.
      tell: told between two polls how many were read.
    """
    found = []
    now = datetime.now(UTC)
    with Reading(sqs, queue.url) as reading:
        for letters in reading.batches():
            facts = (facts_of(letter, queue.name) for letter in letters)
            found += [one for one in facts if wanted.matches(one, now=now)]
            tell(reading.seen)
            if stopping():
                break
    return Listing(queue, found, reading.missing, reading.hidden, reading.not_released)


def find_letters(
    sqs: SQSClient,
    queue: LetterQueue,
    identity: str,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> list[Letter]:
    """The letter with this message ID, or all those of the task or notification with this ID."""
    found: list[Letter] = []
    with Reading(sqs, queue.url) as reading:
        for letters in reading.batches():
            for letter in letters:
                if letter.message_id == identity:
                    return [letter]
                facts = facts_of(letter, queue.name)
                if identity in (facts.task_id, facts.notification_id):
                    found.append(letter)
            if stopping():
                break
    return found
