"""Keeping what LocalStack's queues and bucket hold: its free edition forgets everything when it stops.

Objects are kept as files, messages in one JSON file. Both are written at the stop, so that after a stop by force the
next start brings back what the one before had saved. The worker's effects stand that: a message that is delivered again
changes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from graphnode.dev.aws import s3_client, sqs_client
from graphnode.dev.localstack import ACCOUNT, REGION
from graphnode.dev.outcomes import text_attributes
from graphnode.errors import GraphNodeError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: The directory's name, below the one that the stack is started in.
DIRECTORY = Path(".graphnode")

#: What LocalStack's listing of a queue must be asked as, to answer in JSON.
JSON_PROTOCOL = "application/x-amz-json-1.0"

T = TypeVar("T")


class DirectoryInUse(GraphNodeError):
    """Another development stack uses the directory."""

    reason = "DIRECTORY_IN_USE"


class DamagedDirectory(GraphNodeError):
    """What the directory holds was not written by this program."""

    reason = "DAMAGED_DIRECTORY"


class KeptObject(msgspec.Struct, frozen=True):
    """An object of the bucket, and the file that has its content."""

    key: str
    file: str
    content_type: str
    metadata: dict[str, str]


class KeptMessage(msgspec.Struct, frozen=True):
    """A message of a queue. It comes back as a new one: its receive count starts again."""

    body: str
    attributes: dict[str, str]


@contextmanager
def kept_directory(directory: Path = DIRECTORY) -> Iterator[Path]:
    """The directory, made if need be, for one stack at a time. Raises DirectoryInUse."""
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DirectoryInUse(
                f"Another `graphnode dev --keep` (process {lock.read().strip()}) uses {directory.resolve()}: "
                "stop it, or start this one in another directory, or without --keep."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield directory


def save(directory: Path, environment: Mapping[str, str]) -> None:
    """Keep what the bucket and the queues hold, also messages that are hidden at the moment."""
    save_objects(directory, s3_client(environment), bucket=environment["S3_PAYLOAD_BUCKET"])
    save_messages(directory, sqs_client(environment), endpoint=environment["AWS_ENDPOINT_URL"])


def restore(directory: Path, environment: Mapping[str, str]) -> None:
    """Put back what was kept. Raises DamagedDirectory."""
    restore_objects(directory, s3_client(environment), bucket=environment["S3_PAYLOAD_BUCKET"])
    restore_messages(directory, sqs_client(environment))


def save_objects(directory: Path, s3: S3Client, *, bucket: str) -> None:
    """Keep the bucket's objects; those that are kept already are not read again."""
    files = directory / "objects"
    files.mkdir(exist_ok=True)
    kept = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for listed in page.get("Contents", []):
            name = "-".join((hashlib.sha256(listed["Key"].encode()).hexdigest(), listed["ETag"].strip('"')))
            head = s3.head_object(Bucket=bucket, Key=listed["Key"])
            if not (files / name).exists():
                s3.download_file(bucket, listed["Key"], str(files / f"{name}.part"))
                (files / f"{name}.part").replace(files / name)
            kept.append(KeptObject(listed["Key"], name, head["ContentType"], head["Metadata"]))
    _write(directory / "objects.json", kept)
    for file in files.iterdir():
        if file.name not in {item.file for item in kept}:
            file.unlink()


def restore_objects(directory: Path, s3: S3Client, *, bucket: str) -> None:
    """Put the kept objects into the bucket. Raises DamagedDirectory."""
    for item in _read(directory / "objects.json", list[KeptObject], default=[]):
        with (directory / "objects" / item.file).open("rb") as content:
            s3.put_object(
                Bucket=bucket, Key=item.key, Body=content, ContentType=item.content_type, Metadata=item.metadata
            )


def save_messages(directory: Path, sqs: SQSClient, *, endpoint: str) -> None:
    """Keep the messages of all queues, bodies and text attributes as they are, the oldest first."""
    urls = sqs.list_queues().get("QueueUrls", [])
    kept = {url.rpartition("/")[2]: all_messages(endpoint, url.rpartition("/")[2]) for url in urls}
    _write(directory / "messages.json", kept)


def restore_messages(directory: Path, sqs: SQSClient) -> None:
    """Send the kept messages to their queues. Raises DamagedDirectory."""
    for name, messages in _read(directory / "messages.json", dict[str, list[KeptMessage]], default={}).items():
        url = sqs.create_queue(QueueName=name)["QueueUrl"] if messages else ""
        for message in messages:
            sqs.send_message(
                QueueUrl=url,
                MessageBody=message.body,
                MessageAttributes={
                    attribute: {"DataType": "String", "StringValue": text}
                    for attribute, text in message.attributes.items()
                },
            )


def all_messages(endpoint: str, queue: str) -> list[KeptMessage]:
    """A queue's messages, hidden and delayed ones too, by a listing that only LocalStack has.

    https://docs.localstack.cloud/aws/services/sqs/#developer-endpoints
    """
    address = f"{endpoint}/_aws/sqs/messages/{REGION}/{ACCOUNT}/{queue}?ShowInvisible=true&ShowDelayed=true"
    request = urllib.request.Request(address, headers={"Content-Type": JSON_PROTOCOL})  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request) as answer:
        messages = json.load(answer).get("Messages") or []
    messages.sort(key=lambda message: int(message["Attributes"]["SentTimestamp"]))
    return [
        KeptMessage(message["Body"], text_attributes(message.get("MessageAttributes") or {})) for message in messages
    ]


def _write(path: Path, value: object) -> None:
    """Write a file as a whole or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(value))
    part.replace(path)


def _read(path: Path, kind: type[T], *, default: T) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return default
    except msgspec.DecodeError as error:
        raise DamagedDirectory(f"{path.resolve()} is damaged ({error}): delete it to start anew.") from None
