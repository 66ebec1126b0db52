"""Freezes processes: they exist, keep their connections, and do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Freeze a process and all that it has started, while the block runs."""
    main = psutil.Process(pid)
    # It goes first, so that it starts no more.
    main.suspend()
    started = main.children(recursive=True)
    for process in started:
        process.suspend()
    try:
        yield
    finally:
        for process in (*started, main):
            process.resume()
