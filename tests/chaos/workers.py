"""`dramatiq` commands, each restarted when it ends, as an orchestrator does."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from graphnode.dev.child_processes import READY, worker_environment
from graphnode.dev.guard import GuardedProcess

#: Seconds that a stopped worker has before it is killed.
GRACE_S = 20.0

#: Seconds between the end of a worker and its restart.
RESTART_PAUSE_S = 0.2

#: Seconds that a start may take.
START_TIMEOUT_S = 60.0


class SupervisedWorker:
    """A worker that is restarted whenever it ends, until its `with` block ends.

    Parameters:
      environment: the settings, by the names in docs/settings.md.
      log: the log file of all its starts.
    """

    def __init__(self, environment: Mapping[str, str], *, log: Path, processes: int, threads: int) -> None:
        self.log = log
        self.starts = 0
        self._environment = worker_environment(environment, inherited=os.environ)
        self._command = [sys.executable, "-m", "dramatiq", "graphnode.actors"]
        self._command += ["--processes", str(processes), "--threads", str(threads)]
        self._processes = processes
        self._closing = threading.Event()
        self._launch()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The process ID of the current command, or of the last one."""
        return self._process.pid

    def family(self) -> list[psutil.Process]:
        """The processes of the current command: first the main process, then its children."""
        try:
            main = psutil.Process(self.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the main process."""
        for process in self.family()[:1]:
            send(process, number)

    def send_all(self, number: signal.Signals) -> None:
        """Send a signal to all processes."""
        for process in self.family():
            send(process, number)

    def kill_fork(self, target: int) -> None:
        """Kill one of the worker processes."""
        forks = [process for process in self.family()[1:] if "python" in _name(process)]
        if forks:
            send(forks[target % len(forks)], signal.SIGKILL)

    def readies(self) -> int:
        """How often one of its processes became ready."""
        return self.log.read_text(errors="replace").count(READY)

    def wait_until_ready(self) -> None:
        """Wait until all its processes are ready for the first time. Raises TimeoutError."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.readies() < self._processes:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the worker is not ready after {START_TIMEOUT_S:.0f} s: see {self.log}")
            time.sleep(0.1)

    def close(self) -> None:
        """Stop it, without a restart."""
        self._closing.set()
        self._process.stop()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _launch(self) -> None:
        self._process = GuardedProcess(self._command, log=self.log, env=self._environment, grace_s=GRACE_S)
        self.starts += 1

    def _supervise(self) -> None:
        while not self._closing.is_set():
            self._process.wait()
            if not self._closing.wait(RESTART_PAUSE_S):
                self._launch()
                if self._closing.is_set():
                    self._process.stop()


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process, unless it has just ended."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""
