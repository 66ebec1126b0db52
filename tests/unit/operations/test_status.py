"""What a status has when a source is missing or refuses. No server is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from graphnode.operations.status import sources as sources_module
from graphnode.operations.status.sources import Activity, Sources
from graphnode.settings import QUEUE_URLS
from tests.unit.cli.test_status_screen import ACTIVITY, shown


class Sqs:
    """A queue with messages; access to its dead-letter queue is denied."""

    def get_queue_attributes(self, *, QueueUrl: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        policy = '{"deadLetterTargetArn": "arn:aws:sqs:eu:1:dlq", "maxReceiveCount": 24}'
        return {"Attributes": {"ApproximateNumberOfMessages": "7", "RedrivePolicy": policy}}

    def get_queue_url(self, **_: Any) -> dict[str, str]:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetQueueUrl")


class Frozen:
    """A service of which no call returns before the test's end.

    Parameters:
      thaw: the test's end.
    """

    def __init__(self, thaw: threading.Event) -> None:
        self.thaw = thaw

    def call(self, **_: Any) -> Any:
        self.thaw.wait()
        raise ConnectionError("thawed")

    get_queue_attributes = get_metric_data = call


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
            "SQS_REQUEST_QUEUE_URL is missing",
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


class TestFrozenServices:
    @pytest.fixture
    def thaw(self) -> Iterator[threading.Event]:
        ended = threading.Event()
        yield ended
        ended.set()

    @pytest.fixture
    def variables(self) -> dict[str, str]:
        urls = {variable: f"https://sqs.eu-central-1.amazonaws.com/1/{name}" for name, variable in QUEUE_URLS.items()}
        return {"AWS_REGION": "eu-central-1", **urls}

    @pytest.fixture
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A reading that waits only for a moment."""
        monkeypatch.setattr(sources_module, "TIMEOUT_S", 0.2)

    @pytest.fixture
    def read_activity(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Activity]], None]:
        """Set what reading the database does."""
        return lambda read: monkeypatch.setattr(sources_module, "read_activity", read)

    @pytest.mark.usefixtures("quick")
    def test_a_frozen_sqs_is_not_waited_for_and_named_once_and_the_rest_is_read(
        self, variables: dict[str, str], thaw: threading.Event, read_activity: Callable[..., None]
    ) -> None:
        read_activity(lambda: ACTIVITY)
        frozen: Any = Frozen(thaw)

        read = Sources(variables, sqs=lambda: frozen, cloudwatch=lambda: frozen, has_database=True).read()

        assert read.activity is ACTIVITY
        assert [(queue.name, queue.problem) for queue in read.queues] == [(name, "not seen") for name in QUEUE_URLS]
        assert read.unseen == ["The queues of results and requests are not seen: SQS gave no answer within 0.2 s"]

    @pytest.mark.usefixtures("quick")
    def test_a_frozen_database_and_a_frozen_cloudwatch_are_named_and_the_queues_are_read(
        self, variables: dict[str, str], thaw: threading.Event, read_activity: Callable[..., None]
    ) -> None:
        frozen: Any = Frozen(thaw)
        sqs: Any = Sqs()
        read_activity(frozen.call)

        read = Sources(variables, sqs=lambda: sqs, cloudwatch=lambda: frozen, has_database=True).read()

        assert [queue.waiting for queue in read.queues] == [7, 7]
        assert read.unseen[0] == "The database is not seen: PostgreSQL gave no answer within 0.2 s"
        assert read.unseen[-1] == "Oldest messages, by CloudWatch: CloudWatch gave no answer within 0.2 s"

    @pytest.mark.usefixtures("quick")
    def test_what_is_there_is_shown_first_and_what_is_awaited_is_named(
        self,
        variables: dict[str, str],
        thaw: threading.Event,
        read_activity: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sources_module, "FIRST_S", 0.1)
        read_activity(lambda: ACTIVITY)
        frozen: Any = Frozen(thaw)

        first, last = Sources(variables, sqs=lambda: frozen, cloudwatch=lambda: frozen, has_database=True).readings()

        assert first.activity is ACTIVITY
        assert (first.awaited, last.awaited) == (["SQS"], [])
        assert {queue.problem for queue in first.queues} == {"awaited"}
        assert first.unseen == ["The queues of results and requests are not seen: SQS has not answered for 0.1 s"]

    def test_a_quick_reading_is_one(self, variables: dict[str, str], read_activity: Callable[..., None]) -> None:
        read_activity(lambda: ACTIVITY)
        sqs: Any = Sqs()
        cloudwatch = CloudWatch(refuses=False)

        (only,) = Sources(variables, sqs=lambda: sqs, cloudwatch=lambda: cloudwatch, has_database=True).readings()

        assert only.has_seen

    def test_a_queue_that_does_not_exist_is_listed_as_such(
        self, variables: dict[str, str], read_activity: Callable[..., None]
    ) -> None:
        class Gone(Sqs):
            def get_queue_attributes(self, *, QueueUrl: str, **asked: Any) -> dict[str, Any]:  # noqa: N803
                if QueueUrl.endswith("results"):
                    raise ClientError({"Error": {"Code": "QueueDoesNotExist", "Message": "no"}}, "GetQueueAttributes")
                return super().get_queue_attributes(QueueUrl=QueueUrl, **asked)

        read_activity(lambda: ACTIVITY)
        sqs: Any = Gone()
        cloudwatch = CloudWatch(refuses=False)

        read = Sources(variables, sqs=lambda: sqs, cloudwatch=lambda: cloudwatch, has_database=True).read()

        assert [queue.problem for queue in read.queues] == ["does not exist", None]
        assert "The queue of results is not seen: it does not exist" in read.unseen

    def test_all_queues_are_asked_at_the_same_time(self, variables: dict[str, str]) -> None:
        together = threading.Barrier(len(QUEUE_URLS), timeout=20)

        class Meeting(Sqs):
            def get_queue_attributes(self, *, QueueUrl: str, **asked: Any) -> dict[str, Any]:  # noqa: N803
                together.wait()
                return super().get_queue_attributes(QueueUrl=QueueUrl, **asked)

        sqs: Any = Meeting()
        cloudwatch = CloudWatch(refuses=False)

        read = Sources(variables, sqs=lambda: sqs, cloudwatch=lambda: cloudwatch, has_database=False).read()

        assert [queue.name for queue in read.queues] == list(QUEUE_URLS)

    def test_a_fault_of_this_program_is_no_silence_of_a_service(self, variables: dict[str, str]) -> None:
        def fail() -> Any:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            Sources(variables, sqs=fail, cloudwatch=fail, has_database=False).read()
