"""SQS and S3 clients of the local stack, which is behind no proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from graphnode.clients.aws import Aws
from graphnode.errors import SettingsError
from graphnode.sqs import queues

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


def sqs_client(environment: Mapping[str, str]) -> SQSClient:
    """An SQS client for these environment variables. Thread-safe."""
    return Aws.of_environment(environment, proxies=False).sqs()


def s3_client(environment: Mapping[str, str]) -> S3Client:
    """An S3 client for these environment variables. Thread-safe."""
    return Aws.of_environment(environment, proxies=False).s3()


def dead_letter_url(sqs: SQSClient, queue_url: str) -> str:
    """The URL of a queue's dead-letter queue, as its redrive policy names it. Raises SettingsError and NoSuchQueue."""
    with queues.named_if_missing(queue_url):
        policy = queues.redrive_policy(sqs, queue_url)
    if policy is None:
        raise SettingsError(f"The queue {queue_url} has no dead-letter queue: give it a redrive policy.")
    with queues.named_if_missing(policy.arn):
        return queues.queue_url(sqs, policy.arn)
