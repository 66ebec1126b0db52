"""A stub of S3 with fault injection: one bucket, whose connections break at the bytes that a test sets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from graphnode.clients import s3
from graphnode.settings import Settings, read_settings
from tests.conftest import use_settings


@dataclass
class Object:
    """An object, and the faults of reading it.

    Parameters:
      body: its bytes as they are stored.
      encoding: its Content-Encoding.
      checksum: the CRC-32 that S3 claims to have of it, in base64.
      breaks_at: the byte at which each connection breaks, in the order of the connections.
      replaced_by: the body that overwrites it at the first break.
      refusal: the status and code with which every request is refused.
      requests: the Range header of each request so far.
    """

    body: bytes
    encoding: str = ""
    checksum: str = ""
    breaks_at: list[int] = field(default_factory=list)
    replaced_by: bytes | None = None
    refusal: tuple[int, str] | None = None
    requests: list[str] = field(default_factory=list)

    @property
    def etag(self) -> str:
        """Its ETag, quoted."""
        return f'"{hashlib.md5(self.body).hexdigest()}"'  # noqa: S324


class S3Stub(ThreadingHTTPServer):
    """The server. `objects` has the bucket's objects by their keys; `refused_keys`, access key IDs that are unknown."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, Object] = {}
        self.refused_keys: set[str] = set()

    def handle_error(self, *_: object) -> None:
        """Ignore clients that stop reading."""

    @property
    def url(self) -> str:
        """Its endpoint URL."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """GetObject and HeadBucket, as far as the worker uses them."""

    server: S3Stub

    def do_HEAD(self) -> None:
        """Say that the bucket exists."""
        self.send_response(403 if self._is_refused() else 200)
        self.end_headers()

    def do_GET(self) -> None:
        """Send the object, from the requested byte to the byte at which it breaks."""
        if self._is_refused():
            self._refuse(403, "InvalidAccessKeyId")
            return
        key = self.path.split("?")[0].split("/", 2)[2]
        found = self.server.objects.get(key)
        if found is None:
            self._refuse(404, "NoSuchKey")
            return
        given = self.headers.get("Range", "")
        found.requests.append(given)
        if found.refusal:
            self._refuse(*found.refusal)
            return
        if self.headers.get("If-Match", found.etag) != found.etag:
            self._refuse(412, "PreconditionFailed")
            return
        first, _, last = given.removeprefix("bytes=").partition("-")
        begin = int(first or 0)
        body = found.body[begin : int(last) + 1 if last else None]
        self.send_response(206 if given else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", found.etag)
        if found.encoding:
            self.send_header("Content-Encoding", found.encoding)
        if found.checksum and not given:
            self.send_header("x-amz-checksum-crc32", found.checksum)
        self.end_headers()
        if found.breaks_at:
            body = body[: found.breaks_at.pop(0) - begin]
            if found.replaced_by is not None:
                found.body = found.replaced_by
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = True

    def _is_refused(self) -> bool:
        signature = self.headers.get("Authorization", "")
        return any(f"Credential={key_id}/" in signature for key_id in self.server.refused_keys)

    def _refuse(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def running_stub() -> Iterator[S3Stub]:
    """A running stub. It stops after the block."""
    with S3Stub() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def settings_of(stub: S3Stub, **others: str) -> Settings:
    """A worker's settings to read the stub's bucket.

    Parameters:
      others: more environment variables.
    """
    queue = "https://sqs.eu-central-1.amazonaws.com/123456789012/q"
    environment = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": stub.url,
        "SQS_RESULT_QUEUE_URL": queue,
        "S3_PAYLOAD_BUCKET": "payloads",
    }
    return read_settings({**environment, **others}, Settings)


def use(known: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have these be the process's settings until the test's end, also those of `graphnode.clients.s3`."""
    use_settings(known, monkeypatch)
    monkeypatch.setattr(s3, "_last_read", None)
    for made_once in (s3.aws, s3.client, s3._probing):
        monkeypatch.setattr(s3, made_once.__name__, cache(made_once.__wrapped__))
