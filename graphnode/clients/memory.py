"""Admission control: bounds the big documents, and their bytes of memory, that a process works on at a time.

Beside a big document, threads switch often, so that small messages need not wait for it.

A message without memory for its documents does not fail and keeps no thread: it is parked, and started again at its
turn. A message gets all the memory that it needs or none, so there is no deadlock. Turns are in order, so that nobody
is overtaken for ever. What needs more than there is at all is refused.
"""

from __future__ import annotations

import re
import sys
import threading
from contextvars import ContextVar
from typing import NamedTuple

from graphnode.errors import DocumentTooLarge, NoMemoryYet

#: Documents that take up to this many bytes of memory need no claim: eight of them at once are no burden.
SMALL_BYTES = 10 << 20

#: Streams of up to this many bytes need no claim either.
SMALL_STREAM_BYTES = 1 << 20

#: Bytes of memory that a streamed document takes, whatever its size (`python -m benchmarks.worst`).
STREAM_BYTES = 16 << 20


#: Seconds that a thread keeps the GIL while others wait, beside a big document. A small result needs it again after
#: each round trip: at Python's own 5 ms, it would wait long. Without a big document, more switches only cost time.
SWITCH_INTERVAL_S = 0.0002
USUAL_SWITCH_INTERVAL_S = sys.getswitchinterval()

#: What makes a text of Python take four bytes a character instead of one or two: a character outside the basic plane.
WIDE = re.compile(rb"[\xf0-\xff]|\\u[dD][89a-fA-F]")


class Weights(NamedTuple):
    """The most bytes of memory that a document takes until its rows are stored, by what is counted in its text.

    Commas and brackets within texts count too: telling them apart would take longer than decoding. The values are
    measured: `python -m benchmarks.worst` searches for a document that takes more.

    Parameters:
      text: for each byte.
      character: for each byte, times the bytes of the widest character in a text of Python.
      value: for each comma.
      array: for each `[`.
      object: for each `{`.
    """

    text: int
    character: int
    value: int
    array: int
    object: int

    def of(self, text: bytes) -> int:
        """The memory that a document stands for, in bytes."""
        return Tally(self).add(text)


class Tally:
    """Counts the memory that a document stands for while it is read.

    Parameters:
      weights: of its decoder.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._bytes = self._values = 0
        self._width = 1

    def add(self, chunk: bytes) -> int:
        """The memory of all chunks up to this one, in bytes."""
        weights = self._weights
        self._bytes += len(chunk)
        self._values += weights.value * chunk.count(b",")
        self._values += weights.array * chunk.count(b"[") + weights.object * chunk.count(b"{")
        if self._width < 4 and (not chunk.isascii() or b"\\u" in chunk):
            self._width = 4 if WIDE.search(chunk) else 2
        return self._values + self._bytes * (weights.text + weights.character * self._width)


#: A graph, with the stored rows that it is compared with.
GRAPH = Weights(text=3, character=3, value=125, array=290, object=800)

#: A batch of nodes to add, without the graph that it is merged into.
ADD_NODE_BATCH = Weights(text=3, character=3, value=125, array=200, object=660)

#: Summaries, blocks and chunks are stored with all their fields, also those that the document leaves out.
SUMMARY = Weights(text=3, character=3, value=150, array=290, object=1800)
MICROSCOPE = Weights(text=3, character=3, value=850, array=310, object=1950)


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

    def take(self, name: str, needed: int, *, wanted: int = 0) -> int:
        """Claim memory for a document; the bytes that are claimed.

        Parameters:
          needed: the bytes that it takes for sure.
          wanted: the bytes that it will probably take. There may never be so much.

        Raises NoMemoryYet when the message's whole need is not free now, and DocumentTooLarge when it never will be.
        """
        before = self._sizes.get(name, 0)
        most = self._admission.memory_bytes - (self.needed - before)
        if needed > most:
            said = f"takes over {needed} bytes of memory, and {most} are left for it"
            said = f"{said} (GRAPHNODE_DOCUMENT_MEMORY)"
            raise DocumentTooLarge(f"{name} {said}", log=f"a document {said}")
        self._sizes[name] = claimed = max(before, needed, min(wanted, most))
        if not self._admission.grants(self):
            raise NoMemoryYet
        return claimed

    def give_back(self, name: str, needed: int) -> None:
        """Keep only what a document needs, in bytes, of what was claimed for it."""
        if needed < self._sizes.get(name, 0):
            self._sizes[name] = needed
            self._admission.shrink(self)


class Admission:
    """Grants claims in their order. Thread-safe.

    Parameters:
      memory_bytes: what all claims together may take; none may need more.
      most: how many are granted at a time.
    """

    def __init__(self, *, memory_bytes: int, most: int) -> None:
        self.memory_bytes = memory_bytes
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

    def shrink(self, claim: Claim) -> None:
        """Free what a granted claim no longer needs."""
        with self._lock:
            if claim in self._granted:
                self._granted[claim] = claim.needed
                self._grant()

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
        sys.setswitchinterval(SWITCH_INTERVAL_S if self._granted else USUAL_SWITCH_INTERVAL_S)

    def _fits(self, claim: Claim) -> bool:
        taken = sum(self._granted.values())
        return len(self._granted) < self._most and taken + claim.needed <= self.memory_bytes


#: The claim of the message that this thread works on; None outside a worker.
current_claim: ContextVar[Claim | None] = ContextVar("claim", default=None)


def admit(name: str, needed: int, *, wanted: int = 0) -> int:
    """Claim memory for a document that will be decoded whole; the bytes that are claimed.

    Parameters:
      name: the object.
      needed: the bytes that it takes for sure, by its decoder's weights.
      wanted: the bytes that it will probably take.

    Raises NoMemoryYet when the message must wait for it, and DocumentTooLarge when there will never be so much.
    """
    claim = current_claim.get()
    if claim and max(needed, wanted) > SMALL_BYTES:
        return claim.take(name, needed, wanted=wanted)
    return max(needed, wanted)


def settle(name: str, needed: int) -> None:
    """Give back what was claimed for a document beyond what it needs, in bytes: it was a guess."""
    if claim := current_claim.get():
        claim.give_back(name, needed)


def admit_stream(name: str, size: int) -> None:
    """Claim memory for a document that will be streamed; as `admit`.

    Parameters:
      name: the object.
      size: its bytes, unpacked.
    """
    claim = current_claim.get()
    if claim and size > SMALL_STREAM_BYTES:
        claim.take(name, STREAM_BYTES)
