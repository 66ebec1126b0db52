"""Server-sent events: each says that there is something new, and the script fetches the page again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from graphnode.console.rendering import backends

#: Seconds between two looks.
LOOK_S = 1.0

#: Looks after which an event is sent in any case: it keeps the connection, and ages on the page go on.
QUIET = 10

#: Streams at a time.
MOST = 100


class Live:
    """The streams of all open pages."""

    def __init__(self) -> None:
        self.open = 0

    async def stream(self, request: Request) -> Response:
        """A stream of events."""
        if self.open >= MOST:
            return PlainTextResponse("Too many pages are open.\n", 503)
        return StreamingResponse(
            self._events(request), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    async def _events(self, request: Request) -> AsyncIterator[str]:
        own = backends(request)
        self.open += 1
        try:
            said, quiet = (-1, -1), 0
            yield "retry: 3000\n\n"
            while not await request.is_disconnected():
                own.overview.latest()
                version = (own.overview.version, own.letters.version)
                quiet = 0 if version != said else quiet + 1
                if version != said or quiet >= QUIET:
                    said, quiet = version, 0
                    yield "data: new\n\n"
                await asyncio.sleep(LOOK_S)
        finally:
            self.open -= 1
