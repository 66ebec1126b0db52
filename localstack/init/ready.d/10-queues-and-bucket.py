"""Makes the queues and the bucket of a development deployment. LocalStack runs this file when it is ready.

Tests and benchmarks call its functions with their own prefixes, so that there is one definition.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: Receives until SQS's redrive. It is the safety net for a worker that crashes on a message again and again. It is far
#: above the worker's own attempts, so that a dead letter has the worker's reason if there is one.
MAX_RECEIVE_COUNT = 50

#: The visibility timeout in seconds: the messages of a killed worker are visible again within that time.
VISIBILITY_TIMEOUT_S = 60

#: The longest retention of SQS, in seconds.
DEAD_LETTER_RETENTION_S = 14 * 86_400


def make_queues(sqs: SQSClient, prefix: str = "graphnode", names: Sequence[str] = ("requests", "results")) -> None:
    """Make the request and result queues, or those with other names, each with a dead-letter queue."""
    for name in names:
        dead_letters = sqs.create_queue(
            QueueName=f"{prefix}-{name}-dlq", Attributes={"MessageRetentionPeriod": str(DEAD_LETTER_RETENTION_S)}
        )["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = {"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVE_COUNT}
        sqs.create_queue(
            QueueName=f"{prefix}-{name}",
            Attributes={"VisibilityTimeout": str(VISIBILITY_TIMEOUT_S), "RedrivePolicy": json.dumps(redrive)},
        )


def make_bucket(s3: S3Client, prefix: str = "graphnode") -> None:
    """Make the bucket of the AI server's documents."""
    s3.create_bucket(Bucket=f"{prefix}-payloads")


# LocalStack runs the text of this file, without `__file__`.
if "__file__" not in globals():
    import boto3

    server = {
        "endpoint_url": os.environ.get("AWS_ENDPOINT_URL", "http://localhost:4566"),
        "region_name": "us-east-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    make_queues(boto3.client("sqs", **server))
    make_bucket(boto3.client("s3", **server))
