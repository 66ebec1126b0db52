"""What the stand-in reads and writes in S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from graphnode.dev.ai.reading import UnreadableInput

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Bytes of a request's input at most, all objects together.
LARGEST_INPUT_BYTES = 64 << 20

#: AWS error codes that say an object, or the bucket that a request names, is not there for us.
NOT_THERE = frozenset({"NoSuchKey", "NoSuchBucket", "AccessDenied", "404", "InvalidBucketName"})


class Bucket:
    """The payload bucket, and whichever other one a request's input is in. Thread-safe.

    Parameters:
      s3: the client.
      name: the payload bucket.
    """

    def __init__(self, s3: S3Client, name: str) -> None:
        self._s3 = s3
        self.name = name

    def read(self, key: str, *, bucket: str | None = None) -> bytes:
        """An object. Raises UnreadableInput when it is not there or too large."""
        where = bucket or self.name
        try:
            found = self._s3.get_object(Bucket=where, Key=key)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in NOT_THERE:
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
        """An object of the payload bucket, or None when there is none."""
        try:
            return self.read(key)
        except UnreadableInput:
            return None

    def keys(self, prefix: str, *, bucket: str | None = None) -> list[str]:
        """The keys of all objects under a prefix, sorted. Raises UnreadableInput when there are none."""
        where = bucket or self.name
        try:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=where, Prefix=prefix)
            found = [item["Key"] for page in pages for item in page.get("Contents", []) if item["Size"]]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in NOT_THERE:
                raise
            found = []
        if not found:
            raise UnreadableInput(f"There are no objects under s3://{where}/{prefix}.")
        return sorted(found)

    def inputs(self, keys: list[str], *, bucket: str | None = None) -> dict[str, bytes]:
        """The objects of a request by key, those under a prefix that ends in `/` too. Raises UnreadableInput."""
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
        """Ask for the payload bucket. Raises botocore's errors while it is away."""
        self._s3.head_bucket(Bucket=self.name)
