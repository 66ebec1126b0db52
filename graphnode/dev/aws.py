"""SQS and S3 clients for an environment, which need not be this process's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from graphnode.clients.aws import Aws
from graphnode.errors import SettingsError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


def sqs_client(environment: Mapping[str, str]) -> SQSClient:
    """An SQS client for these environment variables. Thread-safe."""
    return Aws.of_environment(environment).sqs()


def s3_client(environment: Mapping[str, str]) -> S3Client:
    """An S3 client for these environment variables. Thread-safe."""
    return Aws.of_environment(environment).s3()


def dead_letter_url(sqs: SQSClient, queue_url: str) -> str:
    """The URL of a queue's dead-letter queue, as its redrive policy names it. Raises SettingsError without one."""
    attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["RedrivePolicy"]).get("Attributes", {})
    if "RedrivePolicy" not in attributes:
        raise SettingsError(f"The queue {queue_url} has no dead-letter queue: give it a redrive policy.")
    arn: str = json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"]
    return sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
