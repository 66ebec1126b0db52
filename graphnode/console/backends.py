"""SQS, S3 and the database, as the pages use them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

import msgspec

from graphnode.clients.aws import QUICK, Aws
from graphnode.console.jobs import Jobs
from graphnode.console.watch import Watched
from graphnode.errors import GraphNodeError, SettingsError
from graphnode.operations.dead_letters.bulk_deletion import delete_letters
from graphnode.operations.dead_letters.letters import Letter, LetterFilter
from graphnode.operations.dead_letters.reader import LetterQueue, find_letters
from graphnode.operations.dead_letters.redrive import redrive_letters
from graphnode.operations.dead_letters.shelf import ShelvedQueue, read_shelf
from graphnode.operations.show.drawn_page import drawn_page
from graphnode.operations.status.sources import Sources, Status
from graphnode.settings import QUEUE_URLS
from graphnode.storage.database import database
from graphnode.storage.history import Minute, last_hour

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: Seconds for which a reading is new enough, while somebody looks.
STATUS_S = 3.0
LETTERS_S = 30.0

#: Seconds that a page waits for its turn to read dead letters.
TURN_S = 5.0

#: Seconds that the drawing of a graph may take.
DRAWING_S = 60.0


class LettersBusy(GraphNodeError):
    """Somebody else reads the dead letters."""

    reason = "LETTERS_BUSY"


class OverviewReading(msgspec.Struct, frozen=True):
    """What the first page shows.

    Parameters:
      hour: empty if the database is not seen.
    """

    status: Status
    hour: list[Minute]


class Backends:
    """What the pages read from, for the whole life of the console.

    Parameters:
      environment: the variables of a deployment; an empty one is not set.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.has_database = bool(environment.get("DATABASE_URL"))
        self.bucket = environment.get("S3_PAYLOAD_BUCKET")
        self._aws = Aws.of_environment(environment, limits=QUICK)
        self._sources = Sources(
            environment,
            sqs=self._aws.sqs,
            cloudwatch=partial(self._aws.client, "cloudwatch"),
            has_database=self.has_database,
        )
        #: One reader of dead letters at a time: two would hide them from each other.
        self.reading = threading.Lock()
        self.overview = Watched(self._read_overview, every_s=STATUS_S, name="console-status")
        self.letters = Watched(self._read_letters, every_s=LETTERS_S, name="console-letters")
        self.jobs = Jobs(self.reading)

    def require_database(self) -> None:
        """Raise SettingsError if there is no database."""
        if not self.has_database:
            raise SettingsError("DATABASE_URL is missing: nothing that is stored is seen.")

    @cached_property
    def sqs(self) -> SQSClient:
        """SQS. Raises SettingsError without a region."""
        if not self.environment.get("AWS_REGION"):
            raise SettingsError("AWS_REGION is missing: the queues are not seen.")
        return self._aws.sqs()

    @cached_property
    def s3(self) -> S3Client:
        """S3."""
        return self._aws.s3()

    @contextmanager
    def reading_letters(self) -> Iterator[None]:
        """The turn to read dead letters. Raises LettersBusy if an action has it for longer than somebody waits."""
        if not self.reading.acquire(timeout=TURN_S):
            raise LettersBusy("An action works on the dead letters just now: Audit says how far it is. Try it again.")
        try:
            yield
        finally:
            self.reading.release()

    def find_letter(self, queue: LetterQueue, message_id: str) -> Letter | None:
        """The letter with this message ID, which is read again; None if it is gone."""
        with self.reading_letters():
            return next(iter(find_letters(self.sqs, queue, message_id)), None)

    def redrive(
        self, queues: list[LetterQueue], wanted: LetterFilter, per_second: float | None, stopping: Callable[[], bool]
    ) -> Generator[str, None, None]:
        """Redrive what matches; says how far it is."""

        def redrive(queue: LetterQueue) -> Iterator[str]:
            for done in redrive_letters(self.sqs, queue, wanted, per_second=per_second, stopping=stopping):
                said = f"{done.seen:,} read, {done.moved:,} redriven"
                if done.refused:
                    said += f", {done.refused:,} refused by SQS"
                if done.undeleted:
                    said += f", {done.undeleted:,} redriven and not deleted"
                yield said

        return _one_after_the_other(queues, redrive, stopping)

    def delete(
        self, queues: list[LetterQueue], wanted: LetterFilter, because: str, who: str, stopping: Callable[[], bool]
    ) -> Generator[str, None, None]:
        """Delete what matches; says how far it is."""

        def delete(queue: LetterQueue) -> Iterator[str]:
            for done in delete_letters(self.sqs, queue, wanted, because=because, deleted_by=who, stopping=stopping):
                said = f"{done.seen:,} read, {done.deleted:,} deleted"
                if done.refused:
                    said += f", {done.refused:,} not deleted by SQS"
                yield said

        return _one_after_the_other(queues, delete, stopping)

    def draw_graph(self, user_id: str) -> str:
        """The picture of a user's graph. Another process draws it: what it imports would stay in this one's memory."""
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(drawn_page, self.environment["DATABASE_URL"], user_id).result(DRAWING_S)

    def _read_overview(self) -> OverviewReading:
        status = self._sources.read()
        hour: list[Minute] = []
        if status.activity:
            try:
                hour = last_hour()
            finally:
                database.abandon()
        return OverviewReading(status, hour)

    def _read_letters(self) -> list[ShelvedQueue]:
        urls = {name: url for name, variable in QUEUE_URLS.items() if (url := self.environment.get(variable))}
        try:
            sqs = self.sqs
        except SettingsError as error:
            return [ShelvedQueue(name=name, unseen=str(error)) for name in urls]
        with self.reading:
            return read_shelf(sqs, urls)


def _one_after_the_other(
    queues: list[LetterQueue], work: Callable[[LetterQueue], Iterator[str]], stopping: Callable[[], bool]
) -> Generator[str, None, None]:
    """Work on each queue until a stop; says how far each one is."""
    before = ""
    for queue in queues:
        said = ""
        for report in work(queue):
            said = f"{before}{queue.name}: {report}"
            yield said
        before = f"{said}. "
        if stopping():
            return
