"""Makes every AWS client of this project. Threads may share a client; they may not share the session that makes it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import boto3.session
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: Connections that a client keeps open: at least one for each thread that uses it.
CONNECTIONS = 32

#: The limits of a command that somebody waits for: each call is tried once, for a few seconds.
QUICK: Mapping[str, Any] = {"connect_timeout_s": 4, "read_timeout_s": 6, "attempts": 1}

_making = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Aws:
    """Where AWS is, as whom it is called, and how long a call may take.

    Parameters:
      region: the AWS region.
      endpoint_url: a server in place of AWS's own, such as LocalStack.
      connect_timeout_s: seconds until a connection is given up.
      read_timeout_s: seconds until a call that brings nothing is given up.
      attempts: how often botocore tries a call, the first time included.
      credentials: access key ID, secret access key and session token; without them, boto3 looks where it always does.
    """

    region: str | None
    endpoint_url: str | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    attempts: int = 3
    credentials: tuple[str | None, str | None, str | None] | None = None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str], **limits: Any) -> Aws:
        """AWS as these environment variables describe it, which need not be this process's own.

        Parameters:
          environment: `AWS_REGION`, `AWS_ENDPOINT_URL` and the credentials' variables; an empty one is not set.
          limits: the time-outs and attempts, where they differ from the defaults.
        """

        def given(name: str) -> str | None:
            return environment.get(name) or None

        return cls(
            region=given("AWS_REGION"),
            endpoint_url=given("AWS_ENDPOINT_URL"),
            credentials=(given("AWS_ACCESS_KEY_ID"), given("AWS_SECRET_ACCESS_KEY"), given("AWS_SESSION_TOKEN")),
            **limits,
        )

    def session(self) -> boto3.session.Session:
        """The session that makes the clients. Threads may not share it."""
        return session_of(self.credentials)

    def sqs(self) -> SQSClient:
        """An SQS client."""
        client: SQSClient = self.client("sqs")
        return client

    def s3(self) -> S3Client:
        """An S3 client."""
        client: S3Client = self.client("s3")
        return client

    def client(self, service: str) -> Any:
        """A client of any service, by boto3's name for it."""
        config = Config(
            connect_timeout=self.connect_timeout_s,
            read_timeout=self.read_timeout_s,
            retries={"total_max_attempts": self.attempts, "mode": "standard"},
            max_pool_connections=CONNECTIONS,
            # Another S3 than AWS's own has no host name for each bucket.
            s3={"addressing_style": "path"} if self.endpoint_url else {},
        )
        with _making:
            return self.session().client(  # type: ignore[call-overload]
                service, region_name=self.region, endpoint_url=self.endpoint_url, config=config
            )


@lru_cache(maxsize=1)
def session_of(credentials: tuple[str | None, str | None, str | None] | None) -> boto3.session.Session:
    """A session with these credentials. It is kept, for each one has the services' descriptions in memory."""
    key_id, secret, token = credentials or (None, None, None)
    return boto3.session.Session(aws_access_key_id=key_id, aws_secret_access_key=secret, aws_session_token=token)
