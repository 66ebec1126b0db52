"""A TCP proxy on loopback whose connections can fall silent: it reads, so TCP acknowledges, and passes on nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class TcpProxy:
    """A proxy before a server.

    Parameters:
      host, port: the server's.
      delay_s: seconds that each way takes.
    """

    def __init__(self, host: str, port: int, *, delay_s: float = 0.0) -> None:
        self.upstream = (host, port)
        self.delay_s = delay_s
        self.port = 0
        self._silenced: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.StreamWriter] = set()

    def silence(self) -> None:
        """Let the connections that are open fall silent. New ones work."""
        self._silenced |= self._passing

    @contextmanager
    def running(self) -> Iterator[TcpProxy]:
        """Run in a thread while the block runs."""
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=loop.run_forever, name="tcp-proxy")
        thread.start()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            server.close()
            for writer in self._passing:
                writer.transport.abort()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self.upstream)
        await asyncio.gather(self._pass(reader, server_writer), self._pass(server_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        self._passing.add(writer)
        with suppress(OSError):
            while chunk := await reader.read(65536):
                if writer not in self._silenced:
                    loop.call_later(self.delay_s, writer.write, chunk)
        if writer not in self._silenced:
            loop.call_later(self.delay_s, writer.close)


@contextmanager
def proxied(url: str) -> Iterator[tuple[TcpProxy, str]]:
    """A proxy before a database's server, and the database's URL behind it."""
    parts = urlsplit(url)
    with TcpProxy(parts.hostname or "", parts.port or 5432).running() as proxy:
        login = parts.netloc.rpartition("@")[0]
        yield proxy, parts._replace(netloc=f"{login}@127.0.0.1:{proxy.port}").geturl()
