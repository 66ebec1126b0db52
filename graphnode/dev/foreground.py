"""The development stack in the foreground: it runs and shows its logs until a stop signal."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Never

import graphnode.dev.ai
from graphnode.dev.child_processes import Console, Service, StandIn, Worker, WorkerError
from graphnode.dev.localstack import LocalStack, LocalStackError
from graphnode.dev.ownership import owned_directory, owned_env_file, remove_left_behind
from graphnode.dev.stack import running_stack
from graphnode.operations.env_file import ENV_FILE
from graphnode.settings import DatabaseSettings, read_settings

#: Signals that ask for a stop: Ctrl-C, an operator or a supervisor, the end of the terminal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Seconds between two looks at the logs.
POLL_S = 0.1

#: A folder of text to make a graph of.
SOURCES = Path(graphnode.dev.ai.__file__).with_name("corpus") / "sources"


def run(
    environment: Mapping[str, str],
    *,
    env_file: Path,
    kept: bool,
    with_ai: bool,
    tell: Callable[[str], None],
    show: Callable[[str], None],
) -> None:
    """Run the stack, a worker and the stand-in AI server until a stop signal.

    Parameters:
      environment: the user's; a DATABASE_URL in it is used, and its GRAPHNODE_ settings go to the worker.
      env_file: where to write the stack's environment while it runs.
      kept: whether the database stays in `.graphnode` for the next run; queues and bucket always start empty.
      with_ai: whether the stand-in AI server runs; without it, requests stay on their queue.
      tell: takes a line for each thing that happens.
      show: takes new text of the logs.

    Raises LocalStackError, PostgresError, SchemaError, WorkerError, NotOurs or SettingsError.
    """
    # Checked before it is shown.
    given = read_settings(environment, DatabaseSettings).database_url if environment.get("DATABASE_URL") else None
    with stop_on_signals(), ExitStack() as running:
        remove_left_behind(env_file)
        directory = running.enter_context(owned_directory()) if kept else None
        stack = running.enter_context(
            running_stack(
                database_url=given,
                postgres_directory=directory and directory / "postgres",
                tell=tell,
            )
        )
        if directory:
            tell(f"The database is kept in {directory.resolve()}; queues and bucket start empty")
        own = {name: value for name, value in environment.items() if name.startswith("GRAPHNODE_") and name != ENV_FILE}
        environment = {"GRAPHNODE_LOG_FORMAT": "console", **own, **stack.environment}
        console = Console(environment)
        services: list[Service] = [Worker(environment), *([StandIn(environment)] if with_ai else []), console]
        for service in services:
            running.callback(show_new_text, service, show)
            running.enter_context(service)
        for service in services:
            service.wait_until_ready()
            tell(f"The {service.name} is ready (process {service.pid})")
        running.enter_context(owned_env_file(env_file, stack.environment))
        tell(f"Requests go to {stack.environment['SQS_REQUEST_QUEUE_URL']}")
        tell(f"Results go to {stack.environment['SQS_RESULT_QUEUE_URL']}")
        tell(f"Documents go to s3://{stack.environment['S3_PAYLOAD_BUCKET']}")
        tell(f"Look at all of it: {console.address}")
        tell("To use it, paste these lines into another terminal; Ctrl-C stops everything:")
        for line in first_commands(env_file, with_ai=with_ai):
            tell(f"  {line}")
        for service in services:
            running.callback(service.ask_to_stop)
        running.callback(tell, "Stopping …")
        follow(services, stack.localstack, show)


def first_commands(env_file: Path, *, with_ai: bool) -> list[str]:
    """Two lines for a shell: the first makes `graphnode` work on this stack, the second is something to try."""
    programs = Path(sys.executable).parent
    is_on_path = shutil.which("graphnode") == str(programs / "graphnode")
    path = "" if is_on_path else f"PATH={shlex.quote(str(programs))}:$PATH "
    tried = f"request graph --user ada --input {shlex.quote(str(SOURCES))}" if with_ai else "deliver graph --user ada"
    return [f"export {path}{ENV_FILE}={shlex.quote(str(env_file.resolve()))}", f"graphnode {tried}"]


def follow(services: Sequence[Service], localstack: LocalStack, show: Callable[[str], None]) -> Never:
    """Show what the services log, for ever. Raises WorkerError or LocalStackError when one of them ends by itself."""
    while True:
        for service in services:
            show_new_text(service, show)
            if (code := service.returncode()) is not None:
                raise WorkerError(f"The {service.name} ended by itself (exit code {code}): its log says why.")
        if (code := localstack.returncode()) is not None:
            raise LocalStackError(f"LocalStack ended by itself (exit code {code}):\n{localstack.tail()}")
        time.sleep(POLL_S)


def show_new_text(service: Service, show: Callable[[str], None]) -> None:
    """Show what a service has logged since the last time."""
    show(service.log.new_text())


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Leave the block at the first stop signal, and clean up undisturbed by further ones."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    # `nohup` has SIGHUP ignored, and means it.
    heeded = [
        number for number in STOP_SIGNALS if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN)
    ]
    previous = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
