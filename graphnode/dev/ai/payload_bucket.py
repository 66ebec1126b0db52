"""S3 objects that the stand-in reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from graphnode.dev.ai.text_sources import UnreadableInput
from graphnode.errors import aws_code

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Most bytes in all inputs of a request together.
LARGEST_INPUT_BYTES = 64 << 20

#: AWS error codes for an object or a bucket that does not exist or is not accessible.
NOT_THERE = frozenset({"NoSuchKey", "NoSuchBucket", "AccessDenied", "404", "InvalidBucketName"})


class PayloadBucket:
    """The payload bucket, and other buckets that requests name for their input. Thread-safe."""

    def __init__(self, s3: S3Client, name: str) -> None:
        self._s3 = s3
        self.name = name

    def read(self, key: str, *, bucket: str | None = None) -> bytes:
        """An object's content. Raises UnreadableInput if the object is missing or too large."""
        where = bucket or self.name
        try:
            found = self._s3.get_object(Bucket=where, Key=key)
        except ClientError as error:
            if aws_code(error) in NOT_THERE:
                raise UnreadableInput(f"There is no object s3://{where}/{key}.") from None
            raise
        with found["Body"] as body:
            size = found["ContentLength"]
            if size > LARGEST_INPUT_BYTES:
                raise UnreadableInput(
                    f"s3://{where}/{key} has {size:,} bytes; at most {LARGEST_INPUT_BYTES:,} are read."
                )
            return body.read()

    def find(self, key: str) -> bytes | None:
        """The content of an object in the payload bucket, or None if it is missing."""
        try:
            return self.read(key)
        except UnreadableInput:
            return None

    def keys(self, prefix: str, *, bucket: str | None = None) -> list[str]:
        """The keys of all non-empty objects under a prefix, sorted. Raises UnreadableInput if there are none."""
        where = bucket or self.name
        try:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=where, Prefix=prefix)
            found = [item["Key"] for page in pages for item in page.get("Contents", []) if item["Size"]]
        except ClientError as error:
            if aws_code(error) not in NOT_THERE:
                raise
            found = []
        if not found:
            raise UnreadableInput(f"There are no objects under s3://{where}/{prefix}.")
        return sorted(found)

    def inputs(self, keys: list[str], *, bucket: str | None = None) -> dict[str, bytes]:
        """The content of a request's inputs by key. A key that ends with `/` is a prefix. Raises UnreadableInput."""
        named = [found for key in keys for found in (self.keys(key, bucket=bucket) if key.endswith("/") else [key])]
        inputs: dict[str, bytes] = {}
        for key in dict.fromkeys(named):
            inputs[key] = self.read(key, bucket=bucket)
            if sum(map(len, inputs.values())) > LARGEST_INPUT_BYTES:
                raise UnreadableInput(f"The input has over {LARGEST_INPUT_BYTES:,} bytes in {len(named)} objects.")
        return inputs

    def write(self, key: str, content: bytes) -> None:
        """Write a JSON document into the payload bucket."""
        self._s3.put_object(Bucket=self.name, Key=key, Body=content, ContentType="application/json")

    def probe(self) -> None:
        """Send a HEAD request for the payload bucket. Raises botocore's errors during an outage."""
        self._s3.head_bucket(Bucket=self.name)
