"""Run a command that installs into `.venv`, while no other make does. The standard library is enough for it."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path


def main() -> None:
    """Become the command once the lock is free; the lock, on this file, ends with the command."""
    lock = os.open(Path(__file__), os.O_RDONLY)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write("Another make is installing into .venv: waiting for it.\n")
        fcntl.flock(lock, fcntl.LOCK_EX)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  # nosec B606 # make's own command


if __name__ == "__main__":
    main()
