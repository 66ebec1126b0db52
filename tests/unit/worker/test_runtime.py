from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

#: What a worker process does, and then four threads that each use a large block of memory twice, one after the other:
#: by the second time, glibc would keep it.
PROGRAM = """
import gc, json, os, sys, threading
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
print(json.dumps({"kept": resident() - before, "switch": sys.getswitchinterval(), "frozen": gc.get_freeze_count()}))
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, float]:
    """What the program saw; a process of its own, for these are settings of a process."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def test_threads_switch_often_and_imported_objects_are_not_collected(seen: dict[str, float]) -> None:
    assert seen["switch"] < 0.005
    assert seen["frozen"] > 0


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory so, and can be told not to"
)
def test_freed_large_blocks_go_back_to_the_system_in_every_thread(seen: dict[str, float]) -> None:
    assert seen["kept"] < 10_000_000
