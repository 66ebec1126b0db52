"""A real worker: `dramatiq graphnode.actors`, as it runs in production, but as a child that ends with this process."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from graphnode.dev.guard import GuardedProcess
from graphnode.dev.logs import Log
from graphnode.errors import GraphNodeError

#: What Dramatiq logs when a worker process takes messages.
READY = "Worker process is ready for action."

#: Seconds that a start may take: 2 on an idle machine, and many times that on a busy one.
START_TIMEOUT_S = 60.0

#: Seconds between two looks at its log.
POLL_S = 0.05

#: Seconds that a stop may take: the settings below, and two seconds until Dramatiq has noticed and written its log.
GRACE_S = 9.0

#: A stop is quick, and leaves no message hidden that nobody waits for.
SETTINGS = {"GRAPHNODE_POLL_GRACE": "1", "GRAPHNODE_SHUTDOWN_TIMEOUT": "5"}

#: Beginnings of names that decide which deployment a worker works for, and how: nothing of them is inherited.
DEPLOYMENT_PREFIXES = ("AWS_", "DATABASE_", "FIREBASE_", "GOOGLE_", "GRAPHNODE_", "S3_", "SQS_")


class WorkerError(GraphNodeError):
    """The worker does not start."""

    reason = "WORKER"


class Worker:
    """A starting or running worker; `wait_until_ready` before the first look at what it does.

    Parameters:
      environment: names of design.md's Environment, and own settings; they win over `SETTINGS`.
      processes, threads: as for `dramatiq`.
      actors: the module that declares the actors.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        processes: int = 1,
        threads: int = 4,
        actors: str = "graphnode.actors",
    ) -> None:
        self.processes = processes
        directory = Path(tempfile.mkdtemp(prefix="graphnode-worker-"))
        #: All that it and its processes write.
        self.log = Log(directory / "worker.log")
        command = [sys.executable, "-m", "dramatiq", actors]
        command += ["--processes", str(processes), "--threads", str(threads)]
        try:
            self._process = GuardedProcess(
                command,
                log=self.log.path,
                env=worker_environment(environment, inherited=os.environ),
                grace_s=GRACE_S,
                remove=directory,
            )
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    @property
    def pid(self) -> int:
        """The process ID of Dramatiq's main process."""
        return self._process.pid

    def returncode(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.returncode()

    def wait_until_ready(self) -> None:
        """Wait until all its processes take messages. Raises WorkerError, which ends with the log."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.log.text().count(READY) < self.processes:
            if (code := self.returncode()) is not None:
                raise WorkerError(f"The worker ended at once (exit code {code}):\n{self.log.tail()}")
            if time.monotonic() > deadline:
                raise WorkerError(f"The worker is not ready after {START_TIMEOUT_S:.0f} s:\n{self.log.tail()}")
            time.sleep(POLL_S)

    def stop(self) -> int:
        """Have it finish what it is at and end; its exit code. What takes too long is ended by force."""
        return self._process.stop()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def worker_environment(environment: Mapping[str, str], *, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a worker that works for this deployment and no other.

    Parameters:
      environment: the deployment's names, and own settings.
      inherited: where PATH, locale, proxies and the like come from.
    """
    general = {name: value for name, value in inherited.items() if not name.startswith(DEPLOYMENT_PREFIXES)}
    direct = ",".join(filter(None, [general.get("NO_PROXY", general.get("no_proxy", "")), "127.0.0.1", "localhost"]))
    # READY is logged as information.
    level = "debug" if environment.get("GRAPHNODE_LOG_LEVEL") == "debug" else "info"
    return {
        **general,
        "NO_PROXY": direct,
        "no_proxy": direct,
        **SETTINGS,
        **environment,
        "GRAPHNODE_LOG_LEVEL": level,
    }
