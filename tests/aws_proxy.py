"""A proxy on loopback between the workers and AWS, with fault injection.

Its rules say which calls fail, and how. They may be replaced at any time, for the calls that begin from then on:

    proxy.rules = [Rule("s3:GetObject", Refusal(503, "SlowDown")), Rule("sqs:*", Delay(0.5, 4.0), share=0.6)]
"""

from __future__ import annotations

import fnmatch
import http.client
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from random import Random
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from benchmarks.local_server import LocalServer

#: Seconds without a byte until a call to AWS fails. LocalStack may be paused for a while.
UPSTREAM_TIMEOUT_S = 60

#: Seconds between two looks of a call that hangs for the end of its rule.
LOOK_S = 0.05

#: Headers of one connection, which the proxy does not pass on.
OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}

#: The S3 calls for a bucket, and for an object, by HTTP method.
BUCKET_CALLS = {"GET": "ListObjects", "HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}
OBJECT_CALLS = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}

#: The access key ID in a signature. https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
SIGNED_BY = re.compile(r"Credential=([^/,]+)/")


@dataclass(frozen=True)
class Refusal:
    """AWS answers with an error, and does nothing.

    Parameters:
      status: the HTTP status.
      code: the error's code.
      only_found: whether AWS is asked first, and only its good answers are replaced: KMS refuses the key of an object
        that exists, and another one is still not found.
    """

    status: int
    code: str
    only_found: bool = False


@dataclass(frozen=True)
class Delay:
    """AWS answers late, after the call was carried out: by the least to the most seconds, at random."""

    least_s: float
    most_s: float


@dataclass(frozen=True)
class Hang:
    """AWS accepts the call, and answers nothing as long as the rule lasts. Then the connection is closed."""


@dataclass(frozen=True)
class Cut:
    """The connection is closed in the middle of the answer, after the call was carried out."""


@dataclass(frozen=True)
class Strip:
    """ReceiveMessage answers without some fields of some messages.

    Parameters:
      fields: the names of the fields, such as `Attributes`, by the message's body.
    """

    fields: Mapping[str, Collection[str]]


Trouble = Refusal | Delay | Hang | Cut | Strip


@dataclass(frozen=True)
class Rule:
    """Which calls have which trouble.

    Parameters:
      calls: service and call as a pattern: `s3:GetObject`, `sqs:*`.
      target: the object's key or the queue's name; None: any.
      signed_by: the access key ID that signs the call; None: any.
      share: the share of these calls, from 0 to 1.
    """

    calls: str
    trouble: Trouble
    target: str | None = None
    signed_by: str | None = None
    share: float = 1.0

    def concerns(self, call: Call) -> bool:
        """Whether this is one of its calls, without regard to its share."""
        return (
            fnmatch.fnmatchcase(call.name, self.calls)
            and self.target in (None, call.target)
            and self.signed_by in (None, call.signed_by)
        )


class Call(NamedTuple):
    """A call of AWS.

    Parameters:
      name: service and call, such as `s3:GetObject`.
      target: the object's key or the queue's name, if any.
      signed_by: the access key ID that signs it, if any.
    """

    name: str
    target: str | None
    signed_by: str | None


class AwsProxy(LocalServer):
    """A proxy that runs while its `with` block runs.

    Parameters:
      host, port: of the server behind it.
      seed: decides which calls are in a rule's share.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        super().__init__(_Connection)
        self.upstream = (host, port)
        #: The first one that concerns a call holds.
        self.rules: Sequence[Rule] = ()
        self._lock = threading.Lock()
        self._draw = Random(f"proxy {seed}")
        self._counts = Counter[tuple[str, str | None]]()

    def count(self, name: str, target: str) -> int:
        """How often a call such as `s3:GetObject` has been made for an object's key or a queue's name."""
        with self._lock:
            return self._counts[name, target]

    def rule_for(self, call: Call) -> Rule | None:
        """The rule that holds for a call."""
        with self._lock:
            self._counts[call.name, call.target] += 1
            for rule in self.rules:
                if rule.concerns(call):
                    return rule if self._draw.random() < rule.share else None
        return None

    def delay_s(self, delay: Delay) -> float:
        """The seconds of one delay."""
        with self._lock:
            return self._draw.uniform(delay.least_s, delay.most_s)


def call_of(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Call:
    """The call of AWS that an HTTP request makes: of SQS in its JSON protocol, or of S3 with the bucket in the path."""
    found = SIGNED_BY.search(headers.get("Authorization", ""))
    signed_by = found and found[1]
    if target := headers.get("X-Amz-Target"):
        queue_url = json.loads(body).get("QueueUrl")
        return Call(f"sqs:{target.rpartition('.')[2]}", queue_url and queue_url.rpartition("/")[2], signed_by)
    _, _, key = urlsplit(path).path.removeprefix("/").partition("/")
    calls = OBJECT_CALLS if key else BUCKET_CALLS
    return Call(f"s3:{calls.get(method, method)}", unquote(key) or None, signed_by)


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    content: bytes


class _Connection(BaseHTTPRequestHandler):
    """One connection of a worker."""

    server: AwsProxy
    protocol_version = "HTTP/1.1"
    timeout = 120

    def _handle_call(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        call = call_of(self.command, self.path, dict(self.headers), body)
        rule = self.server.rule_for(call)
        trouble = rule and rule.trouble
        if isinstance(trouble, Hang):
            while rule in self.server.rules:
                time.sleep(LOOK_S)
            self.close_connection = True
            return
        if isinstance(trouble, Refusal) and not trouble.only_found:
            self._send(_refused(call, trouble))
            return
        try:
            answer = self._ask(body)
        except OSError:
            self.close_connection = True
            return
        match trouble:
            case Refusal() if answer.status < 300:
                answer = _refused(call, trouble)
            case Delay():
                time.sleep(self.server.delay_s(trouble))
            case Strip():
                answer = _stripped(answer, trouble)
        self._send(answer, cut=isinstance(trouble, Cut))

    def _ask(self, body: bytes) -> _Answer:
        """AWS's own answer. Raises OSError when there is none."""
        upstream = http.client.HTTPConnection(*self.server.upstream, timeout=UPSTREAM_TIMEOUT_S)
        try:
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            return _Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            upstream.close()

    def _send(self, answer: _Answer, *, cut: bool = False) -> None:
        """Send an answer. `cut` closes the connection in the middle."""
        status, headers, content = answer
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in OF_THE_CONNECTION:
                self.send_header(name, value)
        # HEAD answers with the length of what GET would bring.
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _handle_call  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""


def _refused(call: Call, refusal: Refusal) -> _Answer:
    """An error as the call's service writes it: S3 in XML, SQS in JSON and with the code for older clients."""
    said = "This answer is injected."
    if call.name.startswith("sqs:"):
        error = {"__type": f"com.amazonaws.sqs#{refusal.code}", "message": said}
        blamed = "Sender" if refusal.status < 500 else "Receiver"
        headers = {"Content-Type": "application/x-amz-json-1.0", "x-amzn-query-error": f"{refusal.code};{blamed}"}
        return _Answer(refusal.status, headers, json.dumps(error).encode())
    document = f"<Error><Code>{refusal.code}</Code><Message>{said}</Message></Error>"
    return _Answer(refusal.status, {"Content-Type": "application/xml"}, document.encode())


def _stripped(answer: _Answer, strip: Strip) -> _Answer:
    """An answer of ReceiveMessage without some fields of some messages."""
    received = json.loads(answer.content)
    for message in received.get("Messages", []):
        for name in strip.fields.get(message["Body"], ()):
            del message[name]
    return answer._replace(content=json.dumps(received).encode())
