"""Runs an HTTP endpoint of the worker in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from graphnode.worker.endpoint import Endpoint


@contextmanager
def serving(endpoint: Endpoint) -> Iterator[int]:
    """Have an endpoint serve in a thread during the block. Returns its port."""
    has_begun = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def serve() -> None:
        task = asyncio.create_task(endpoint.serve())
        running.append((asyncio.get_running_loop(), task))
        has_begun.set()
        with suppress(asyncio.CancelledError):
            await task

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    has_begun.wait()
    try:
        yield endpoint.port
    finally:
        ((loop, task),) = running
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
