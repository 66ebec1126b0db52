from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

#: Prepares the process as a worker does. Then four threads, one after the other, use a large block of memory twice:
#: without the preparation, glibc would keep the second one.
PROGRAM = """
import gc, json, os, threading
from pathlib import Path
from graphnode.worker import runtime

def resident():
    figures = Path("/proc/self/statm")
    return int(figures.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if figures.exists() else 0

def use():
    for _ in range(2):
        block = bytearray(20_000_000)
        del block

runtime.shorten_pauses()
runtime.return_freed_memory()
before = resident()
for thread in [threading.Thread(target=use) for _ in range(4)]:
    thread.start()
    thread.join()
print(json.dumps({"kept": resident() - before, "frozen": gc.get_freeze_count()}))
"""


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    """What the program measured, in a process of its own: the settings apply to a whole process."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def test_imported_objects_are_not_collected(measured: dict[str, float]) -> None:
    assert measured["frozen"] > 0


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory and has a setting against it"
)
def test_freed_large_blocks_go_back_to_the_system_in_every_thread(measured: dict[str, float]) -> None:
    assert measured["kept"] < 10_000_000
