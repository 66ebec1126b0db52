"""What a redrive of a result would meet: its envelope, and the documents that it names."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from graphnode.clients.gunzip import Gunzip, GzipFault
from graphnode.contract.bodies import BodySummary, to_message
from graphnode.contract.decoding import (
    decode_add_node_batch,
    decode_graph,
    decode_microscope,
    decode_summary,
)
from graphnode.contract.envelopes import (
    AddNodeResult,
    Envelope,
    GraphGenerationResult,
    GraphSummaryResult,
    MicroscopeIngestResult,
)
from graphnode.contract.task_ids import parse_task_id
from graphnode.errors import DocumentTooLarge, InvalidDocument, ObjectNotFound, classify_error, one_line
from graphnode.operations.dead_letters.letters import Letter
from graphnode.rules.microscope_documents import view_keys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Decode = Callable[[bytes], object]


class Diagnosis(msgspec.Struct, frozen=True):
    """The result of decoding a letter's envelope and documents.

    Parameters:
      reason: why the message would fail again; None if it would not.
    """

    reason: str | None
    text: str


class NamedObject(msgspec.Struct, frozen=True):
    """An object that a letter names, and in words whether it exists."""

    name: str
    state: str


def look_up_objects(s3: S3Client, body: BodySummary, *, bucket: str | None) -> list[NamedObject]:
    """Ask S3 for the objects that a body names.

    Parameters:
      bucket: the payload bucket; None if it is unknown.
    """
    bucket = body.bucket or bucket
    return [
        NamedObject(f"s3://{bucket}/{key}", _state(s3, bucket, key))
        if bucket
        else NamedObject(key, "not looked for: set S3_PAYLOAD_BUCKET")
        for key in body.s3_keys
    ]


def diagnose(s3: S3Client, letter: Letter, *, bucket: str, largest_bytes: int) -> Diagnosis:
    """Decode a result's envelope, and fetch and decode its required documents.

    Parameters:
      bucket: the payload bucket.
      largest_bytes: the size limit of a document.
    """
    try:
        message = to_message(
            letter.body, message_id=letter.message_id, sent_at=letter.sent_at, receive_count=letter.received
        )
        decoded = []
        for key, decode in _documents(message.args[0]):
            try:
                decode(_fetch(s3, bucket, key, largest_bytes))
            except InvalidDocument as fault:
                raise InvalidDocument(f"s3://{bucket}/{key}: {fault}") from None
            decoded.append(key)
    except Exception as raised:
        error = classify_error(raised)
        return Diagnosis(error.reason, str(error))
    if not decoded:
        return Diagnosis(None, "The envelope is as the contract says, and needs no document.")
    return Diagnosis(None, f"The envelope and its documents ({', '.join(decoded)}) are as the contract says.")


def _documents(envelope: Envelope[Any]) -> Iterator[tuple[str, Decode]]:
    """The keys of a result's required documents, each with its decoder."""
    match envelope.payload:
        case GraphGenerationResult(status="COMPLETED", result_s3_key=str(key)):
            yield key, decode_graph
        case GraphSummaryResult(status="COMPLETED", summary_s3_key=str(key)):
            yield key, decode_summary
        case AddNodeResult(status="COMPLETED", result_s3_key=str(key)):
            yield key, decode_add_node_batch
        case MicroscopeIngestResult(status="COMPLETED") as result:
            half = parse_task_id(envelope.task_id).half
            for key in view_keys(half, result.standardized_s3_key, result.block_graph_s3_key):
                yield key, partial(decode_microscope, half=half)


def _fetch(s3: S3Client, bucket: str, key: str, largest_bytes: int) -> bytes:
    """A document, unpacked. Raises ObjectNotFound, DocumentTooLarge, InvalidDocument, and botocore's errors."""
    name = f"s3://{bucket}/{key}"
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            raise ObjectNotFound(f"{name} does not exist (yet)") from None
        raise
    raw = answer["Body"].read(largest_bytes + 1)
    if len(raw) <= largest_bytes and "gzip" in answer.get("ContentEncoding", "").lower():
        try:
            raw = _unpacked(raw, largest_bytes)
        except GzipFault as fault:
            raise InvalidDocument(f"{name}: {fault}") from None
    if len(raw) > largest_bytes:
        raise DocumentTooLarge(f"{name} has over {largest_bytes} bytes (GRAPHNODE_MAX_DOCUMENT_BYTES)")
    return raw


def _unpacked(raw: bytes, largest_bytes: int) -> bytes:
    """What gzip unpacks to, up to a byte over the limit. Raises GzipFault."""
    gunzip, unpacked = Gunzip(io.BytesIO(raw)), bytearray()
    while chunk := gunzip.read(largest_bytes + 1 - len(unpacked)):
        unpacked += chunk
    return bytes(unpacked)


def _state(s3: S3Client, bucket: str, key: str) -> str:
    try:
        if key.endswith("/"):
            listed = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
            return "something is there" if listed["KeyCount"] else "NOTHING IS THERE"
        head = s3.head_object(Bucket=bucket, Key=key)
    except (BotoCoreError, ClientError) as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
            return "IS NOT THERE"
        return f"S3 does not say: {one_line(error)}"
    return f"is there: {head['ContentLength']:,} bytes, of {head['LastModified']:%Y-%m-%d %H:%M:%S} UTC"
