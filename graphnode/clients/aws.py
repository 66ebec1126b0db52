"""Makes every AWS client of this project."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3.session
import botocore.session
import botocore.utils
from botocore.config import Config

from graphnode.clients.credentials import RenewableCredentials

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: Connections that a client keeps open: at least one for each thread that uses it.
CONNECTIONS = 32


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """How long a call of AWS may take.

    Parameters:
      connect_timeout_s: seconds until a connection is given up.
      read_timeout_s: seconds until a call that brings nothing is given up.
      attempts: how often botocore tries a call, the first time included.
    """

    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    attempts: int = 3


#: For a command that somebody waits for: each call is tried once, for a few seconds.
QUICK = CallLimits(connect_timeout_s=4, read_timeout_s=6, attempts=1)


class Aws:
    """Where AWS is, and as whom it is called. Thread-safe; so are its clients, which share their credentials.

    Parameters:
      region: the AWS region.
      endpoint_url: a server in place of AWS's own, such as LocalStack.
      credentials: access key ID, secret access key and session token. Without them, boto3 looks where it always does,
        at the first call and again at `renew_credentials`.
      limits: how long a call may take, unless a client has limits of its own.
      proxies: whether the environment's proxies are used. A server on this machine is behind none.
    """

    def __init__(
        self,
        *,
        region: str | None,
        endpoint_url: str | None = None,
        credentials: tuple[str | None, str | None, str | None] = (None, None, None),
        limits: CallLimits | None = None,
        proxies: bool = True,
    ) -> None:
        self.region = region
        self.endpoint_url = endpoint_url
        self.limits = limits or CallLimits()
        self.proxies = proxies
        self._given = credentials
        self._credentials = RenewableCredentials(self.find_credentials)
        # Clients may be shared by threads. The session that makes them may not.
        self._making = threading.Lock()

    @classmethod
    def of_environment(
        cls, environment: Mapping[str, str], *, limits: CallLimits | None = None, proxies: bool = True
    ) -> Aws:
        """AWS as these environment variables describe it, which need not be this process's own.

        Parameters:
          environment: `AWS_REGION`, `AWS_ENDPOINT_URL` and the credentials' variables; an empty one is not set.
        """

        def given(name: str) -> str | None:
            return environment.get(name) or None

        return cls(
            region=given("AWS_REGION"),
            endpoint_url=given("AWS_ENDPOINT_URL"),
            credentials=(given("AWS_ACCESS_KEY_ID"), given("AWS_SECRET_ACCESS_KEY"), given("AWS_SESSION_TOKEN")),
            limits=limits,
            proxies=proxies,
        )

    def sqs(self, limits: CallLimits | None = None) -> SQSClient:
        """An SQS client."""
        client: SQSClient = self.client("sqs", limits)
        return client

    def s3(self, limits: CallLimits | None = None) -> S3Client:
        """An S3 client."""
        client: S3Client = self.client("s3", limits)
        return client

    def client(self, service: str, limits: CallLimits | None = None) -> Any:
        """A client of any service, by boto3's name for it."""
        known = limits or self.limits
        config = Config(
            connect_timeout=known.connect_timeout_s,
            read_timeout=known.read_timeout_s,
            retries={"total_max_attempts": known.attempts, "mode": "standard"},
            max_pool_connections=CONNECTIONS,
            # Another S3 than AWS's own has no host name for each bucket.
            s3={"addressing_style": "path"} if self.endpoint_url else {},
            proxies=None if self.proxies else {},
        )
        with self._making:
            return self._session.client(service, endpoint_url=self.endpoint_url, config=config)  # type: ignore[call-overload]

    def find_credentials(self) -> Credentials | None:
        """The given credentials, or those that boto3 finds now; None without any. Raises botocore's errors."""
        key_id, secret, token = self._given
        # A new session reads files again, and asks again whoever hands out credentials.
        return boto3.session.Session(
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            aws_session_token=token,
            region_name=self.region,
        ).get_credentials()

    def renew_credentials(self) -> None:
        """Have all clients sign with what `find_credentials` finds now, from their next call on.

        It is done once in a few seconds: another call in that time changes nothing.
        """
        self._credentials.renew()

    @cached_property
    def _session(self) -> boto3.session.Session:
        """One for all clients: each session has the services' descriptions in memory."""
        session = botocore.session.get_session()
        session.register_component("credential_provider", self._credentials)
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
        return boto3.session.Session(botocore_session=session, region_name=self.region)


def parse_time(value: Any) -> datetime:
    """A time in an answer of AWS. botocore's own parser takes a tenth of a `get_object` for its `Last-Modified`."""
    if isinstance(value, str) and value.endswith("GMT"):
        return parsedate_to_datetime(value)
    parsed: datetime = botocore.utils.parse_timestamp(value)
    return parsed
