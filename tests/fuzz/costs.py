"""Checks that a document costs no more than it may. A check raises Finding."""

from __future__ import annotations

import io
import time
import tracemalloc
from contextlib import suppress

from benchmarks.worst import KINDS
from graphnode.clients.memory import STREAM_BYTES
from graphnode.clients.s3 import Document
from graphnode.errors import PermanentError
from tests.fuzz.checks import Finding

#: Bytes of memory that handling takes whatever the document: what Python and its libraries keep of a first call.
MOST_FIXED_BYTES = 512 * 1024

#: The most CPU seconds of an input, which has some kilobytes.
MOST_S = 5.0

_KINDS = {kind.name: kind for kind in KINDS}


def check_cost(data: bytes, name: str) -> None:
    """Handle a document as an actor does, and check its CPU time, and its memory against what admission books for it.

    Memory is what Python allocates: `python -m benchmarks.worst` measures the process.

    Parameters:
      name: the kind of document, by its name in that benchmark.
    """
    kind = _KINDS[name]
    document = Document(io.BytesIO(data), name="", expected_bytes=len(data), limit=1 << 40, setting="")
    began = time.thread_time()
    tracemalloc.start()
    try:
        with suppress(PermanentError):
            kind.handle(document)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    spent = time.thread_time() - began
    if taken > (booked := kind.booked(data) + (0 if kind.weights else STREAM_BYTES) + MOST_FIXED_BYTES):
        raise Finding(f"a document of {len(data)} bytes takes {taken} bytes of memory, and {booked} are booked")
    if spent > MOST_S:
        raise Finding(f"a document of {len(data)} bytes takes {spent:.1f} s")
