"""SQS and S3 as an environment describes them, which need not be this process's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from graphnode.errors import SettingsError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: Seconds; the longest call is a long poll of a few seconds.
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30


def sqs_client(environment: Mapping[str, str]) -> SQSClient:
    """An SQS client for these environment variables. Thread-safe."""
    return _session(environment).client("sqs", endpoint_url=_endpoint(environment), config=_config(environment))


def s3_client(environment: Mapping[str, str]) -> S3Client:
    """An S3 client for these environment variables. Thread-safe."""
    return _session(environment).client("s3", endpoint_url=_endpoint(environment), config=_config(environment))


def dead_letter_url(sqs: SQSClient, queue_url: str) -> str:
    """The URL of a queue's dead-letter queue, as its redrive policy names it. Raises SettingsError without one."""
    attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["RedrivePolicy"]).get("Attributes", {})
    if "RedrivePolicy" not in attributes:
        raise SettingsError(f"The queue {queue_url} has no dead-letter queue: give it a redrive policy.")
    arn: str = json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"]
    return sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]


def _session(environment: Mapping[str, str]) -> boto3.Session:
    return boto3.Session(
        aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID") or None,
        aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY") or None,
        aws_session_token=environment.get("AWS_SESSION_TOKEN") or None,
        region_name=environment["AWS_REGION"],
    )


def _endpoint(environment: Mapping[str, str]) -> str | None:
    return environment.get("AWS_ENDPOINT_URL") or None


def _config(environment: Mapping[str, str]) -> Config:
    config = Config(connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S)
    if _endpoint(environment):
        # A server of our own: no proxy in between, and no name that DNS would have to know for each bucket.
        config = config.merge(Config(proxies={}, s3={"addressing_style": "path"}))
    return config
