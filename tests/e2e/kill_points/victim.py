"""A worker process that reports the steps it passes, and kills itself at a given point.

The process is Dramatiq's own `worker_process`, forked as the `dramatiq` command forks it. Its parent is a fork server
that has imported everything: two hundred processes start, and the imports are most of a start's time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal, NamedTuple

import boto3
import dramatiq.cli
import firebase_admin.messaging  # noqa: F401  (imported before the fork, as all that takes long)
import httpcore  # noqa: F401
from dramatiq import Broker, MessageProxy, Middleware
from dramatiq.canteen import Canteen

from graphnode.actors import broker
from graphnode.contract.envelopes import RESULT_QUEUE
from graphnode.dev.child_processes import worker_environment
from graphnode.steps import Step, subscribe

#: Threads of each process.
THREADS = 2

#: The way of the extensions, which are for many messages at once.
HEARTBEAT = "heartbeat"

#: The threads of the pushes, which work beside the messages.
PUSHES = "pushes"

#: The thread of the sweeps, which works for no single message.
SWEEPS = "sweeps"

# The first client imports modules: do it before the fork. It does not connect.
boto3.session.Session(region_name="us-east-1").client("sqs")

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", __name__])


class Point(NamedTuple):
    """A point in the handling of a message.

    Parameters:
      way: the queue of the message, or the thread if it works for no single message: `heartbeat`, `pushes`.
      step: the step.
      edge: whether the step is about to begin or has just ended.
      number: 1 for the first time of the step, and so on.
    """

    way: str
    step: Step
    edge: Literal["before", "after"]
    number: int

    def __str__(self) -> str:
        return f"{self.edge} {self.step}" + (f" ({self.number})" if self.number > 1 else "")


class Passed(NamedTuple):
    """A process has passed a point, or was killed there, at this time of the machine's monotonic clock."""

    point: Point
    at: float
    killed: bool = False


class Ready(NamedTuple):
    """The process takes messages."""

    at: float


class Armed(NamedTuple):
    """The process has reset its counts, and will kill itself at this point, if any."""

    target: Point | None


Report = Passed | Ready | Armed


class Killer(Middleware):
    """Reports the steps of a process, and kills it at the target.

    Parameters:
      pipe: sends reports and receives targets.
    """

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self.pipe = pipe
        self._target: Point | None = None
        self._passed = Counter[tuple[str, Step, str]]()
        self._lock = threading.Lock()
        self._here = threading.local()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Count this thread's next steps for the message's queue."""
        self._here.way = message.queue_name

    @contextmanager
    def around(self, step: Step) -> Iterator[None]:
        """Pass both ends of a step."""
        self._pass(step, "before")
        self._here.brought = False
        try:
            yield
        finally:
            # An empty poll belongs to no message.
            if step != "receive" or self._here.brought:
                self._pass(step, "after")

    def count(self, event: str, amount: float, labels: dict[str, str]) -> None:
        """Keep whether the poll received messages."""
        if event == "received":
            self._here.brought = amount > 0

    def _way(self, step: Step) -> str:
        if step == "extend":
            return HEARTBEAT
        thread = threading.current_thread()
        # Dramatiq's consumer threads know their queue.
        known = getattr(self._here, "way", None) or getattr(thread, "queue_name", None)
        if known or f"-{RESULT_QUEUE}-" in f"{thread.name}-":
            return known or RESULT_QUEUE
        return PUSHES if thread.name.startswith(PUSHES) else thread.name

    def _pass(self, step: Step, edge: Literal["before", "after"]) -> None:
        way = self._way(step)
        if way == SWEEPS:
            return
        with self._lock:
            key = way, step, edge
            self._passed[key] += 1
            point = Point(*key, self._passed[key])
            if point == self._target:
                self.pipe.send(Passed(point, time.monotonic(), killed=True))
                os.kill(os.getpid(), signal.SIGKILL)
            # Empty polls are not reported.
            if point.number == 1 or (step, edge) != ("receive", "before"):
                self.pipe.send(Passed(point, time.monotonic()))

    def set(self) -> None:
        """Report that the process has started. This object is the event that Dramatiq's main process waits for."""
        with self._lock:
            self.pipe.send(Ready(time.monotonic()))

    def hear(self) -> None:
        """Receive targets until the pipe is closed; then kill the process."""
        while True:
            try:
                target = self.pipe.recv()
            except EOFError:
                os.kill(os.getpid(), signal.SIGKILL)
            with self._lock:
                self._passed.clear()
                self._target = target
                self.pipe.send(Armed(target))


def work(environment: dict[str, str], log: str, pipe: Connection[Any, Any]) -> None:
    """Run a worker process until it is killed."""
    os.environ.clear()
    os.environ.update(environment)
    output = Path(log).open("a", buffering=1)  # noqa: SIM115  (open as long as the process lives)
    os.dup2(output.fileno(), sys.stdout.fileno())
    os.dup2(output.fileno(), sys.stderr.fileno())
    killer = Killer(pipe)
    broker.add_middleware(killer, before=type(broker.middleware[0]))
    subscribe(around=killer.around, count=killer.count)
    threading.Thread(target=killer.hear, name="killer", daemon=True).start()
    arguments = dramatiq.cli.make_argument_parser().parse_args(["graphnode.actors", "--threads", str(THREADS)])
    dramatiq.cli.worker_process(arguments, 0, output, multiprocessing.Value(Canteen), killer)


class Victim:
    """A worker process, seen from the test.

    Parameters:
      environment: the deployment's environment and settings.
      log: its log file.
    """

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.reports: list[Report] = []
        #: When it was ready, in monotonic seconds.
        self.ready_at: float | None = None
        self._pipe, theirs = FORKS.Pipe()
        whole = worker_environment(environment, inherited=os.environ)
        self._process: ForkServerProcess = FORKS.Process(target=work, args=(whole, str(log), theirs), daemon=True)
        self._process.start()
        theirs.close()

    def listen(self, *, timeout_s: float) -> list[Report]:
        """Its new reports. Waits for the first one up to the timeout."""
        new: list[Report] = []
        try:
            while self._pipe.poll(0 if new else timeout_s):
                report: Report = self._pipe.recv()
                new.append(report)
                if isinstance(report, Ready):
                    self.ready_at = report.at
        except (EOFError, ConnectionResetError):
            # The process has ended: no more reports come.
            self._process.join()
        self.reports += new
        return new

    def arm(self, target: Point | None) -> None:
        """Reset its counts, and have it kill itself at this point."""
        self.reports.clear()
        self._pipe.send(target)

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.exitcode is None

    def passed(self) -> dict[Point, float]:
        """When it passed each point since it was armed. The point of its kill is not included."""
        return {report.point: report.at for report in self.reports if isinstance(report, Passed) and not report.killed}

    def killed_at(self) -> float | None:
        """When it was killed at its point; None if it was not."""
        return next((report.at for report in self.reports if isinstance(report, Passed) and report.killed), None)

    def is_armed(self) -> bool:
        """Whether it has received its last target."""
        return any(isinstance(report, Armed) for report in self.reports)

    def end(self) -> None:
        """Kill it, if it runs."""
        self._process.kill()
        self._process.join()
        self._pipe.close()
