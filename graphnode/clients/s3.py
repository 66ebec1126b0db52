"""Reads documents from S3: bounded in size, and resumed where a connection broke.

The actor's time limit bounds a whole read in time; a time-out bounds a call that brings nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from urllib3.exceptions import HTTPError

from graphnode.clients.aws import QUICK, Aws
from graphnode.clients.credentials import is_refusal
from graphnode.clients.gunzip import Gunzip, GzipFault, Readable
from graphnode.clients.memory import Tally, Weights, admit, admit_stream, settle
from graphnode.contract import object_keys
from graphnode.errors import (
    DocumentTooLarge,
    InvalidDocument,
    ObjectChanged,
    ObjectNotFound,
    S3Fault,
    aws_code,
    aws_fault,
    one_line,
)
from graphnode.remedies import aws_advice
from graphnode.settings import settings
from graphnode.steps import step
from graphnode.text import excerpt

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

#: Bytes read at a time: of a whole document, and of one that is decoded in pieces.
CHUNK_BYTES = 1 << 20
PIECE_BYTES = 64 * 1024

#: The assumed ratio of unpacked to packed JSON. A document that exceeds it claims more memory while it is read.
GZIP_RATIO = 8

#: The most times that a streamed document may be longer than its gzip. Texts reach 20; what reaches more says little.
MOST_STREAM_RATIO = 100

#: Bytes of memory that are claimed for a byte of a document before it is read: about what ordinary ones need.
USUAL_MEMORY = 15

#: Content-Encodings of plain bytes: what S3's SDKs leave there after an upload in chunks, and a charset by mistake.
PLAIN = frozenset({"", "identity", "aws-chunked", "utf-8"})

#: Content-Encodings of gzip.
GZIP = frozenset({"gzip", "x-gzip"})

#: How often a read resumes after a broken connection without a byte of progress.
MOST_RESUMPTIONS = 3

#: The errors of a connection that breaks in the middle of a body.
BROKEN = (HTTPClientError, IncompleteReadError, HTTPError, OSError)

#: Bytes of an object that a probe reads.
PROBED_BYTES = 64 * 1024

_last_read: str | None = None


@cache
def aws() -> Aws:
    """AWS as this process's settings name it, for all its clients: they share their credentials."""
    return Aws(region=settings().aws_region, endpoint_url=settings().aws_endpoint_url)


@cache
def client() -> S3Client:
    """This process's S3 client. Threads share it."""
    return aws().s3()


@cache
def _probing() -> S3Client:
    """The client of probes: threads wait for their answers."""
    return aws().s3(QUICK)


def check_keys(keys: Iterable[str], *, user_id: str) -> None:
    """Check that a user's message may name these keys. Also the keys that are not read: the task's row keeps them.

    Parameters:
      user_id: whose the message is.

    Raises ForbiddenKey.
    """
    object_keys.check_keys(keys, allowed=settings().s3_allowed_prefixes, user_id=user_id)


def read_document(key: str, weights: Weights) -> bytes:
    """Read a whole document from the payload bucket.

    Parameters:
      key: the object's key.
      weights: of its decoder.

    Raises DocumentTooLarge over `GRAPHNODE_MAX_DOCUMENT_BYTES`, and when its values take more memory than
    `GRAPHNODE_DOCUMENT_MEMORY`; Postponed while there is no memory for it; and what `open_document` raises.
    """
    limit = settings().max_document_bytes
    with step("fetch"), open_document(key, limit=limit, setting="GRAPHNODE_MAX_DOCUMENT_BYTES") as document:
        return document.whole(weights)


@contextmanager
def open_features(key: str) -> Iterator[Document]:
    """Open a features document to read it in pieces. `GRAPHNODE_MAX_FEATURES_BYTES` is its limit.

    Raises Postponed while too many big documents are read, and what `open_document` raises.
    """
    limit = settings().max_features_bytes
    with (
        step("stream"),
        open_document(
            key, limit=limit, setting="GRAPHNODE_MAX_FEATURES_BYTES", most_ratio=MOST_STREAM_RATIO
        ) as document,
    ):
        admit_stream(document.name, document.expected_bytes)
        yield document


@contextmanager
def open_document(key: str, *, limit: int, setting: str, most_ratio: int | None = None) -> Iterator[Document]:
    """Open a document in the payload bucket to stream it.

    Parameters:
      key: the object's key.
      limit: the most bytes it may have, stored and unpacked.
      setting: the variable that sets the limit, for the error.
      most_ratio: the most unpacked bytes for a byte of gzip; None: any.

    Raises ObjectNotFound (it may still come), DocumentTooLarge, InvalidDocument for a Content-Encoding other than gzip,
    and S3Fault. Reading raises ObjectChanged, and InvalidDocument for a false Content-Encoding or odd gzip.
    """
    found = StoredObject(key)
    try:
        if found.encodings and not found.is_gzip:
            said = f"Content-Encoding is {excerpt(', '.join(found.encodings))}; the worker reads gzip or none"
            raise InvalidDocument(f"{found.name}: {said}", log="Content-Encoding is neither gzip nor none")
        if found.size > limit:
            said = f"has {found.size} bytes; the limit is {limit} ({setting})"
            raise DocumentTooLarge(f"{found.name} {said}", log=f"a document {said}")
        unpacked = Gunzip(found, most_ratio=most_ratio) if found.is_gzip else found
        expected = min(found.size * GZIP_RATIO, limit) if found.is_gzip else found.size
        yield Document(unpacked, name=found.name, expected_bytes=expected, limit=limit, setting=setting)
    finally:
        found.close()


class Document:
    """A stream of a document's unpacked bytes, up to its limit.

    Parameters:
      source: the stream of its bytes, or of what its gzip unpacks to.
      name: the object, for errors.
      expected_bytes: its unpacked size; an estimate for gzip.
      limit: the most bytes it may have.
      setting: the variable that sets the limit.
    """

    def __init__(
        self,
        source: Readable,
        *,
        name: str,
        expected_bytes: int,
        limit: int,
        setting: str,
    ) -> None:
        self.name = name
        self.expected_bytes = expected_bytes
        self._source = source
        self._limit = limit
        self._setting = setting
        self._read = 0

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """The next bytes, at most `size` (a size below 0 means a chunk); none at the end."""
        try:
            chunk = self._source.read(size if size >= 0 else CHUNK_BYTES)
        except GzipFault as fault:
            raise InvalidDocument(f"{self.name}: {fault}", log=str(fault)) from None
        self._read += len(chunk)
        if self._read > self._limit:
            said = f"has over {self._limit} bytes, unpacked: more than the limit ({self._setting})"
            raise DocumentTooLarge(f"{self.name} {said}", log=f"a document {said}")
        return chunk

    def whole(self, weights: Weights) -> bytes:
        """All of it. Its memory is claimed before it is read, and more as its values are counted.

        Raises Postponed while there is no memory for it, and DocumentTooLarge.
        """
        claimed = admit(self.name, 0, wanted=self.expected_bytes * USUAL_MEMORY)
        tally, text, needed = Tally(weights), bytearray(), 0
        while chunk := self.read():
            text += chunk
            if (needed := tally.add(chunk)) > claimed:
                # As if the rest were like this.
                claimed = admit(self.name, needed, wanted=needed * max(self.expected_bytes, len(text)) // len(text))
        settle(self.name, needed)
        return bytes(text)

    def pieces(self) -> Iterator[bytes]:
        """The document in pieces, and an empty one at its end."""
        while piece := self.read(PIECE_BYTES):
            yield piece
        yield b""


class StoredObject:
    """A stream of an object's stored bytes. After a broken connection it resumes in the same object, or fails.

    Parameters:
      key: its key in the payload bucket.

    Raises ObjectNotFound and S3Fault.
    """

    def __init__(self, key: str) -> None:
        self._bucket, self._key = settings().s3_payload_bucket, key
        self.name = f"s3://{self._bucket}/{key}"
        self._at = 0
        global _last_read
        answer = self._get({})
        _last_read = key
        self.size = answer["ContentLength"]
        named = (name.strip() for name in answer.get("ContentEncoding", "").lower().split(","))
        self.encodings = [name for name in named if name not in PLAIN]
        self.is_gzip = len(self.encodings) == 1 and self.encodings[0] in GZIP
        self._etag = answer["ETag"]
        self._body: StreamingBody = answer["Body"]

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end, or if none are wanted.

        Raises ObjectChanged and S3Fault.
        """
        if not size:
            return b""
        for resumption in range(MOST_RESUMPTIONS + 1):
            if resumption:
                self._body.close()
                self._body = self._get({"IfMatch": self._etag, "Range": f"bytes={self._at}-"})["Body"]
            try:
                chunk: bytes = self._body.read(size)
            except FlexibleChecksumError as error:
                said = "does not match its checksum: it was damaged on its way from S3"
                raise self._fault(said, error) from None
            except BROKEN as error:
                broke: Exception = error
            else:
                self._at += len(chunk)
                if chunk or self._at >= self.size:
                    return chunk
                broke = EOFError("the connection was closed")
        raise self._fault(f"breaks off at byte {self._at} of {self.size}", broke)

    def close(self) -> None:
        """Give the connection back."""
        self._body.close()

    def _get(self, conditions: Mapping[str, Any]) -> GetObjectOutputTypeDef:
        try:
            return client().get_object(Bucket=self._bucket, Key=self._key, **conditions)
        except ClientError as error:
            code = aws_code(error)
            if code == "NoSuchKey":
                raise ObjectNotFound(
                    f"{self.name} does not exist (yet)", log="a document does not exist (yet)"
                ) from None
            if code in ("PreconditionFailed", "412"):
                said = f"was overwritten while it was read (at byte {self._at})"
                raise ObjectChanged(f"{self.name} {said}", log=f"a document {said}") from None
            raise aws_fault(error, S3Fault, key=self._key) from error
        except BotoCoreError as error:
            raise aws_fault(error, S3Fault, key=self._key) from error

    def _fault(self, said: str, error: Exception) -> S3Fault:
        return S3Fault(
            f"{self.name} {said}: {one_line(error)}",
            log=f"a document {said}",
            advice=aws_advice(type(error).__name__),
            key=self._key,
        )


def probe(key: str | None = None) -> None:
    """Read the beginning of an object: of this one, or of the last one that could be read. Without any, ask for the
    bucket.

    Parameters:
      key: an object that could not be read.

    If S3 refuses, the credentials are resolved anew first. Raises S3Fault while neither can be read.
    """
    try:
        _read_any(key)
    except S3Fault as fault:
        if fault.__cause__ is None or not is_refusal(fault.__cause__):
            raise
        aws().renew_credentials()
        _read_any(key)


def _read_any(key: str | None) -> None:
    keys = dict.fromkeys(each for each in (key, _last_read) if each)
    failed: S3Fault | None = None
    for each in keys:
        try:
            _read_beginning(each)
        except S3Fault as error:
            failed = failed or error
        else:
            return
    if failed:
        raise failed
    _ask_for_bucket()


def _read_beginning(key: str) -> None:
    """Read some bytes of an object. A missing or empty object is an answer, too."""
    try:
        answer = _probing().get_object(
            Bucket=settings().s3_payload_bucket, Key=key, Range=f"bytes=0-{PROBED_BYTES - 1}"
        )
        answer["Body"].read()
    except ClientError as error:
        if aws_code(error) not in ("NoSuchKey", "InvalidRange"):
            raise aws_fault(error, S3Fault, key=key) from error
    except (BotoCoreError, *BROKEN) as error:
        raise aws_fault(error, S3Fault, key=key) from error


def _ask_for_bucket() -> None:
    try:
        _probing().head_bucket(Bucket=settings().s3_payload_bucket)
    except (ClientError, BotoCoreError) as error:
        raise aws_fault(error, S3Fault) from error
