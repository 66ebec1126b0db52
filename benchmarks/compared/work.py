"""The handler of every compared worker. It needs the standard library only, because Celery has its own environment."""

from __future__ import annotations

import os
import socket
import time

#: The port of a service that some messages need.
NEEDED_PORT = int(os.environ.get("COMPARE_NEEDED_PORT", "0"))

#: The file in which handlers record their events, one a line, with the time.
RECORD = os.environ.get("COMPARE_RECORD", os.devnull)


class Hopeless(Exception):
    """A permanent error."""


def handle(name: str, kind: str, seconds: float) -> None:
    """Handle a message.

    Parameters:
      name: of the message.
      kind: `plain`; `needs` the service at NEEDED_PORT; `fails` each time; `hopeless` fails permanently.
      seconds: the duration.

    Raises ConnectionError while the service is away, RuntimeError or Hopeless.
    """
    record("start", name)
    if kind == "hopeless":
        raise Hopeless(name)
    if kind == "fails":
        raise RuntimeError(name)
    if kind == "needs":
        ask_service()
    time.sleep(seconds)
    record("end", name)


def ask_service() -> None:
    """Connect to the service. Raises ConnectionError."""
    socket.create_connection(("127.0.0.1", NEEDED_PORT), timeout=1).close()


def record(event: str, name: str) -> None:
    """Record an event. A single write keeps the lines of several processes whole."""
    line = f"{time.time():.3f} {event} {name}\n".encode()
    file = os.open(RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)
