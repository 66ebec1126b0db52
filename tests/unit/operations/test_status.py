"""What a status has when a source is missing or refuses. No server is asked."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from graphnode.operations.status.reading import Activity, QueueState, Sources, Status
from graphnode.operations.status.screen import length, screen
from graphnode.storage.activity import EndedTasks, OpenTasks, Throughput, WaitingNotifications
from graphnode.storage.workers import WorkerProcess
from graphnode.text import escaped

NOW = datetime(2026, 11, 25, 4, 20, tzinfo=UTC)


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


def worker(number: int, **changes: Any) -> WorkerProcess:
    known: dict[str, Any] = {
        "host": f"ip-10-0-{number}-217.eu-central-1.compute.internal",
        "pid": 12_000 + number,
        "version": "0.1.0",
        "threads": 16,
        "started_at": ago(days=3),
        "seen_at": ago(seconds=12),
        "is_late": False,
        "in_hand": 12,
        "running": 4,
        "outage_service": None,
        "outage_since": None,
        "handled": 1_234_567,
        "retried": 12_345,
        "dead": 321,
    }
    return WorkerProcess(**{**known, **changes})


ACTIVITY = Activity(
    at=NOW,
    open_tasks=[OpenTasks("PENDING", 12_345, ago(hours=1)), OpenTasks("PROGRESS", 1_234, ago(minutes=5))],
    ended=EndedTasks({"COMPLETED": 12_345_678, "FAILED": 123_456, "SUPERSEDED": 12_345}, False),
    throughput=Throughput(120, 590, 7_012, 17, None),
    retrying=42,
    failed_attempts={"OBJECT_NOT_FOUND": 1_203, "DATABASE_CONFLICT": 42, "SERVICE_BUSY": 9, "TIME_LIMIT": 3},
    given_up={"INVALID_DOCUMENT": 5, "UNKNOWN_TASK_TYPE": 1},
    notifications=WaitingNotifications(1_234, 3, ago(minutes=7)),
    workers=[worker(number) for number in range(9)],
)

STATUS = Status(
    at=NOW,
    queues=[
        QueueState(name="results", waiting=123_456, delayed=0, in_flight=1_234, dead_letters=12, oldest_s=3_725),
        QueueState(name="notifications", waiting=1, delayed=0, in_flight=0, oldest_s=90, oldest_from="database"),
        QueueState(name="requests", waiting=0, delayed=0, in_flight=0),
    ],
    activity=ACTIVITY,
    unseen=["Oldest messages, by CloudWatch: AWS_ENDPOINT_URL is set"],
)


def shown(status: Status) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(screen(status))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


class TestScreen:
    def test_a_busy_deployment_fits_on_one_screen(self) -> None:
        lines = shown(STATUS)

        assert max(map(len, lines)) <= 80
        assert len(lines) <= 30
        assert not [line for line in lines if "…" in line]

    def test_every_count_is_there(self) -> None:
        text = " ".join(" ".join(shown(STATUS)).split())

        for told in (
            "results 123,456 1,234 0 1 h 12",
            "notifications 1 0 0 ≤ 1.5 min -",
            "PENDING 12,345 · PROGRESS 1,234 · no news of one for 1 h",
            "about COMPLETED 12,345,678 · FAILED 123,456 · SUPERSEDED 12,345",
            "120 in the last · 118 over 5 · 117 over 60 · 17 failed",
            "OBJECT_NOT_FOUND 1,203, DATABASE_CONFLICT 42, SERVICE_BUSY 9, others 3",
            "in the last 24 hours: INVALID_DOCUMENT 5, UNKNOWN_TASK_TYPE 1",
            "1,234 not done with · 3 due · the oldest for 7 min",
            "9 processes, 144 threads",
            "ip-10-0-0-217 12000 4/16 12 1.2 M 12.3 k 321 12 s",
            "and 3 more",
        ):
            assert told in text

    def test_an_outage_is_told_with_its_service_and_its_length(self) -> None:
        away = {"outage_service": "PostgreSQL", "outage_since": ago(minutes=4)}
        seen = msgspec.structs.replace(ACTIVITY, workers=[worker(1, **away), worker(2, **away), worker(3)])

        lines = shown(msgspec.structs.replace(STATUS, activity=seen))

        assert "Outages        PostgreSQL for 4 min (2 processes)" in lines

    def test_a_process_that_is_not_seen_any_more_stands_first_and_is_not_counted(self) -> None:
        late = worker(9, host="zulu", seen_at=ago(minutes=20), is_late=True)
        seen = msgspec.structs.replace(ACTIVITY, workers=[worker(1), late])

        lines = shown(msgspec.structs.replace(STATUS, activity=seen))

        (number,) = [number for number, line in enumerate(lines) if line.startswith("Workers")]
        assert lines[number] == "Workers        1 process, 16 threads · 1 not seen any more"
        assert lines[number + 2].startswith("  zulu")
        assert lines[number + 2].endswith("late 20 min")

    def test_a_terminal_gets_nothing_to_obey(self) -> None:
        name = "x\x1b[2J\x9b31m\u202e"
        activity = msgspec.structs.replace(
            ACTIVITY,
            failed_attempts={name: 1},
            given_up={name: 1},
            ended=EndedTasks({name: 1}, True),
            open_tasks=[OpenTasks(name, 1, ago(hours=1))],
            workers=[worker(1, host=name, version=name), worker(2, outage_service=name, outage_since=ago(hours=1))],
        )

        text = "\n".join(shown(msgspec.structs.replace(STATUS, activity=activity, unseen=[name])))

        assert text.count("x[2J31m") >= 6
        assert escaped(text, but="\n") == text

    def test_without_any_worker_that_is_told(self) -> None:
        lines = shown(msgspec.structs.replace(STATUS, activity=msgspec.structs.replace(ACTIVITY, workers=[])))

        assert "Workers        none has said within the last hour that it is there" in lines

    def test_a_count_that_reached_its_bound_is_a_rate_over_what_was_counted(self) -> None:
        ended = Throughput(40_000, 100_000, 100_000, 0, ago(minutes=2.5))

        lines = shown(msgspec.structs.replace(STATUS, activity=msgspec.structs.replace(ACTIVITY, throughput=ended)))

        assert "Ended a minute 40,000 over the last 2.5 minutes, at least" in lines

    @pytest.mark.parametrize(
        ("seconds", "told"),
        [
            (-1, "0 s"),
            (0.4, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (90, "1.5 min"),
            (119, "1.9 min"),
            (3_600, "1 h"),
            (200_000, "2.3 d"),
        ],
    )
    def test_a_length_of_time_is_in_its_largest_unit(self, seconds: float, told: str) -> None:
        assert length(seconds) == told


class Sqs:
    """A queue with messages; access to its dead-letter queue is denied."""

    def get_queue_attributes(self, *, QueueUrl: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        policy = '{"deadLetterTargetArn": "arn:aws:sqs:eu:1:dlq", "maxReceiveCount": 24}'
        return {"Attributes": {"ApproximateNumberOfMessages": "7", "RedrivePolicy": policy}}

    def get_queue_url(self, **_: Any) -> dict[str, str]:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetQueueUrl")


class CloudWatch:
    """A CloudWatch that refuses, or gives an age, and counts its calls."""

    def __init__(self, *, refuses: bool) -> None:
        self.refuses, self.calls = refuses, 0

    def get_metric_data(self, **asked: Any) -> dict[str, Any]:
        self.calls += 1
        if self.refuses:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetMetricData")
        return {"MetricDataResults": [{"Id": query["Id"], "Values": [75.0]} for query in asked["MetricDataQueries"]]}


@pytest.fixture
def variables() -> dict[str, str]:
    return {"AWS_REGION": "eu-central-1", "SQS_RESULT_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/results"}


class TestSources:
    def sources(self, variables: dict[str, str], cloudwatch: CloudWatch) -> Sources:
        sqs: Any = Sqs()
        return Sources(variables, sqs=lambda: sqs, cloudwatch=lambda: cloudwatch, has_database=False)

    def test_what_is_missing_is_reported_and_the_rest_is_read(self, variables: dict[str, str]) -> None:
        read = self.sources(variables, CloudWatch(refuses=False)).read()

        (queue,) = read.queues
        assert (queue.name, queue.waiting, queue.dead_letters) == ("results", 7, None)
        assert (queue.oldest_s, queue.oldest_from) == (75.0, "CloudWatch")
        assert read.activity is None
        assert [sentence.split(":")[0] for sentence in read.unseen] == [
            "DATABASE_URL is missing",
            "SQS_NOTIFICATION_QUEUE_URL and SQS_REQUEST_QUEUE_URL are missing",
            "The dead-letter queue of results is not seen",
        ]
        assert max(map(len, shown(read))) <= 80

    def test_cloudwatch_that_refuses_is_asked_once(self, variables: dict[str, str]) -> None:
        cloudwatch = CloudWatch(refuses=True)
        sources = self.sources(variables, cloudwatch)

        first, second = sources.read(), sources.read()

        assert cloudwatch.calls == 1
        assert first.queues[0].oldest_s is second.queues[0].oldest_s is None
        assert "AccessDenied" in second.unseen[-1]

    def test_without_a_region_no_queue_is_asked_for(self, variables: dict[str, str]) -> None:
        del variables["AWS_REGION"]

        read = self.sources(variables, CloudWatch(refuses=False)).read()

        assert read.queues == []
        assert "AWS_REGION is missing: the queues are not seen." in read.unseen
