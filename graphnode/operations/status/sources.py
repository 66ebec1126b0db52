"""A deployment's status, read from SQS, CloudWatch and the database, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from peewee import PeeweeException

from graphnode.errors import GraphNodeError, Unexpected, classify_error
from graphnode.settings import QUEUE_URLS
from graphnode.sqs.queues import queue_url, visible_messages
from graphnode.storage import activity, workers
from graphnode.storage.activity import EndedTasks, OpenTasks, Throughput, WaitingNotifications
from graphnode.storage.database import database, snapshot
from graphnode.storage.workers import WorkerProcess

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

Read = TypeVar("Read")

#: SQS's metric of a queue's oldest message; its newest value is some minutes old.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
AGE_METRIC = "ApproximateAgeOfOldestMessage"
AGE_WINDOW = timedelta(minutes=10)

#: Milliseconds that one count may take: somebody waits for it.
STATEMENT_TIMEOUT_MS = 5_000

#: Where the age of a queue's oldest message comes from.
AgeSource = Literal["CloudWatch", "database"]


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """A queue's messages, its dead letters, and the age of its oldest message.

    Parameters:
      dead_letters: None without a dead-letter queue, or if it cannot be read.
      oldest_s: seconds; None if unknown. From the database it is an upper bound: no message is older.
    """

    name: str
    waiting: int
    delayed: int
    in_flight: int
    dead_letters: int | None = None
    oldest_s: float | None = None
    oldest_from: AgeSource | None = None


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What the database says about tasks, notifications and workers.

    Parameters:
      retrying: messages that failed in the last day and will be retried.
      failed_attempts: of the last hour, by reason.
      given_up: messages that became dead letters in the last day, by reason.
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


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All that could be read at one moment, and a sentence for each thing that could not."""

    at: datetime
    queues: list[QueueState]
    activity: Activity | None
    unseen: list[str]


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
        self._dead_letters: dict[str, str] = {}
        self._cloudwatch_refuses = "AWS_ENDPOINT_URL is set" if environment.get("AWS_ENDPOINT_URL") else ""

    def read(self) -> Status:
        """Read all that can be read. Raises only faults of this program."""
        unseen: list[str] = []
        seen = self._activity(unseen)
        queues = self._queues(unseen)
        ages = self._ages([queue.name for queue in queues], unseen) if queues else {}
        at = seen.at if seen else datetime.now(UTC)
        return Status(
            at=at,
            queues=[_with_age(queue, ages.get(queue.name), seen) for queue in queues],
            activity=seen,
            unseen=unseen,
        )

    def _activity(self, unseen: list[str]) -> Activity | None:
        if not self.has_database:
            unseen.append("DATABASE_URL is missing: tasks, workers and notifications are not seen.")
            return None
        return _tried("The database", read_activity, unseen)

    def _queues(self, unseen: list[str]) -> list[QueueState]:
        known = self.environment
        given = {name: known[variable] for name, variable in QUEUE_URLS.items() if known.get(variable)}
        missing = [variable for name, variable in QUEUE_URLS.items() if name not in given]
        if missing:
            unseen.append(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: not seen.")
        if not given:
            return []
        if not known.get("AWS_REGION"):
            unseen.append("AWS_REGION is missing: the queues are not seen.")
            return []
        found = (
            _tried(f"The queue of {name}", partial(self._queue, self._sqs(), name, url, unseen), unseen)
            for name, url in given.items()
        )
        return [queue for queue in found if queue]

    def _queue(self, sqs: SQSClient, name: str, url: str, unseen: list[str]) -> QueueState:
        known = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        dead_letters = None
        if "RedrivePolicy" in known:
            dead_letters = _tried(
                f"The dead-letter queue of {name}", lambda: self._count_dead(sqs, known["RedrivePolicy"]), unseen
            )
        return QueueState(
            name=name,
            waiting=int(known["ApproximateNumberOfMessages"]),
            delayed=int(known.get("ApproximateNumberOfMessagesDelayed", 0)),
            in_flight=int(known.get("ApproximateNumberOfMessagesNotVisible", 0)),
            dead_letters=dead_letters,
        )

    def _count_dead(self, sqs: SQSClient, policy: str) -> int:
        arn: str = msgspec.json.decode(policy)["deadLetterTargetArn"]
        if arn not in self._dead_letters:
            self._dead_letters[arn] = queue_url(sqs, arn)
        return visible_messages(sqs, self._dead_letters[arn])

    def _ages(self, names: list[str], unseen: list[str]) -> dict[str, float]:
        """The ages that CloudWatch knows. After a refusal it is not asked again: each call would take a second."""
        if not self._cloudwatch_refuses:
            cloudwatch = self._cloudwatch()
            try:
                return read_ages(cloudwatch, {name: self.environment[QUEUE_URLS[name]] for name in names})
            except Exception as raised:
                self._cloudwatch_refuses = str(_expected(raised))
        unseen.append(f"Oldest messages, by CloudWatch: {self._cloudwatch_refuses}")
        return {}


def read_activity() -> Activity:
    """What the database says, all at one moment. Raises peewee's errors."""
    with snapshot():
        database.execute_sql(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
        (at,) = database.execute_sql("SELECT now()").fetchone()
        failed, given_up = activity.failures_by_reason()
        return Activity(
            at=at,
            open_tasks=activity.open_tasks(),
            ended=activity.ended_tasks(),
            throughput=activity.throughput(),
            retrying=activity.retrying(),
            failed_attempts=failed,
            given_up=given_up,
            notifications=activity.waiting_notifications(),
            workers=workers.processes(),
        )


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
    if not queue.waiting + queue.in_flight + queue.delayed:
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


def _tried(what: str, read: Callable[[], Read], unseen: list[str]) -> Read | None:
    """What `read` returns; or None, after adding a sentence to `unseen`."""
    try:
        return read()
    except Exception as raised:
        unseen.append(f"{what} is not seen: {_expected(raised)}")
        return None


def _expected(raised: Exception) -> GraphNodeError:
    """The error of AWS or PostgreSQL. Raises any other: it is a fault of this program."""
    error = classify_error(raised)
    if isinstance(error, Unexpected) and not isinstance(raised, BotoCoreError | ClientError | PeeweeException):
        raise raised
    return error
