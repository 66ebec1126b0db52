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


_signs: dict[str, LifeSign] = {}


def report_alive(*, within_s: float) -> None:
    """Report that this thread is alive, and will report again within this many seconds. Cheap: call it often."""
    name, now = threading.current_thread().name, time.monotonic()
    last = _signs.get(name)
    if last is None or now - last.at > OFTEN_S or last.within_s != within_s:
        _signs[name] = LifeSign(now, within_s)


def report_end() -> None:
    """Report that this thread ends: its silence is no fault."""
    _signs.pop(threading.current_thread().name, None)


def last_signs() -> dict[str, LifeSign]:
    """The last sign of life of each thread, by the thread's name."""
    return dict(_signs)


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
