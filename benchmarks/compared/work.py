"""What every worker's handler does. It needs the standard library alone: Celery runs in an environment of its own."""

from __future__ import annotations

import os
import socket
import time

#: The port of a service that some messages need.
NEEDED_PORT = int(os.environ.get("COMPARE_NEEDED_PORT", "0"))

#: Where handlers say what they do: a line each, with its time.
RECORD = os.environ.get("COMPARE_RECORD", os.devnull)


class Hopeless(Exception):
    """The message can never be handled."""


def handle(name: str, kind: str, seconds: float) -> None:
    """Handle a message.

    Parameters:
      name: the message's own.
      kind: `plain`; `needs`: of the service at `NEEDED_PORT`; `fails`: each time; `hopeless`: and the handler knows it.
      seconds: what it takes.

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
    """Reach the service. Raises ConnectionError."""
    socket.create_connection(("127.0.0.1", NEEDED_PORT), timeout=1).close()


def record(event: str, name: str) -> None:
    """Write a line: several processes do, and none is torn."""
    line = f"{time.time():.3f} {event} {name}\n".encode()
    file = os.open(RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)
