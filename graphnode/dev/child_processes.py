"""A real worker and a stand-in AI server as child processes, which end when this process ends."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from graphnode.dev.child_log import Log
from graphnode.dev.guard import GuardedProcess
from graphnode.errors import GraphNodeError

#: Dramatiq's log line when a worker process takes messages.
READY = "Worker process is ready for action."

#: The stand-in AI server's log line when it takes requests. Its module, which has it too, imports scikit-learn.
STAND_IN_READY = "the stand-in AI server takes requests"

#: What the console says when it listens, before its address; and its usual port.
CONSOLE_READY = "The console is at"
CONSOLE_PORT = 8650

#: Seconds a start may take. It takes 2 on an idle machine, and many times that on a busy one.
START_TIMEOUT_S = 60.0

#: Seconds between two looks at its log.
POLL_S = 0.05

#: Seconds a stop may take: the settings below, and two seconds until Dramatiq has noticed and written its log.
GRACE_S = 9.0

#: A stop is quick, and hides no message for long.
SETTINGS = {"GRAPHNODE_POLL_GRACE": "1", "GRAPHNODE_SHUTDOWN_TIMEOUT": "5"}

#: Prefixes of the variables that say which deployment a worker works for, and how. None of them is inherited.
DEPLOYMENT_PREFIXES = ("AWS_", "DATABASE_", "FIREBASE_", "GOOGLE_", "GRAPHNODE_", "S3_", "SENTRY_", "SQS_")


class WorkerError(GraphNodeError):
    """The worker, or the stand-in AI server, does not start."""

    reason = "WORKER"


class Service:
    """A starting or running child process that serves a queue. Call `wait_until_ready` before you use it.

    Parameters:
      name: its name in messages to the user.
      command: the program and its arguments.
      environment: variables of docs/settings.md; they win over `SETTINGS`.
      ready: the text that each of its processes logs when it serves.
      processes: the number of its processes.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], *, ready: str, processes: int = 1
    ) -> None:
        self.name = name
        self.processes = processes
        self._ready = ready
        directory = Path(tempfile.mkdtemp(prefix="graphnode-service-"))
        #: The output of all its processes.
        self.log = Log(directory / "service.log")
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
        """The process ID of its main process."""
        return self._process.pid

    def returncode(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.returncode()

    def wait_until_ready(self) -> None:
        """Wait until all its processes serve. Raises WorkerError, which ends with the log."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.log.text().count(self._ready) < self.processes:
            if (code := self.returncode()) is not None:
                raise WorkerError(f"The {self.name} ended at once (exit code {code}):\n{self.log.tail()}")
            if time.monotonic() > deadline:
                raise WorkerError(f"The {self.name} is not ready after {START_TIMEOUT_S:.0f} s:\n{self.log.tail()}")
            time.sleep(POLL_S)

    def ask_to_stop(self) -> None:
        """Have it finish its messages and end; `stop` waits for it."""
        self._process.ask_to_stop()

    def stop(self) -> int:
        """Have it finish its messages and end; its exit code. After `GRACE_S` it is killed."""
        return self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Worker(Service):
    """A real worker: `dramatiq graphnode.actors`, as in production.

    Parameters:
      environment: as for Service.
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
        command = [sys.executable, "-m", "dramatiq", actors]
        command += ["--processes", str(processes), "--threads", str(threads)]
        super().__init__("worker", command, environment, ready=READY, processes=processes)


class StandIn(Service):
    """The stand-in AI server: `graphnode ai`.

    Parameters:
      environment: as for Service.
      options: options of the command.
    """

    def __init__(self, environment: Mapping[str, str], *options: str) -> None:
        command = [sys.executable, "-c", "from graphnode.cli import main; main()", "ai", *options]
        super().__init__("stand-in AI server", command, environment, ready=STAND_IN_READY)


class Console(Service):
    """The operator's page: `graphnode console`, at its usual port or, if that is taken, at any.

    Parameters:
      environment: as for Service.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-c", "from graphnode.cli import main; main()", "console"]
        command += ["--port", str(CONSOLE_PORT if _is_free(CONSOLE_PORT) else 0)]
        super().__init__("console", command, environment, ready=CONSOLE_READY)

    @property
    def address(self) -> str:
        """Its address, once it is ready."""
        return self.log.text().partition(CONSOLE_READY)[2].partition(";")[0].strip()


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def worker_environment(environment: Mapping[str, str], *, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a worker that works for this deployment only.

    Parameters:
      environment: the deployment's variables and settings.
      inherited: the environment that PATH, locale, proxies and the like are taken from.
    """
    general = {name: value for name, value in inherited.items() if not name.startswith(DEPLOYMENT_PREFIXES)}
    direct = ",".join(filter(None, [general.get("NO_PROXY", general.get("no_proxy", "")), "127.0.0.1", "localhost"]))
    # READY is a line of level info.
    level = "debug" if environment.get("GRAPHNODE_LOG_LEVEL") == "debug" else "info"
    return {
        **general,
        "NO_PROXY": direct,
        "no_proxy": direct,
        **SETTINGS,
        **environment,
        "GRAPHNODE_LOG_LEVEL": level,
    }
