"""What a status has when a source is missing or refuses. No server is asked."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from graphnode.operations.status.sources import Sources
from tests.unit.cli.test_status_screen import shown


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
