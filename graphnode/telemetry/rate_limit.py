"""A rate limiter: lets the first few of each kind through in a window, and counts the rest. It has no clock."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

#: Lines of a kind that pass in a window, and the window's length in seconds.
MOST = 10
WINDOW_S = 10.0

K = TypeVar("K", bound=Hashable)


class Suppressed(NamedTuple, Generic[K]):
    """How many lines of a kind were suppressed in a window that has ended."""

    kind: K
    lines: int


@dataclass
class _Window:
    ends: float
    passed: int = 0
    suppressed: int = 0


class RateLimiter(Generic[K]):
    """Lets the first lines of each kind pass. A kind's window begins with a line of that kind.

    Parameters:
      most: lines of a kind that pass in a window, 1 or more.
      window_s: a window's length in seconds.
    """

    def __init__(self, *, most: int = MOST, window_s: float = WINDOW_S) -> None:
        self.most = most
        self.window_s = window_s
        # In the order of their ends: all are equally long.
        self._windows: dict[K, _Window] = {}

    def admits(self, kind: K, *, now: float) -> bool:
        """Whether a line of this kind passes. Call `ended` first.

        Parameters:
          now: monotonic seconds.
        """
        window = self._windows.setdefault(kind, _Window(ends=now + self.window_s))
        if window.passed < self.most:
            window.passed += 1
            return True
        window.suppressed += 1
        return False

    def ended(self, *, now: float) -> list[Suppressed[K]]:
        """What was suppressed in the windows that have ended by now; each is returned once."""
        over: list[Suppressed[K]] = []
        while self._windows:
            kind, window = next(iter(self._windows.items()))
            if window.ends > now:
                break
            del self._windows[kind]
            if window.suppressed:
                over.append(Suppressed(kind, window.suppressed))
        return over
