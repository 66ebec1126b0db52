"""Documents in S3: reads that are bounded in size and go on where a connection broke.

A read as a whole is bounded in time by the time limit of the actor that reads; a call that brings nothing, by its own.
"""

from __future__ import annotations

import gzip
import io
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

import boto3.session
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError
from urllib3.exceptions import HTTPError

from graphnode.clients.memory import admit, admit_stream
from graphnode.contract import object_keys
from graphnode.errors import (
    DocumentTooLarge,
    ForbiddenKey,
    InvalidDocument,
    ObjectChanged,
    ObjectNotFound,
    ServiceBusy,
    one_line,
)
from graphnode.settings import settings
from graphnode.steps import step
from graphnode.text import LONGEST_PROBLEM, excerpt

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

#: Seconds until a connection is given up, and until a read that brings nothing is.
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30

#: Connections kept open, at least one for each thread that reads.
CONNECTIONS = 32

#: Bytes read at a time.
CHUNK_BYTES = 1 << 20

#: How many times larger unpacked JSON is taken to be: what is larger still asks for more memory while it is read.
GZIP_RATIO = 8

#: What an array or an object counts as, at least, however short it is written. Python's smallest dict with a key takes
#: 184 bytes of memory, and admission control gives ten a byte of JSON.
BYTES_A_BRACKET = 18

#: How often a read goes on after a broken connection without having got a byte further.
MOST_RESUMPTIONS = 3

#: What a connection that breaks in the middle of a body raises.
BROKEN = (HTTPClientError, IncompleteReadError, HTTPError, OSError)

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


def check_keys(keys: Iterable[str], *, user_id: str) -> None:
    """See that a message may name these keys, whether or not it has them read: what it names is noted with its task.

    Parameters:
      user_id: whose the message is.

    Raises ForbiddenKey.
    """
    for key in keys:
        check_key(key, allowed=settings().s3_allowed_prefixes, user_id=user_id)


def check_key(key: str, *, allowed: str | None, user_id: str) -> None:
    """See that a message of a user may name a key.

    Parameters:
      allowed: the prefixes, as `GRAPHNODE_S3_ALLOWED_PREFIXES` has them; None: any.

    Raises ForbiddenKey.
    """
    fault = object_keys.fault_of(key)
    if not fault and allowed and not object_keys.is_allowed(key, object_keys.prefixes_of(allowed), user_id=user_id):
        fault = f"is below no prefix that results of {excerpt(user_id)!r} may name (GRAPHNODE_S3_ALLOWED_PREFIXES)"
    if fault:
        raise ForbiddenKey(f"The S3 key {excerpt(key, most=LONGEST_PROBLEM)!r} {fault}", log=f"an S3 key {fault}")


def read_document(key: str) -> bytes:
    """Read a whole document from the payload bucket.

    Parameters:
      key: the object's key.

    Raises DocumentTooLarge over `GRAPHNODE_MAX_DOCUMENT_BYTES`, also where its arrays and objects are so many that they
    take the memory of a larger one; Postponed while there is no memory for it; and what `open_document` raises.
    """
    limit = settings().max_document_bytes
    with step("fetch"), open_document(key, limit=limit, setting="GRAPHNODE_MAX_DOCUMENT_BYTES") as document:
        expected = document.expected_bytes
        admit(document.name, expected)
        read, brackets, chunks = 0, 0, []
        while chunk := document.read():
            chunks.append(chunk)
            read += len(chunk)
            brackets += chunk.count(b"[") + chunk.count(b"{")
            counts_as = max(read, brackets * BYTES_A_BRACKET)
            if counts_as > limit:
                said = f"has over {limit // BYTES_A_BRACKET} arrays and objects"
                said = f"{said}, which take the memory of over {limit} bytes (GRAPHNODE_MAX_DOCUMENT_BYTES)"
                raise DocumentTooLarge(f"{document.name} {said}", log=f"a document {said}")
            if counts_as > expected:
                expected = min(2 * counts_as, limit)
                admit(document.name, expected)
        return b"".join(chunks)


@contextmanager
def open_features(key: str, *, etag: str | None = None) -> Iterator[Document]:
    """Open a features document, which is read as it comes: `GRAPHNODE_MAX_FEATURES_BYTES` is its limit.

    Parameters:
      etag: of an earlier reading; anything else under this key is ObjectChanged.

    Raises Postponed while too many big documents are read, and what `open_document` raises.
    """
    limit = settings().max_features_bytes
    with (
        step("stream"),
        open_document(key, limit=limit, setting="GRAPHNODE_MAX_FEATURES_BYTES", etag=etag) as document,
    ):
        admit_stream(document.name, document.expected_bytes)
        yield document


@contextmanager
def open_document(key: str, *, limit: int, setting: str, etag: str | None = None) -> Iterator[Document]:
    """Open a document in the payload bucket, to be read as it comes.

    Parameters:
      key: the object's key.
      limit: the most bytes it may have, unpacked.
      setting: the variable that sets the limit, for the error.
      etag: what it must be; None: whatever is there.

    Raises ObjectNotFound (it may still come), DocumentTooLarge, ObjectChanged, and botocore's errors; reading it also
    InvalidDocument if it says that it is gzip and is not.
    """
    found = StoredObject(key, etag=etag)
    try:
        if not found.is_gzip and found.size > limit:
            said = f"has {found.size} bytes; the limit is {limit} ({setting})"
            raise DocumentTooLarge(f"{found.name} {said}", log=f"a document {said}")
        # GzipFile reads whatever has `read`, but its type asks for more.
        unpacked = gzip.GzipFile(fileobj=cast("IO[bytes]", found)) if found.is_gzip else found
        expected = min(found.size * GZIP_RATIO, limit) if found.is_gzip else found.size
        yield Document(
            unpacked, name=found.name, etag=found.etag, expected_bytes=expected, limit=limit, setting=setting
        )
    finally:
        found.close()


class Document:
    """A document's bytes as they come, unpacked, as many as it may have.

    Parameters:
      source: what they are read from.
      name: the object, for errors.
      etag: which of all that may be under its key it is.
      expected_bytes: how many bytes it has, or about how many if it must be unpacked.
      limit: the most bytes it may have.
      setting: the variable that sets the limit.
    """

    def __init__(
        self,
        source: io.BufferedIOBase | StoredObject,
        *,
        name: str,
        etag: str,
        expected_bytes: int,
        limit: int,
        setting: str,
    ) -> None:
        self.name = name
        self.etag = etag
        self.expected_bytes = expected_bytes
        self._source = source
        self._limit = limit
        self._setting = setting
        self._read = 0

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """The next bytes, at most `size` (a size below 0 means a chunk); none at the end."""
        try:
            chunk = self._source.read(size if size >= 0 else CHUNK_BYTES)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            said = "Content-Encoding is gzip, its bytes are not"
            raise InvalidDocument(f"{self.name}: {said}: {error}", log=said) from None
        self._read += len(chunk)
        if self._read > self._limit:
            said = f"has over {self._limit} bytes, unpacked: more than the limit ({self._setting})"
            raise DocumentTooLarge(f"{self.name} {said}", log=f"a document {said}")
        return chunk


class StoredObject:
    """An object's bytes as they are stored; a read goes on where a connection broke, in the same object or not at all.

    Parameters:
      key: its key in the payload bucket.
      etag: what it must be; None: whatever is there.

    Raises ObjectNotFound, ObjectChanged, and botocore's errors.
    """

    def __init__(self, key: str, *, etag: str | None = None) -> None:
        self._bucket, self._key = settings().s3_payload_bucket, key
        self.name = f"s3://{self._bucket}/{key}"
        self._at = 0
        answer = self._get({"IfMatch": etag} if etag else {})
        self.size = answer["ContentLength"]
        self.is_gzip = "gzip" in answer.get("ContentEncoding", "").lower()
        self.etag = answer["ETag"]
        self._body: StreamingBody = answer["Body"]

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end, or if none are wanted.

        Raises ObjectChanged, ServiceBusy, and botocore's errors.
        """
        if not size:
            return b""
        for resumption in range(MOST_RESUMPTIONS + 1):
            if resumption:
                self._body.close()
                self._body = self._get({"IfMatch": self.etag, "Range": f"bytes={self._at}-"})["Body"]
            try:
                chunk: bytes = self._body.read(size)
            except BROKEN as error:
                broke: Exception = error
            else:
                self._at += len(chunk)
                if chunk or self._at >= self.size:
                    return chunk
                broke = EOFError("the connection was closed")
        said = f"breaks off at byte {self._at} of {self.size}"
        raise ServiceBusy(f"{self.name} {said}: {one_line(broke)}", log=f"a document {said}")

    def close(self) -> None:
        """Give the connection back."""
        self._body.close()

    def _get(self, conditions: Mapping[str, Any]) -> GetObjectOutputTypeDef:
        try:
            return client().get_object(Bucket=self._bucket, Key=self._key, **conditions)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code == "NoSuchKey":
                raise ObjectNotFound(
                    f"{self.name} does not exist (yet)", log="a document does not exist (yet)"
                ) from None
            if code in ("PreconditionFailed", "412"):
                said = f"was overwritten while it was read (at byte {self._at})"
                raise ObjectChanged(f"{self.name} {said}", log=f"a document {said}") from None
            raise


def probe() -> None:
    """Ask S3 for the payload bucket. Raises botocore's errors while it is away."""
    client().head_bucket(Bucket=settings().s3_payload_bucket)
