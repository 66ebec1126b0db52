"""An HTTP endpoint for monitoring: few connections, each for a short time, whatever its clients do."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple

import structlog

from graphnode.errors import log_text
from graphnode.settings import read_log_settings
from graphnode.telemetry.logs import configure_logs
from graphnode.worker.parent import end_with_parent

#: The most connections at a time. One more ends the oldest: clients that wait never keep others out.
MOST_CONNECTIONS = 256

#: Connections that the system keeps until they are accepted, and that are accepted at a time. Fewer than those above: a
#: connection is read once before so many newer ones end it.
BACKLOG = 128

#: Seconds from a connection's start to its end.
REQUEST_S = 5.0

#: The most bytes of a request.
REQUEST_BYTES = 8 * 1024

#: How a conversation ends early: the client leaves, sends half a request or too much, or is too slow; or a newer one
#: ends it. None is an event: asyncio would log a stack for each.
ENDINGS = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError)

log = structlog.get_logger("graphnode.endpoint")


class Response(NamedTuple):
    """An answer to a request."""

    status: HTTPStatus
    content_type: str = "text/plain"
    body: bytes = b""


#: Answers a GET of a path; None: there is nothing.
AnswerPath = Callable[[str], Response | None]


class Endpoint:
    """Listens, and answers GET requests, one a connection. All in one thread.

    Parameters:
      host: the address to listen on.
      port: 0: any free one.
      answer: is called in that thread. It must not wait.

    Raises OSError if it cannot listen there.
    """

    def __init__(self, host: str, port: int, answer: AnswerPath) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        self._answer = answer
        # In the order of their start.
        self._conversations: dict[asyncio.Task[None] | None, None] = {}

    async def serve(self) -> None:
        """Serve until the task is cancelled."""
        async with await asyncio.start_server(
            self._converse, sock=self._socket, backlog=BACKLOG, limit=REQUEST_BYTES
        ) as server:
            await server.serve_forever()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        self._conversations[this] = None
        if len(self._conversations) > MOST_CONNECTIONS and (oldest := next(iter(self._conversations))):
            del self._conversations[oldest]
            oldest.cancel()
        try:
            with suppress(*ENDINGS):
                async with asyncio.timeout(REQUEST_S):
                    writer.write(self._response(await reader.readuntil(b"\r\n\r\n")))
                    writer.close()
                    await writer.wait_closed()
                    return
            writer.transport.abort()
        finally:
            self._conversations.pop(this, None)

    def _response(self, request: bytes) -> bytes:
        status, content_type, body = self._answer_to(request)
        lines = (
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        return "\r\n".join((*lines, "", "")).encode() + body

    def _answer_to(self, request: bytes) -> Response:
        method, _, rest = request.partition(b"\r\n")[0].partition(b" ")
        if method != b"GET":
            return Response(HTTPStatus.METHOD_NOT_ALLOWED)
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        try:
            return self._answer(path) or Response(HTTPStatus.NOT_FOUND)
        except Exception:
            log.exception("no answer")
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR)


def serve(subject: str, *, host: str, port: int, answer: AnswerPath) -> int:
    """Serve until SIGTERM, in a process that Dramatiq forks. Returns the process's exit code.

    Parameters:
      subject: what is served, for the log.
      host, port, answer: as for `Endpoint`.
    """
    configure_logs(read_log_settings(os.environ))
    end_with_parent()
    try:
        asyncio.run(Endpoint(host, port, answer).serve())
    except OSError as error:
        log.error("not served", subject=subject, host=host, port=port, error=log_text(error))
        return 1
    return 0
