"""Tunes Python and the C library for a worker process: garbage collection, freed memory."""

from __future__ import annotations

import ctypes
import gc

#: New objects between two garbage collections. At Python's own 700, a big graph's rows would be searched again and
#: again, for 100 ms each time, while no thread runs.
GARBAGE_THRESHOLD = 50_000

#: Blocks of this many bytes or more come from the system, and return to it when freed.
LARGE_BLOCK_BYTES = 256 * 1024

#: glibc's number for that option.
M_MMAP_THRESHOLD = -3


def shorten_pauses() -> None:
    """Shorten garbage-collection pauses."""
    # Imported objects stay: a collection need not search them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])


def return_freed_memory() -> None:
    """Return large blocks to the system when they are freed.

    Without this, glibc keeps them after the first one is freed, in each thread:
    https://man7.org/linux/man-pages/man3/mallopt.3.html. Other C libraries have no such call, and do not need it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
