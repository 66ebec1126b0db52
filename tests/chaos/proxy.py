"""A proxy on loopback between the workers and AWS, with fault injection."""

from __future__ import annotations

import http.client
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from random import Random
from typing import Any, Literal

from benchmarks.local_server import LocalServer

Mode = Literal["pass", "500", "503", "slow", "cut"]

#: The share of calls that fail during a fault.
FAULTY_SHARE = 0.6

#: The shortest and the longest delay of a slow answer, in seconds.
SLOW_S = (0.5, 4.0)

#: Seconds without a byte until a call to AWS fails. LocalStack may be paused for a while.
UPSTREAM_TIMEOUT_S = 60

#: The services' answers to a key that they do not know.
REFUSALS = {
    "S3": b"<Error><Code>InvalidAccessKeyId</Code></Error>",
    "SQS": b'{"__type": "com.amazon.coral.service#UnrecognizedClientException"}',
}

#: Headers of one connection, which the proxy does not pass on.
OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class FaultProxy(LocalServer):
    """A proxy that runs while its `with` block runs. `mode` and `refused_keys`, access key IDs, may be set meanwhile.

    Parameters:
      host, port: of the server behind it.
      seed: decides which calls fail.
    """

    def __init__(self, host: str, port: int, *, seed: int) -> None:
        super().__init__(_Call)
        self.upstream = (host, port)
        self.mode: Mode = "pass"
        self.refused_keys: set[str] = set()
        #: How often S3 and SQS have refused a key.
        self.refusals = Counter[str]()
        self._draw = Random(f"proxy {seed}")

    def next_fault(self) -> tuple[Mode, float]:
        """The fault of the next call, and its delay in seconds."""
        mode = self.mode
        if mode == "pass" or self._draw.random() > FAULTY_SHARE:
            return "pass", 0.0
        return mode, self._draw.uniform(*SLOW_S) if mode == "slow" else 0.0


class _Call(BaseHTTPRequestHandler):
    """One connection of a worker."""

    server: FaultProxy
    protocol_version = "HTTP/1.1"
    timeout = 120

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._is_key_refused():
            return
        mode, late_s = self.server.next_fault()
        if mode in ("500", "503"):
            self._send(int(mode), {"Content-Type": "text/plain"}, b"injected fault")
            return
        upstream = http.client.HTTPConnection(*self.server.upstream, timeout=UPSTREAM_TIMEOUT_S)
        try:
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            status, headers, content = answer.status, dict(answer.getheaders()), answer.read()
        except OSError:
            self.close_connection = True
            return
        finally:
            upstream.close()
        time.sleep(late_s)
        self._send(status, headers, content, cut=mode == "cut")

    def _is_key_refused(self) -> bool:
        """Refuse the call as AWS does, if it is signed with a refused key."""
        signature = self.headers.get("Authorization", "")
        if not any(f"Credential={key_id}/" in signature for key_id in self.server.refused_keys):
            return False
        service = "SQS" if "X-Amz-Target" in self.headers else "S3"
        self.server.refusals[service] += 1
        body = REFUSALS[service] if self.command != "HEAD" else b""
        self._send(403, {"Content-Type": "application/octet-stream"}, body)
        return True

    def _send(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
        """Send an answer. `cut` closes the connection in the middle, after the server has carried out the call."""
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in OF_THE_CONNECTION:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""
