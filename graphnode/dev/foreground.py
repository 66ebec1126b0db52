"""The development stack in the foreground: everything runs, and its logs go by, until it is told to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Never

from graphnode.dev import keep
from graphnode.dev.env_file import env_text, write_env_file
from graphnode.dev.localstack import LocalStack, LocalStackError
from graphnode.dev.stack import Stack, running_stack
from graphnode.dev.worker import Service, StandIn, Worker, WorkerError

#: Signals that ask for a stop: Ctrl-C, an operator or a supervisor, the end of the terminal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Seconds between two looks at the logs.
POLL_S = 0.1


def run(
    environment: Mapping[str, str],
    *,
    env_file: Path | None,
    kept: bool,
    with_ai: bool,
    tell: Callable[[str], None],
    show: Callable[[str], None],
) -> None:
    """Run the stack, a worker and the stand-in AI server until a stop signal.

    Parameters:
      environment: the user's; a DATABASE_URL in it is used, and own settings go to the worker.
      env_file: where to write the stack's environment while it runs.
      kept: whether the data lives on in `.graphnode`.
      with_ai: whether the stand-in AI server runs; without it, requests stay on their queue.
      tell: takes a line for each thing that happens.
      show: takes the logs as they grow.

    Raises LocalStackError, PostgresError, SchemaError, WorkerError, DirectoryInUse or SettingsError.
    """
    with stop_on_signals(), ExitStack() as running:
        if env_file:
            # One that an earlier run left behind, killed, speaks of servers that are gone.
            env_file.unlink(missing_ok=True)
        directory = running.enter_context(keep.kept_directory()) if kept else None
        stack = running.enter_context(
            running_stack(
                database_url=environment.get("DATABASE_URL"),
                postgres_directory=directory and directory / "postgres",
                tell=tell,
            )
        )
        if directory:
            keep.restore(directory, stack.environment)
            running.callback(save_unless_gone, directory, stack)
            tell(f"Data is kept in {directory.resolve()}")
        own = {name: value for name, value in environment.items() if name.startswith("GRAPHNODE_")}
        environment = {"GRAPHNODE_LOG_FORMAT": "console", **own, **stack.environment}
        services: list[Service] = [Worker(environment), *([StandIn(environment)] if with_ai else [])]
        for service in services:
            running.callback(show_gained, service, show)
            running.enter_context(service)
        for service in services:
            service.wait_until_ready()
            tell(f"The {service.name} is ready (process {service.pid})")
        if env_file:
            running.enter_context(env_file_while_ready(env_file, stack.environment))
        tell(f"Requests go to {stack.environment['SQS_REQUEST_QUEUE_URL']}")
        tell(f"Results go to {stack.environment['SQS_RESULT_QUEUE_URL']}")
        tell(f"Documents go to s3://{stack.environment['S3_PAYLOAD_BUCKET']}")
        tell(hint(env_file, with_ai=with_ai))
        running.callback(tell, "Stopping …")
        follow(services, stack.localstack, show)


def hint(env_file: Path | None, *, with_ai: bool) -> str:
    """What to do next."""
    if env_file is None:
        return "Ctrl-C stops everything; --env-file PATH would write the names of it all"
    command = "request graph --user you --input FOLDER" if with_ai else "deliver graph --user you"
    return f"Try: graphnode {command} --env-file {env_file} (Ctrl-C stops everything)"


def follow(services: Sequence[Service], localstack: LocalStack, show: Callable[[str], None]) -> Never:
    """Show what the services log, for ever. Raises WorkerError or LocalStackError when one of them ends by itself."""
    while True:
        for service in services:
            show_gained(service, show)
            if (code := service.returncode()) is not None:
                raise WorkerError(f"The {service.name} ended by itself (exit code {code}): its log says why.")
        if (code := localstack.returncode()) is not None:
            raise LocalStackError(f"LocalStack ended by itself (exit code {code}):\n{localstack.tail()}")
        time.sleep(POLL_S)


def show_gained(service: Service, show: Callable[[str], None]) -> None:
    """Show what a service has logged since the last time."""
    show(service.log.gained())


def save_unless_gone(directory: Path, stack: Stack) -> None:
    """Keep what LocalStack holds. If it ended by itself, what was kept before stays."""
    if stack.localstack.returncode() is None:
        keep.save(directory, stack.environment)


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


@contextmanager
def env_file_while_ready(path: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Have the environment file there during the block, and only then: who waits for it can use all that it names."""
    write_env_file(path, environment)
    try:
        yield
    finally:
        # Not one that somebody else has put there since.
        if path.exists() and path.read_text(encoding="utf-8") == env_text(environment):
            path.unlink()
