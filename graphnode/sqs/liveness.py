"""Signs of life of a process's threads: each thread that must not get stuck gives one now and then."""

from __future__ import annotations

import os
import threading
import time
from typing import NamedTuple

#: Seconds for which one sign of life stands for all that follow it.
OFTEN_S = 1.0


class LifeSign(NamedTuple):
    """A thread's last sign of life.

    Parameters:
      at: when, on the monotonic clock, which all processes of a machine share.
      within_s: seconds within which the next one must come.
    """

    at: float
    within_s: float


#: The last sign of each thread and the thread, by its name.
_signs: dict[str, tuple[LifeSign, threading.Thread]] = {}


def report_alive(*, within_s: float) -> None:
    """Report that this thread is alive, and will report again within this many seconds. Cheap: call it often."""
    thread, now = threading.current_thread(), time.monotonic()
    last, of = _signs.get(thread.name, (None, None))
    if last is None or now - last.at > OFTEN_S or last.within_s != within_s or of is not thread:
        _signs[thread.name] = LifeSign(now, within_s), thread


def report_end() -> None:
    """Report that this thread ends: its silence is no fault."""
    _signs.pop(threading.current_thread().name, None)


def last_signs() -> dict[str, LifeSign]:
    """The last sign of life of each thread, by the thread's name."""
    return {name: sign for name, (sign, _) in list(_signs.items())}


def dead_threads() -> list[str]:
    """The threads that have ended without `report_end`, by name: an exception has ended them."""
    return sorted(name for name, (_, thread) in list(_signs.items()) if not thread.is_alive())


def is_running(pid: int) -> bool:
    """Whether a process with this number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It is another user's.
        return True
    return True
