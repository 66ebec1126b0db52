"""AWS clients for an environment. Each call is made once and has a few seconds: somebody waits for the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: Seconds that a call waits for a connection, and for an answer.
CONNECT_TIMEOUT_S = 4
READ_TIMEOUT_S = 6


def sqs_client(environment: Mapping[str, str]) -> SQSClient:
    """An SQS client for this environment. Thread-safe."""
    client: SQSClient = _client("sqs", environment)
    return client


def s3_client(environment: Mapping[str, str]) -> S3Client:
    """An S3 client for this environment. Thread-safe."""
    client: S3Client = _client("s3", environment)
    return client


def cloudwatch_client(environment: Mapping[str, str]) -> Any:
    """A CloudWatch client for this environment. Thread-safe."""
    return _client("cloudwatch", environment)


def aws_session(environment: Mapping[str, str]) -> boto3.Session:
    """A session with the credentials and the region of this environment, or else those that boto3 finds."""
    return boto3.Session(
        aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID") or None,
        aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY") or None,
        aws_session_token=environment.get("AWS_SESSION_TOKEN") or None,
        region_name=environment.get("AWS_REGION") or None,
    )


def _client(service: str, environment: Mapping[str, str]) -> Any:
    endpoint = environment.get("AWS_ENDPOINT_URL") or None
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Another S3 than AWS's own has no host name for each bucket.
        s3={"addressing_style": "path"} if endpoint else {},
    )
    return aws_session(environment).client(service, endpoint_url=endpoint, config=config)  # type: ignore[call-overload]
