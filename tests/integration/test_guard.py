from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphnode.dev.guard import GuardedProcess

#: Seconds that an end may take on a busy machine.
PATIENCE_S = 20.0

#: A command with a child of its own, which ignores what asks it to end. Both write their process IDs.
FAMILY = """
import os, signal, subprocess, sys, time
if len(sys.argv) == 2:
    subprocess.Popen([sys.executable, __file__, sys.argv[1], "child"])
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "a") as pids:
    print(os.getpid(), file=pids, flush=True)
time.sleep(600)
"""

#: A parent that guards that command and then does nothing.
PARENT = """
import os, sys, time
from pathlib import Path
from graphnode.dev.guard import GuardedProcess
script, pids, directory = map(Path, sys.argv[1:])
GuardedProcess([sys.executable, script, pids], log=directory / "log", env=os.environ, grace_s=0.2, remove=directory)
time.sleep(600)
"""

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def until() -> Until:
    """Waits for a condition, and fails the test when it does not come true."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.02)

    return wait


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """The script of a command that starts a child."""
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    return script


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory to be removed, with something in it."""
    path = tmp_path / "throw-away"
    path.mkdir()
    (path / "data").write_text("data")
    return path


@pytest.fixture
def parent(family: Path, directory: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that guards the family."""
    command = [sys.executable, "-c", PARENT, str(family), str(tmp_path / "pids"), str(directory)]
    with subprocess.Popen(command) as process:
        yield process
        process.kill()


def family_members(pids: Path) -> list[int]:
    return [int(line) for line in pids.read_text().split()] if pids.exists() else []


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_sigkill_of_the_parent_ends_the_command_with_all_it_started_and_removes_the_directory(
    parent: subprocess.Popen[bytes], directory: Path, tmp_path: Path, until: Until
) -> None:
    pids = tmp_path / "pids"
    until(lambda: len(family_members(pids)) == 2)

    parent.kill()

    until(lambda: not any(map(is_running, family_members(pids))))
    until(lambda: not directory.exists())


def test_stop_ends_also_a_child_that_ignores_it(family: Path, directory: Path, tmp_path: Path, until: Until) -> None:
    pids = tmp_path / "pids"
    process = GuardedProcess(
        [sys.executable, family, pids], log=tmp_path / "log", env=os.environ, grace_s=0.2, remove=directory
    )
    until(lambda: len(family_members(pids)) == 2)

    process.stop()

    until(lambda: not any(map(is_running, family_members(pids))))
    assert not directory.exists()


def test_a_command_that_does_not_heed_its_stop_signal_is_killed_after_its_grace(tmp_path: Path, until: Until) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    process = GuardedProcess([sys.executable, "-c", stubborn], log=tmp_path / "log", env=os.environ, grace_s=0.2)
    until(lambda: "deaf" in process.tail())

    process.stop()

    assert not is_running(process.pid)


def test_a_command_is_asked_to_end_with_the_signal_it_was_given(tmp_path: Path, until: Until) -> None:
    polite = (
        "import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(7));"
        " print('listening', flush=True); time.sleep(600)"
    )
    process = GuardedProcess(
        [sys.executable, "-c", polite], log=tmp_path / "log", env=os.environ, stop_signal=signal.SIGINT
    )
    until(lambda: "listening" in process.tail())

    assert process.stop() == 7


def test_the_exit_code_of_a_command_that_ends_by_itself_is_its_own(tmp_path: Path) -> None:
    with GuardedProcess([sys.executable, "-c", "raise SystemExit(3)"], log=tmp_path / "log", env=os.environ) as process:
        assert process.wait(PATIENCE_S) == 3


def test_a_command_that_does_not_exist_says_so(tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match=r"(?s)no-such-program did not start.*No such file"):
        GuardedProcess(["/no-such-program"], log=tmp_path / "log", env=os.environ)
