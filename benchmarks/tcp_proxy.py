"""A TCP proxy on loopback that delays bytes, and makes a connection silent: it reads, and forwards nothing.

A silent connection acknowledges all that it gets, as a far side does that hangs. The proxy is a separate process, so
that no thread of the caller delays it: `python -m benchmarks.tcp_proxy HOST PORT DELAY_MS` prints its port. Each line
of its standard input is an order, and each is answered by a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

#: Seconds without a byte after which a connection counts as idle.
IDLE_S = 0.02

#: Bytes that are read at a time.
CHUNK = 64 * 1024


class TcpProxy:
    """A running proxy, in a separate process that ends when this one ends.

    Parameters:
      url: of the server behind it, with host and port.
      delay_ms: the delay of each byte, one way.
    """

    def __init__(self, url: str, *, delay_ms: float = 0.0) -> None:
        behind = urlsplit(url)
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", __name__, str(behind.hostname), str(behind.port), str(delay_ms)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        login = behind.netloc.rpartition("@")[0]
        address = f"127.0.0.1:{int(self._answer())}"
        #: The URL of the server through the proxy.
        self.url = behind._replace(netloc=f"{login}@{address}" if login else address).geturl()

    def silence(self) -> bool:
        """Make the idle connection that was used last silent; whether there was one."""
        return self._order("silence") == "1"

    def swallowed(self) -> int:
        """The bytes that came over silent connections."""
        return int(self._order("swallowed"))

    def close_silent(self) -> None:
        """Close the silent connections."""
        self._order("close")

    def _order(self, order: str) -> str:
        assert self._process.stdin  # noqa: S101
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout  # noqa: S101
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate("")


class Connection:
    """A connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, delay_s: float) -> None:
        self.used_at = time.monotonic()
        self.silent = False
        self.swallowed = 0
        self._ends = (client, server)
        self._delay_s = delay_s

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward what one side sends until it closes."""
        loop = asyncio.get_running_loop()
        # A reset ends a connection as a close does.
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                if self.silent:
                    self.swallowed += len(data)
                    continue
                self.used_at = time.monotonic()
                if self._delay_s:
                    loop.call_later(self._delay_s, writer.write, data)
                else:
                    writer.write(data)
        if not self.silent:
            loop.call_later(self._delay_s, self.close)

    def close(self) -> None:
        """Close both sides."""
        for end in self._ends:
            end.close()


class Proxy:
    """The proxy's connections."""

    def __init__(self, host: str, port: int, delay_s: float) -> None:
        self._behind = (host, port)
        self._delay_s = delay_s
        self._connections: list[Connection] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until a side closes it."""
        try:
            from_server, to_server = await asyncio.open_connection(*self._behind)
        except OSError:
            writer.close()
            return
        connection = Connection(writer, to_server, self._delay_s)
        self._connections.append(connection)
        await asyncio.gather(connection.pump(reader, to_server), connection.pump(from_server, writer))
        self._connections.remove(connection)

    def carry_out(self, order: str) -> str:
        """Carry out an order; the answer."""
        silent = [connection for connection in self._connections if connection.silent]
        match order:
            case "silence":
                now = time.monotonic()
                idle = [one for one in self._connections if not one.silent and now - one.used_at > IDLE_S]
                if idle:
                    max(idle, key=lambda one: one.used_at).silent = True
                return str(int(bool(idle)))
            case "close":
                for connection in silent:
                    connection.close()
        return str(sum(connection.swallowed for connection in silent))


async def main(host: str, port: str, delay_ms: str) -> None:
    """Serve on a free port of loopback until standard input closes."""
    proxy = Proxy(host, int(port), float(delay_ms) / 1000)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()

    def answer(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def obey() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lambda order: answer(proxy.carry_out(order)), line.strip())
        os._exit(0)

    answer(str(server.sockets[0].getsockname()[1]))
    threading.Thread(target=obey, daemon=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    # epoll waits for whole milliseconds, select for microseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(main(*sys.argv[1:]))
