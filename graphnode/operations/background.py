"""Calls of services in the background: several at the same time, and none that keeps the program from ending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from graphnode.errors import GraphNodeError

Answer = TypeVar("Answer")


class NoAnswer(GraphNodeError):
    """A service gave no answer in time."""

    reason = "NO_ANSWER"


def start(call: Callable[[], Answer], *, name: str) -> Future[Answer]:
    """Make a call in a daemon thread: unlike an executor's, it ends with the program, even in a library that hangs.

    Parameters:
      name: the thread's.
    """
    made: Future[Answer] = Future()

    def run() -> None:
        try:
            made.set_result(call())
        except Exception as error:
            made.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return made


def answer_of(made: Future[Answer], *, by: float) -> Answer:
    """What a call has returned. Raises what it has raised, or NoAnswer.

    Parameters:
      by: monotonic seconds, until when it may take.
    """
    try:
        return made.result(max(0.0, by - time.monotonic()))
    except TimeoutError:
        if made.done():
            raise
        raise NoAnswer from None
