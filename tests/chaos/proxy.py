"""A proxy on loopback between the workers and AWS, which fails as it is told."""

from __future__ import annotations

import http.client
import time
from http.server import BaseHTTPRequestHandler
from random import Random
from typing import Any, Literal

from benchmarks.local_server import LocalServer

Mode = Literal["pass", "500", "503", "slow", "cut"]

#: Of the calls that arrive in a fault, the part that it strikes.
STRUCK = 0.6

#: How late a slow answer is, in seconds.
SLOW_S = (0.5, 4.0)

#: Seconds without a byte after which a call to AWS is given up: a paused server is not away.
UPSTREAM_TIMEOUT_S = 60

#: Headers that are about one connection, and not passed on.
OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class FaultProxy(LocalServer):
    """A running proxy; it ends with its block. `mode` may be set while it runs.

    Parameters:
      host, port: the server behind it.
      seed: draws which calls are struck.
    """

    def __init__(self, host: str, port: int, *, seed: int) -> None:
        super().__init__(_Call)
        self.upstream = (host, port)
        self.mode: Mode = "pass"
        self._draw = Random(f"proxy {seed}")

    def strike(self) -> tuple[Mode, float]:
        """What becomes of a call, and how late it is answered."""
        mode = self.mode
        if mode == "pass" or self._draw.random() > STRUCK:
            return "pass", 0.0
        return mode, self._draw.uniform(*SLOW_S) if mode == "slow" else 0.0


class _Call(BaseHTTPRequestHandler):
    """One connection of a worker's."""

    server: FaultProxy
    protocol_version = "HTTP/1.1"
    timeout = 120

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        mode, late_s = self.server.strike()
        if mode in ("500", "503"):
            self._send(int(mode), {"Content-Type": "text/plain"}, b"the proxy says so")
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

    def _send(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
        """Answer; or break off in the middle: the server has done what it was asked to."""
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
        """Keep quiet."""
