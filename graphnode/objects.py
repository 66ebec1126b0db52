"""Documents in S3: reads that are bounded in size and in time."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import boto3.session
from botocore.config import Config
from botocore.exceptions import ClientError

from graphnode.errors import DocumentTooLarge, ObjectNotFound
from graphnode.settings import settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Seconds until a connection is given up, and until a read that brings nothing is.
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30

#: Connections kept open, at least one for each thread that reads.
CONNECTIONS = 32

#: Bytes read at a time.
CHUNK_BYTES = 1 << 20

_lock = threading.Lock()
_client: S3Client | None = None


def client() -> S3Client:
    """This process's S3 client; threads share it."""
    global _client
    with _lock:
        if _client is None:
            _client = boto3.session.Session().client(
                "s3",
                region_name=settings().aws_region,
                endpoint_url=settings().aws_endpoint_url,
                config=Config(
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=READ_TIMEOUT_S,
                    retries={"total_max_attempts": 3, "mode": "standard"},
                    max_pool_connections=CONNECTIONS,
                    # Another S3 than AWS's own has no host name for each bucket.
                    s3={"addressing_style": "path"} if settings().aws_endpoint_url else {},
                ),
            )
        return _client


def read_document(key: str) -> bytes:
    """Read a whole document from the payload bucket.

    Parameters:
      key: the object's key.

    Raises ObjectNotFound (it may still come), DocumentTooLarge over `GRAPHNODE_MAX_DOCUMENT_BYTES`, and botocore's
    errors.
    """
    bucket, limit = settings().s3_payload_bucket, settings().max_document_bytes
    try:
        answer = client().get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "NoSuchKey":
            raise ObjectNotFound(f"s3://{bucket}/{key} does not exist (yet)") from None
        raise
    size = answer["ContentLength"]
    with closing(answer["Body"]) as stream:
        if size > limit:
            raise DocumentTooLarge(
                f"s3://{bucket}/{key} has {size} bytes; the limit is {limit} (GRAPHNODE_MAX_DOCUMENT_BYTES)"
            )
        return b"".join(stream.iter_chunks(CHUNK_BYTES))


def probe() -> None:
    """Ask S3 for the payload bucket. Raises botocore's errors while it is away."""
    client().head_bucket(Bucket=settings().s3_payload_bucket)
