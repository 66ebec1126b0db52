"""A deployment's status, read from SQS, CloudWatch and the database, and what could not be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from peewee import PeeweeException

from graphnode.errors import GraphNodeError, Unexpected, classify_error, is_missing_queue
from graphnode.operations import background
from graphnode.operations.background import NoAnswer
from graphnode.operations.outages import ReportedOutage, reported_outages
from graphnode.settings import QUEUE_URLS
from graphnode.sqs.queues import queue_url, visible_messages
from graphnode.storage import activity, workers
from graphnode.storage.activity import EndedTasks, OpenTasks, Throughput, WaitingNotifications
from graphnode.storage.database import database, snapshot
from graphnode.storage.workers import WorkerProcess

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: Seconds after which a reading shows what is there, and for which it waits at most: somebody waits for it. What has
#: not answered by then is not seen.
FIRST_S = 2.0
TIMEOUT_S = 5.0

#: SQS's metric of a queue's oldest message; its newest value is some minutes old.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
AGE_METRIC = "ApproximateAgeOfOldestMessage"
AGE_WINDOW = timedelta(minutes=10)

#: Milliseconds that one count may take.
STATEMENT_TIMEOUT_MS = 5_000

#: Where the age of a queue's oldest message comes from.
AgeSource = Literal["CloudWatch", "database"]

#: Why there are no numbers of a queue.
Problem = Literal["does not exist", "not seen", "awaited"]


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """A queue's messages, its dead letters, and the age of its oldest message.

    Parameters:
      waiting, delayed, in_flight: None with a problem.
      dead_letters: None without a dead-letter queue, or if it cannot be read.
      oldest_s: seconds; None if unknown. From the database it is an upper bound: no message is older.
    """

    name: str
    waiting: int | None = None
    delayed: int | None = None
    in_flight: int | None = None
    dead_letters: int | None = None
    oldest_s: float | None = None
    oldest_from: AgeSource | None = None
    problem: Problem | None = None


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What the database says about tasks, notifications and workers.

    Parameters:
      retrying: messages that failed in the last day and will be retried.
      failed_attempts: of the last hour, by reason.
      given_up: messages that became dead letters in the last day, by reason.
      failures_are_exact: whether there are no more of these two.
      outages: what keeps the workers from taking messages.
    """

    at: datetime
    open_tasks: list[OpenTasks]
    ended: EndedTasks
    throughput: Throughput
    retrying: int
    failed_attempts: dict[str, int]
    given_up: dict[str, int]
    notifications: WaitingNotifications
    workers: list[WorkerProcess]
    outages: list[ReportedOutage]
    failures_are_exact: bool = True


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All that could be read at one moment, and a sentence for each thing that could not.

    Parameters:
      awaited: the services that have not answered yet.
    """

    at: datetime
    queues: list[QueueState]
    activity: Activity | None
    unseen: list[str]
    awaited: list[str] = []

    @property
    def has_seen(self) -> bool:
        """Whether anything could be read."""
        return self.activity is not None or any(queue.problem is None for queue in self.queues)


class _QueueReading(NamedTuple):
    """A queue, and why its dead-letter queue is not seen; empty if it is."""

    queue: QueueState
    unseen: str = ""


class _Asked(NamedTuple):
    """The calls of a reading, and when it began, in monotonic seconds."""

    began: float
    activity: Future[Activity] | None
    queues: Mapping[str, Future[_QueueReading]]
    ages: Future[dict[str, float]] | None

    @property
    def calls(self) -> list[Future[Any]]:
        """All of them."""
        return [call for call in (self.activity, *self.queues.values(), self.ages) if call]


class _Unseen(list[str]):
    """The sentences for what is not seen.

    Parameters:
      waited_s: seconds for which each service had time.
      is_last: whether nothing is waited for any longer.
    """

    def __init__(self, *, waited_s: float, is_last: bool) -> None:
        super().__init__()
        self.waited_s = waited_s
        self.is_last = is_last
        self.awaited: list[str] = []

    def why(self, raised: Exception, *, service: str) -> str:
        """Why something of a service is not seen. Raises a fault of this program."""
        if isinstance(raised, NoAnswer):
            if self.is_last:
                return f"{service} gave no answer within {self.waited_s:g} s"
            if service not in self.awaited:
                self.awaited.append(service)
            return f"{service} has not answered for {self.waited_s:g} s"
        return _why(raised)


class Sources:
    """The services that a status is read from; for many readings.

    Parameters:
      environment: without a variable, what needs it is reported as not seen, and the rest is read.
      sqs, cloudwatch: make a client, at first use.
      has_database: whether the storage is open.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        sqs: Callable[[], SQSClient],
        cloudwatch: Callable[[], Any],
        has_database: bool,
    ) -> None:
        self.environment = environment
        self.has_database = has_database
        # Made when they are needed: without a region there are none.
        self._sqs = cache(sqs)
        self._cloudwatch = cache(cloudwatch)
        self._making = threading.Lock()
        self._dead_letters: dict[str, str] = {}
        self._cloudwatch_refuses = "AWS_ENDPOINT_URL is set" if environment.get("AWS_ENDPOINT_URL") else ""

    def read(self) -> Status:
        """Read all that can be read within `TIMEOUT_S`. Raises only faults of this program."""
        *_, last = self.readings()
        return last

    def readings(self) -> Iterator[Status]:
        """All that can be read within `TIMEOUT_S`; if something is slow, first what is there after `FIRST_S`.

        Raises only faults of this program.
        """
        asked = self._ask()
        _, awaited = wait(asked.calls, timeout=FIRST_S)
        if awaited:
            yield self._status(asked, within_s=FIRST_S, is_last=False)
        yield self._status(asked, within_s=TIMEOUT_S, is_last=True)

    def _ask(self) -> _Asked:
        given = self._given_queues()
        has_ages = given and not self._cloudwatch_refuses
        return _Asked(
            began=time.monotonic(),
            activity=background.start(_read_activity_once, name="activity") if self.has_database else None,
            queues={name: background.start(partial(self._queue, name, url), name=name) for name, url in given.items()},
            ages=background.start(partial(self._read_ages, given), name="ages") if has_ages else None,
        )

    def _status(self, asked: _Asked, *, within_s: float, is_last: bool) -> Status:
        by = asked.began + within_s
        unseen = _Unseen(waited_s=within_s, is_last=is_last)
        seen = self._seen_activity(asked.activity, unseen, by=by)
        unseen += self._unset()
        found = self._seen_queues(asked.queues, unseen, by=by)
        has_queues = any(queue.problem is None for queue in found)
        known_ages = self._seen_ages(asked.ages, unseen, by=by) if has_queues else {}
        return Status(
            at=seen.at if seen else datetime.now(UTC),
            queues=[_with_age(queue, known_ages.get(queue.name), seen) for queue in found],
            activity=seen,
            unseen=list(unseen),
            awaited=unseen.awaited,
        )

    def _given_queues(self) -> dict[str, str]:
        """The URLs of the queues that can be asked for."""
        known = self.environment
        if not known.get("AWS_REGION"):
            return {}
        return {name: known[variable] for name, variable in QUEUE_URLS.items() if known.get(variable)}

    def _unset(self) -> list[str]:
        """A sentence for what the environment lacks of the queues."""
        known = self.environment
        missing = [variable for variable in QUEUE_URLS.values() if not known.get(variable)]
        said = []
        if missing:
            said.append(f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing: not seen.")
        if len(missing) < len(QUEUE_URLS) and not known.get("AWS_REGION"):
            said.append("AWS_REGION is missing: the queues are not seen.")
        return said

    def _queue(self, name: str, url: str) -> _QueueReading:
        with self._making:
            sqs = self._sqs()
        known = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        dead_letters, unseen = None, ""
        if "RedrivePolicy" in known:
            try:
                dead_letters = self._count_dead(sqs, known["RedrivePolicy"])
            except Exception as raised:
                unseen = f"The dead-letter queue of {name} is not seen: {_why(raised)}"
        queue = QueueState(
            name=name,
            waiting=int(known["ApproximateNumberOfMessages"]),
            delayed=int(known.get("ApproximateNumberOfMessagesDelayed", 0)),
            in_flight=int(known.get("ApproximateNumberOfMessagesNotVisible", 0)),
            dead_letters=dead_letters,
        )
        return _QueueReading(queue, unseen)

    def _count_dead(self, sqs: SQSClient, policy: str) -> int:
        arn: str = msgspec.json.decode(policy)["deadLetterTargetArn"]
        if arn not in self._dead_letters:
            self._dead_letters[arn] = queue_url(sqs, arn)
        return visible_messages(sqs, self._dead_letters[arn])

    def _read_ages(self, urls: Mapping[str, str]) -> dict[str, float]:
        return read_ages(self._cloudwatch(), urls)

    def _seen_activity(self, reading: Future[Activity] | None, unseen: _Unseen, *, by: float) -> Activity | None:
        if reading is None:
            unseen.append("DATABASE_URL is missing: tasks, workers and notifications are not seen.")
            return None
        try:
            return background.answer_of(reading, by=by)
        except Exception as raised:
            unseen.append(f"The database is not seen: {unseen.why(raised, service='PostgreSQL')}")
            return None

    @staticmethod
    def _seen_queues(queues: Mapping[str, Future[_QueueReading]], unseen: _Unseen, *, by: float) -> list[QueueState]:
        """All queues, also those without numbers."""
        readings: list[_QueueReading] = []
        failed: dict[str, list[str]] = {}
        for name, reading in queues.items():
            try:
                readings.append(background.answer_of(reading, by=by))
            except Exception as raised:
                failed.setdefault(unseen.why(raised, service="SQS"), []).append(name)
                problem: Problem = "does not exist" if is_missing_queue(raised) else "not seen"
                if isinstance(raised, NoAnswer) and not unseen.is_last:
                    problem = "awaited"
                readings.append(_QueueReading(QueueState(name=name, problem=problem)))
        unseen += [
            f"The {'queue' if len(names) == 1 else 'queues'} of {_listed(names)} "
            f"{'is' if len(names) == 1 else 'are'} not seen: {why}"
            for why, names in failed.items()
        ]
        unseen += [reading.unseen for reading in readings if reading.unseen]
        return [reading.queue for reading in readings]

    def _seen_ages(self, ages: Future[dict[str, float]] | None, unseen: _Unseen, *, by: float) -> dict[str, float]:
        """The ages that CloudWatch knows. After a refusal it is not asked again: each call would take a second."""
        if ages:
            try:
                return background.answer_of(ages, by=by)
            except Exception as raised:
                why = unseen.why(raised, service="CloudWatch")
                if not unseen.is_last:
                    unseen.append(f"Oldest messages, by CloudWatch: {why}")
                    return {}
                self._cloudwatch_refuses = why
        unseen.append(f"Oldest messages, by CloudWatch: {self._cloudwatch_refuses}")
        return {}


def read_activity() -> Activity:
    """What the database says, all at one moment. Raises peewee's errors."""
    with snapshot():
        database.execute_sql(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
        (at,) = database.execute_sql("SELECT now()").fetchone()
        failures = activity.failures_by_reason()
        processes = workers.processes()
        return Activity(
            at=at,
            open_tasks=activity.open_tasks(),
            ended=activity.ended_tasks(),
            throughput=activity.throughput(),
            retrying=activity.retrying(),
            failed_attempts=failures.failed,
            given_up=failures.given_up,
            failures_are_exact=failures.is_exact,
            notifications=activity.waiting_notifications(),
            workers=processes,
            outages=reported_outages(processes),
        )


def _read_activity_once() -> Activity:
    """What the database says, for a thread that ends then: its connection ends with it."""
    try:
        return read_activity()
    finally:
        database.abandon()


def read_ages(cloudwatch: Any, urls: Mapping[str, str]) -> dict[str, float]:
    """The age in seconds of each queue's oldest message, if CloudWatch knows it. Raises botocore's errors."""
    now = datetime.now(UTC)
    answer = cloudwatch.get_metric_data(
        MetricDataQueries=[
            {
                "Id": name,
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/SQS",
                        "MetricName": AGE_METRIC,
                        "Dimensions": [{"Name": "QueueName", "Value": url.rpartition("/")[2]}],
                    },
                    "Period": 60,
                    "Stat": "Maximum",
                },
            }
            for name, url in urls.items()
        ],
        StartTime=now - AGE_WINDOW,
        EndTime=now,
        ScanBy="TimestampDescending",
    )
    return {found["Id"]: float(found["Values"][0]) for found in answer["MetricDataResults"] if found["Values"]}


def _with_age(queue: QueueState, age_s: float | None, seen: Activity | None) -> QueueState:
    """The queue with the age of its oldest message: CloudWatch's, or else the database's upper bound."""
    if not any((queue.waiting, queue.in_flight, queue.delayed)):
        return queue
    if age_s is not None:
        return msgspec.structs.replace(queue, oldest_s=age_s, oldest_from="CloudWatch")
    if seen is None:
        return queue
    since = None
    if queue.name == "notifications":
        since = seen.notifications.oldest_created_at
    elif queue.name == "results":
        # A result was sent after the last news of its task, so none has waited longer.
        since = min((found.oldest_news_at for found in seen.open_tasks), default=None)
    else:
        since = next((found.oldest_news_at for found in seen.open_tasks if found.status == "PENDING"), None)
    if since is None:
        return queue
    age = max(0.0, (seen.at - since).total_seconds())
    return msgspec.structs.replace(queue, oldest_s=age, oldest_from="database")


def _why(raised: Exception) -> str:
    """Why a service did not give what was asked for. Raises a fault of this program."""
    error = _expected(raised)
    if is_missing_queue(raised):
        return "it does not exist"
    if isinstance(raised, ClientError) and (said := raised.response["Error"].get("Message")):
        return f"{said.rstrip('.')} ({raised.response['Error'].get('Code', 'no code')})"
    return str(error)


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _expected(raised: Exception) -> GraphNodeError:
    """The error of AWS or PostgreSQL. Raises any other: it is a fault of this program."""
    error = classify_error(raised)
    if isinstance(error, Unexpected) and not isinstance(raised, BotoCoreError | ClientError | PeeweeException):
        raise raised
    return error
