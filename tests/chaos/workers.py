"""`dramatiq` commands, each started again when it ends, as an orchestrator does."""

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

from graphnode.dev.guard import GuardedProcess
from graphnode.dev.worker import READY, worker_environment

#: Seconds that a worker has to end: its own grace and Dramatiq's.
GRACE_S = 20.0

#: Seconds between the end of a worker and the next.
RESTART_PAUSE_S = 0.2

#: Seconds that a start may take.
START_TIMEOUT_S = 60.0


class SupervisedWorker:
    """A worker that is always there, until its block ends.

    Parameters:
      environment: names of docs/settings.md.
      log: where all of it that there ever were write to.
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
        """The process ID of the one that runs now, or ran last."""
        return self._process.pid

    def family(self) -> list[psutil.Process]:
        """The processes of the one that runs: the command's own, and then those that it forked."""
        try:
            main = psutil.Process(self.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the command's own process."""
        for process in self.family()[:1]:
            send(process, number)

    def send_all(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        for process in self.family():
            send(process, number)

    def kill_fork(self, target: int) -> None:
        """Kill one of its worker processes."""
        forks = [process for process in self.family()[1:] if "python" in _name(process)]
        if forks:
            send(forks[target % len(forks)], signal.SIGKILL)

    def readies(self) -> int:
        """How often a process of it has begun to take messages."""
        return self.log.read_text(errors="replace").count(READY)

    def wait_until_ready(self) -> None:
        """Wait until all its processes take messages for the first time. Raises TimeoutError."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.readies() < self._processes:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the worker does not take messages: see {self.log}")
            time.sleep(0.1)

    def close(self) -> None:
        """End it for good."""
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
