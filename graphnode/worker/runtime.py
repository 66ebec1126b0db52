"""How Python and the C library below it share a worker process's time and memory."""

from __future__ import annotations

import ctypes
import gc
import sys

#: Seconds that a thread computes while others wait for their turn. A small result takes some thirty turns: at Python's
#: own 5 ms each it would wait a long while beside a big graph.
SWITCH_INTERVAL_S = 0.0002

#: Objects made until garbage is looked for. At Python's own 700, a big graph's rows, none of them garbage, would be
#: looked through again and again, for 100 ms at a time in which no thread does anything.
GARBAGE_THRESHOLD = 50_000

#: From this many bytes on, a block of memory is the system's, and goes back to it.
LARGE_BLOCK_BYTES = 256 * 1024

#: glibc's number for that option.
M_MMAP_THRESHOLD = -3


def keep_pauses_short() -> None:
    """Let a thread that computes, or the collection of its garbage, hold the others up as little as can be."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # What was imported stays: a collection need not look through it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])


def keep_no_freed_memory() -> None:
    """Have large blocks go back to the system when they are freed.

    glibc learns from the first large block that is freed to keep such blocks, in each thread for itself:
    https://man7.org/linux/man-pages/man3/mallopt.3.html. Other C libraries have no such call, and no need of it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
