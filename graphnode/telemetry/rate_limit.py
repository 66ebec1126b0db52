"""Storms: how many lines alike are told in a while, and how many were left out. Decided without a clock of its own."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

#: Lines alike that are told in a window, and the window's seconds.
MOST = 10
WINDOW_S = 10.0

K = TypeVar("K", bound=Hashable)


class LeftOut(NamedTuple, Generic[K]):
    """How many lines of a kind were left out of a window that has ended."""

    kind: K
    lines: int


@dataclass
class _Window:
    ends: float
    told: int = 0
    left_out: int = 0


class Storm(Generic[K]):
    """Lets the first lines of each kind through. A kind's window begins with a line of it, and ends by the clock.

    Parameters:
      most: lines of a kind that are told in a window, 1 or more: the first one always is.
      window_s: a window's seconds.
    """

    def __init__(self, *, most: int = MOST, window_s: float = WINDOW_S) -> None:
        self.most = most
        self.window_s = window_s
        # In the order of their ends, for all are equally long.
        self._windows: dict[K, _Window] = {}

    def admits(self, kind: K, *, now: float) -> bool:
        """Whether a line of this kind is told. Ask `ended` first.

        Parameters:
          now: monotonic seconds.
        """
        window = self._windows.setdefault(kind, _Window(ends=now + self.window_s))
        if window.told < self.most:
            window.told += 1
            return True
        window.left_out += 1
        return False

    def ended(self, *, now: float) -> list[LeftOut[K]]:
        """What was left out of the windows that have ended by now; each is told of once."""
        over: list[LeftOut[K]] = []
        while self._windows:
            kind, window = next(iter(self._windows.items()))
            if window.ends > now:
                break
            del self._windows[kind]
            if window.left_out:
                over.append(LeftOut(kind, window.left_out))
        return over
