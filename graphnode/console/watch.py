"""A reading that takes seconds: pages show the newest one at once, and another is made while somebody looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from graphnode.operations import background

log = structlog.get_logger("graphnode.console")

Value = TypeVar("Value")


class Watched(Generic[Value]):
    """The newest reading of something.

    Parameters:
      read: makes a reading, in a thread of its own; it raises only faults of this program.
      every_s: seconds for which a reading is new enough.
      name: the thread's.
    """

    def __init__(self, read: Callable[[], Value], *, every_s: float, name: str) -> None:
        self._read = read
        self._every_s = every_s
        self._name = name
        self._lock = threading.Lock()
        self._made = threading.Condition(self._lock)
        self._is_reading = False
        self._value: Value | None = None
        self._read_at = float("-inf")
        #: How many readings were made.
        self.version = 0

    @property
    def is_reading(self) -> bool:
        """Whether a reading is being made."""
        return self._is_reading

    def latest(self, *, wait_s: float = 0.0, refresh: bool = True) -> Value | None:
        """The newest reading; None before the first one. Another is begun if it is old.

        Parameters:
          wait_s: seconds to wait for the first reading.
          refresh: whether another may be begun.
        """
        with self._lock:
            if refresh and time.monotonic() - self._read_at >= self._every_s:
                self._begin()
            if self._value is None and wait_s:
                self._made.wait_for(lambda: self._value is not None, wait_s)
            return self._value

    def new(self, *, wait_s: float) -> Value | None:
        """A reading that begins now, or the newest one if it is not ready within `wait_s` seconds."""
        with self._lock:
            # One that has begun may have missed what happened since.
            self._made.wait_for(lambda: not self._is_reading, wait_s)
            wanted = self.version + 1
            self._begin()
            self._made.wait_for(lambda: self.version >= wanted, wait_s)
            return self._value

    def expire(self) -> None:
        """Have the next look begin another reading."""
        self._read_at = float("-inf")

    def _begin(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            background.start(self._make, name=self._name)

    def _make(self) -> None:
        value: Value | None = None
        begun = time.monotonic()
        try:
            value = self._read()
        except Exception:
            log.exception("a reading for the console failed", reading=self._name)
        finally:
            with self._lock:
                self._is_reading = False
                # After a fault of this program, too, it is not tried again at once.
                self._read_at = max(begun, self._read_at)
                if value is not None:
                    self._value, self.version = value, self.version + 1
                self._made.notify_all()
