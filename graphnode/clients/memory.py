"""Admission control: how many big documents, and of how many bytes, a process works on at a time.

A message whose documents find no room does not fail and keeps no thread: it waits in the process's hands, kept alive,
and is started again when its turn has come. What one message needs it gets as a whole: none holds a part of the memory
while it waits for another part, so there is no deadlock. Turns are in order: nobody is overtaken for ever.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar

from graphnode.errors import Postponed

#: Documents up to this many bytes pass freely: eight of them at once are no burden.
SMALL_BYTES = 1 << 20

#: Bytes of memory that a byte of JSON takes until its rows are stored, those of the stored graph that it is compared to
#: included. Measured: 4 to 11, the most where nodes with many keywords are replaced.
MEMORY_PER_BYTE = 10

#: Bytes of memory that a streamed document takes, whatever its size (`python -m benchmarks.memory`).
STREAM_BYTES = 10 << 20


class Claim:
    """What the big documents of one message need, and whether it has got it.

    Parameters:
      admission: who grants it.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._sizes: dict[str, int] = {}

    @property
    def needed(self) -> int:
        """Bytes for all the documents that it has named so far."""
        return sum(self._sizes.values())

    def take(self, name: str, size: int) -> None:
        """Take so many bytes for a document. Raises Postponed if all that the message needs is not to be had now."""
        self._sizes[name] = max(size, self._sizes.get(name, 0))
        if not self._admission.grants(self):
            raise Postponed(until=lambda: self._admission.has_granted(self))


class Admission:
    """Grants claims in their order. Thread-safe.

    Parameters:
      memory_bytes: what all claims together may take. One that needs more than that is granted alone.
      most: how many are granted at a time.
    """

    def __init__(self, *, memory_bytes: int, most: int) -> None:
        self._memory_bytes = memory_bytes
        self._most = most
        self._lock = threading.Lock()
        self._granted: dict[Claim, int] = {}
        self._waiting: dict[Claim, None] = {}

    def grants(self, claim: Claim) -> bool:
        """Whether a claim has all that it needs. If not, it has nothing from now on, and its turn will come."""
        with self._lock:
            if self._granted.pop(claim, None) is not None and self._fits(claim):
                # It grows, past those that wait: sending it back would waste what it has done.
                self._granted[claim] = claim.needed
            else:
                self._waiting.setdefault(claim)
                self._grant()
            return claim in self._granted

    def end(self, claim: Claim) -> None:
        """Give back what a claim has, or its place in the queue."""
        with self._lock:
            self._granted.pop(claim, None)
            self._waiting.pop(claim, None)
            self._grant()

    def has_granted(self, claim: Claim) -> bool:
        """Whether a claim's turn has come."""
        return claim in self._granted

    def _grant(self) -> None:
        while self._waiting and self._fits(first := next(iter(self._waiting))):
            del self._waiting[first]
            self._granted[first] = first.needed

    def _fits(self, claim: Claim) -> bool:
        if not self._granted:
            return True
        taken = sum(self._granted.values())
        return len(self._granted) < self._most and taken + claim.needed <= self._memory_bytes


#: The claim of the message that this thread works on; None outside a worker.
_current: ContextVar[Claim | None] = ContextVar("claim", default=None)


def admit(name: str, size: int) -> None:
    """Let a document pass that is about to be decoded whole.

    Parameters:
      name: the object.
      size: its bytes, unpacked.

    Raises Postponed when the message at hand must wait for it.
    """
    _take(name, size, size * MEMORY_PER_BYTE)


def admit_stream(name: str, size: int) -> None:
    """Let a document pass that is about to be streamed; as `admit`."""
    _take(name, size, STREAM_BYTES)


def _take(name: str, size: int, memory: int) -> None:
    claim = _current.get()
    if claim and size > SMALL_BYTES:
        claim.take(name, memory)
