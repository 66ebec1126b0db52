"""The console's web server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

import uvicorn

from graphnode.console.access import Access, is_loopback
from graphnode.console.app import make_app

#: Seconds that a stop waits for pages under way; the streams of open pages end at once.
GRACE_S = 2

#: Connections at a time. More are refused: an operator's page needs no more, and each takes memory.
MOST_CONNECTIONS = 300


def serve(
    environment: Mapping[str, str],
    access: Access,
    *,
    host: str,
    port: int,
    hosts: frozenset[str],
    tell: Callable[[str], None],
) -> None:
    """Serve until a stop signal.

    Parameters:
      environment: the variables of a deployment.
      host, port: where to listen; port 0 is any free one.
      hosts: the host names under which it is known.
      tell: gets its address once it listens.

    Raises OSError if the port is taken.
    """
    app = make_app(environment, access, hosts=hosts, loopback=is_loopback(host))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # Who is asked for whom is the gate's matter.
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=GRACE_S,
        limit_concurrency=MOST_CONNECTIONS,
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends each part of an answer at once; without, a small page waits for 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
        name = f"[{host}]" if ":" in host else host
        tell(f"http://{name}:{listening.getsockname()[1]}/")
        uvicorn.Server(config).run(sockets=[listening])
