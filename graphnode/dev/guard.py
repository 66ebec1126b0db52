"""Child processes that cannot outlive their parent, however it ends, also by SIGKILL.

A guard (this module, run as a program) is between them. It starts the command in a session of its own and reads a pipe
that only the parent holds open. When the parent closes the pipe or ends, the guard ends the command and all processes
that the command started.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

#: Seconds between the stop signal and SIGKILL, unless the caller gives another number.
DEFAULT_GRACE_S = 10.0


class GuardedProcess:
    """A running command that ends when this process ends.

    Parameters:
      command: the program and its arguments.
      log: the file that its output is appended to.
      env: its whole environment.
      user: the system user it runs as; only root may name one.
      stop_signal: the signal that asks it to end.
      grace_s: seconds until it is killed then, with all processes that it started.
      remove: a directory that is removed when the command has ended.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str],
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_s: float = DEFAULT_GRACE_S,
        remove: Path | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        options = ["--stop-signal", stop_signal.name, "--grace", str(grace_s)]
        options += ["--user", user] if user else []
        options += ["--remove", str(remove)] if remove else []
        pid_read, pid_write = os.pipe()
        with log.open("ab") as output:
            self._guard = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", __file__, "--pid-fd", str(pid_write), *options, "--", *self.command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                pass_fds=[pid_write],
                start_new_session=True,
            )
        os.close(pid_write)
        with os.fdopen(pid_read) as pids:
            line = pids.readline()
        if not line:
            raise ChildProcessError(f"{self.command[0]} did not start:\n{self.tail()}")
        #: The process ID of the command itself.
        self.pid = int(line)

    def returncode(self) -> int | None:
        """The command's exit code (negative: the signal that ended it), or None while it runs."""
        return self._guard.poll()

    def tail(self, lines: int = 40) -> str:
        """The last lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def ask_to_stop(self) -> None:
        """Begin to end the command; `stop` waits for it."""
        if self._guard.stdin and not self._guard.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()

    def stop(self) -> int:
        """End the command and wait for it; its exit code."""
        self.ask_to_stop()
        return self._guard.wait()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until the command ends by itself; returns its exit code. Raises subprocess.TimeoutExpired."""
        return self._guard.wait(timeout_s)

    def __enter__(self) -> GuardedProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def main() -> int:
    """Guard one command: start it, wait until it or the parent ends, and clean up."""
    parser = argparse.ArgumentParser(prog="graphnode.dev.guard")
    parser.add_argument("--pid-fd", type=int, required=True)
    parser.add_argument("--stop-signal", type=lambda name: signal.Signals[name], required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--user")
    parser.add_argument("--remove", type=Path)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    # With a wake-up pipe, select can wait for the command's end and for the parent's pipe at the same time.
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, lambda *_: None)

    child = subprocess.Popen(  # noqa: S603
        options.command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        user=options.user,
        group=options.user,
        extra_groups=[] if options.user else None,
    )
    os.write(options.pid_fd, f"{child.pid}\n".encode())
    os.close(options.pid_fd)

    while child.poll() is None:
        ready, _, _ = select.select([sys.stdin.fileno(), wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 1024)
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 1024):
            break
    _end(child, options.stop_signal, options.grace)
    if options.remove:
        shutil.rmtree(options.remove, ignore_errors=True)
    return child.returncode


def _end(child: subprocess.Popen[bytes], stop_signal: signal.Signals, grace_s: float) -> None:
    """Ask the command to end, then kill all processes of its session."""
    if child.poll() is None:
        child.send_signal(stop_signal)
        deadline = time.monotonic() + grace_s
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


if __name__ == "__main__":
    sys.exit(main())
