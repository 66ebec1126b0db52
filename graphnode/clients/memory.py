"""Admission control: bounds the big documents, and their bytes of memory, that a process works on at a time.

A message without memory for its documents does not fail and keeps no thread: it is parked, and started again at its
turn. A message gets all the memory that it needs or none, so there is no deadlock. Turns are in order, so that nobody
is overtaken for ever.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar

from graphnode.errors import NoMemoryYet

#: Documents up to this many bytes need no claim: eight of them at once are no burden.
SMALL_BYTES = 1 << 20

#: Bytes of memory that a byte of JSON takes until its rows are stored, including the stored graph's rows that it is
#: compared with. Measured: 4 to 11, the most for nodes with many keywords.
MEMORY_PER_BYTE = 10

#: Bytes of memory that a streamed document takes, whatever its size (`python -m benchmarks.memory`).
STREAM_BYTES = 10 << 20


class Claim:
    """The memory that one message's big documents need, and whether it is granted.

    Parameters:
      admission: grants it.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._sizes: dict[str, int] = {}

    @property
    def needed(self) -> int:
        """Bytes for all documents named so far."""
        return sum(self._sizes.values())

    def take(self, name: str, size: int) -> None:
        """Claim memory for a document, in bytes. Raises NoMemoryYet when the message's whole need is not free now."""
        self._sizes[name] = max(size, self._sizes.get(name, 0))
        if not self._admission.grants(self):
            raise NoMemoryYet


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
        self._called: set[Claim] = set()

    def grants(self, claim: Claim) -> bool:
        """Whether a claim has all that it needs. If not, it has nothing from now on, and waits for its turn."""
        with self._lock:
            if self._granted.pop(claim, None) is not None and self._fits(claim):
                # It grows before those that wait: its message would waste its work otherwise.
                self._granted[claim] = claim.needed
                return True
            self._waiting.setdefault(claim)
            self._grant()
            if claim in self._granted:
                self._called.discard(claim)
            return claim in self._granted

    def end(self, claim: Claim) -> None:
        """Free what a claim has, or its place in the order."""
        with self._lock:
            self._granted.pop(claim, None)
            self._waiting.pop(claim, None)
            self._called.discard(claim)
            self._grant()

    def call(self) -> set[Claim]:
        """The claims whose turn has come since the last call: their messages can start again."""
        with self._lock:
            called, self._called = self._called, set()
            return called

    def _grant(self) -> None:
        while self._waiting and self._fits(first := next(iter(self._waiting))):
            del self._waiting[first]
            self._granted[first] = first.needed
            self._called.add(first)

    def _fits(self, claim: Claim) -> bool:
        if not self._granted:
            return True
        taken = sum(self._granted.values())
        return len(self._granted) < self._most and taken + claim.needed <= self._memory_bytes


#: The claim of the message that this thread works on; None outside a worker.
current_claim: ContextVar[Claim | None] = ContextVar("claim", default=None)


def admit(name: str, size: int) -> None:
    """Claim memory for a document that will be decoded whole.

    Parameters:
      name: the object.
      size: its bytes, unpacked.

    Raises NoMemoryYet when the message must wait for it.
    """
    _take(name, size, size * MEMORY_PER_BYTE)


def admit_stream(name: str, size: int) -> None:
    """Claim memory for a document that will be streamed; as `admit`."""
    _take(name, size, STREAM_BYTES)


def _take(name: str, size: int, memory: int) -> None:
    claim = current_claim.get()
    if claim and size > SMALL_BYTES:
        claim.take(name, memory)
