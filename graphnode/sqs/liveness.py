"""The pulse of a process's threads: each that must not get stuck says now and then that it goes on."""

from __future__ import annotations

import os
import threading
import time
from typing import NamedTuple

#: Seconds for which a beat stands for all that follow it.
OFTEN_S = 1.0


class Beat(NamedTuple):
    """A thread's last sign of life.

    Parameters:
      at: when (monotonic, which all processes of a machine share).
      within_s: seconds within which the next one must come.
    """

    at: float
    within_s: float


_beats: dict[str, Beat] = {}


def beat(*, within_s: float) -> None:
    """This thread goes on; it says so again within so many seconds. It may say so very often."""
    name, now = threading.current_thread().name, time.monotonic()
    last = _beats.get(name)
    if last is None or now - last.at > OFTEN_S or last.within_s != within_s:
        _beats[name] = Beat(now, within_s)


def rest() -> None:
    """This thread ends."""
    _beats.pop(threading.current_thread().name, None)


def beats() -> dict[str, Beat]:
    """The last beat of each thread, by its name."""
    return dict(_beats)


def is_running(pid: int) -> bool:
    """Whether there is a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Another user's.
        return True
    return True
