"""What each `graphnode dlq` command needs: AWS clients, the queues, an end by Ctrl-C, and progress."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from graphnode.cli.environment import environment_of
from graphnode.contract.envelopes import REQUEST_QUEUE, RESULT_QUEUE
from graphnode.errors import NoSuchLetter, SettingsError
from graphnode.settings import QUEUE_URLS, QueueSettings, read_settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from graphnode.clients.aws import Aws
    from graphnode.operations.dead_letters.letters import Letter
    from graphnode.operations.dead_letters.reader import LetterQueue

#: Seconds between two lines of progress.
PROGRESS_S = 2.0

#: The exit code after Ctrl-C.
INTERRUPTED = 130


def own_aws() -> Aws:
    """AWS of this process's environment, after `open_queues`. boto3 finds the credentials."""
    from graphnode.clients.aws import Aws

    return Aws(region=os.environ["AWS_REGION"], endpoint_url=os.environ.get("AWS_ENDPOINT_URL") or None)


def open_queues(names: tuple[str, ...], env_file: Path | None) -> tuple[SQSClient, dict[str, LetterQueue]]:
    """An SQS client and the dead-letter queues, by name. Adds the file's values to this process's environment.

    Parameters:
      names: the queues to find; empty: all that are set up. Only the request queue is optional.

    Raises SettingsError.
    """
    from graphnode.operations.dead_letters.reader import find_queue

    os.environ.update(environment_of(env_file))
    read_settings(os.environ, QueueSettings)
    if not os.environ.get("AWS_REGION"):
        raise SettingsError("AWS_REGION is missing: set it to an AWS region such as eu-central-1.")
    sqs = own_aws().sqs()
    queues = {}
    for name in names or QUEUE_URLS:
        is_optional = name == REQUEST_QUEUE and name not in names
        url = os.environ.get(QUEUE_URLS[name])
        queue = find_queue(sqs, name, url) if url else None
        if queue:
            queues[name] = queue
            if queue.own_limit is not None:
                click.echo(
                    f"Careful: {queue.title} has a redrive policy of its own. Each read counts as a receive; after "
                    f"{queue.own_limit} receives SQS moves a letter away from it: remove that policy.",
                    err=True,
                )
        elif url and not is_optional:
            raise SettingsError(f"The queue {url} has no dead-letter queue: give it a redrive policy.")
        elif not is_optional:
            raise SettingsError(f"{QUEUE_URLS[name]} is missing: set it to the queue's URL, or choose with --queue.")
    return sqs, queues


def letters_of_task(task_id: str, environment: Mapping[str, str]) -> list[tuple[LetterQueue, Letter]]:
    """The dead letters of a task, of results and requests, each with its queue.

    Raises SettingsError, NoSuchQueue, and botocore's errors after a few seconds.
    """
    from graphnode.clients.aws import QUICK, Aws
    from graphnode.operations.dead_letters.reader import find_queue

    read_settings(environment, QueueSettings)
    if missing := [name for name in ("AWS_REGION", QUEUE_URLS[RESULT_QUEUE]) if not environment.get(name)]:
        raise SettingsError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.")
    sqs = Aws.of_environment(environment, limits=QUICK).sqs()
    urls = {name: environment.get(QUEUE_URLS[name]) for name in (RESULT_QUEUE, REQUEST_QUEUE)}
    queues = {name: queue for name, url in urls.items() if url and (queue := find_queue(sqs, name, url))}
    return _letters_with(sqs, queues, task_id)


def find_by_id(sqs: SQSClient, queues: Mapping[str, LetterQueue], identity: str) -> list[tuple[LetterQueue, Letter]]:
    """The letters with this ID, each with its queue. Raises NoSuchLetter."""
    found = _letters_with(sqs, queues, identity)
    if not found:
        raise not_found(identity)
    return found


def _letters_with(sqs: SQSClient, queues: Mapping[str, LetterQueue], identity: str) -> list[tuple[LetterQueue, Letter]]:
    from graphnode.operations.dead_letters.reader import find_letters

    with interruptible() as stopping:
        found = []
        for queue in queues.values():
            letters = find_letters(sqs, queue, identity, stopping=stopping)
            found += [(queue, letter) for letter in letters]
            if stopping() or any(letter.message_id == identity for letter in letters):
                break
    exit_if_stopped(stopping, "Stopped.")
    return found


def not_found(identity: str) -> NoSuchLetter:
    """The error for an ID that no letter has."""
    return NoSuchLetter(
        f"No dead letter has the message, task or notification ID {identity}. If somebody else reads the queue just "
        "now, it may be hidden for up to 2 minutes."
    )


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """A function that says whether Ctrl-C or SIGTERM has asked to stop. A second signal ends the process at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def stop(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        restore()
        click.echo("Stopping, and making the letters visible again …", err=True)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield asked.is_set
    finally:
        restore()


def exit_if_stopped(stopping: Callable[[], bool], text: str) -> None:
    """Print a text and exit with 130 if Ctrl-C has asked to stop."""
    if stopping():
        click.echo(text, err=True)
        sys.exit(INTERRUPTED)


class Progress:
    """Prints progress on standard error, at most every PROGRESS_S seconds."""

    def __init__(self) -> None:
        self._printed = time.monotonic()

    def show(self, text: str) -> None:
        """Print a text, unless the last one was printed a moment ago."""
        now = time.monotonic()
        if now - self._printed >= PROGRESS_S:
            self._printed = now
            click.echo(text, err=True)
