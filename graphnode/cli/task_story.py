"""`graphnode task`: a task's story."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphnode.cli.environment import env_file_option, environment_of, open_database
from graphnode.cli.json_output import echo_json
from graphnode.text import printable

if TYPE_CHECKING:
    from graphnode.operations.stories.story import Story


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="All details, as a JSON array of the tasks with this ID.")
@env_file_option
def task(task_id: str, as_json: bool, env_file: Path | None) -> None:
    """Show the story of the task ID: request, progress, failed attempts, result, notifications and pushes.

    The ID of a microscope document in halves shows both halves. A task that the database does not know is looked for
    among the dead letters. Exit code 1: the task is unknown.
    """
    from graphnode.cli.story_rendering import story_text
    from graphnode.operations.stories.story import find_stories
    from graphnode.storage.schema import check_schema

    environment = environment_of(env_file)
    with open_database(environment):
        check_schema()
        stories = find_stories(task_id)
    unread = None
    if not stories:
        stories, unread = _stories_of_letters(task_id, environment)
    if as_json:
        echo_json(stories)
    elif stories:
        now = datetime.now(UTC)
        click.echo("\n\n".join(story_text(story, now=now) for story in stories))
        if any(story.status != "COMPLETED" and story.attempts and story.attempts[-1].given_up for story in stories):
            click.echo(f"\nLook at its dead letter: {shlex.join(['graphnode', 'dlq', 'show', task_id])}")
    if not stories:
        click.echo(f"Task {printable(task_id)} is unknown: {_unknown(task_id, unread)}", err=True)
        sys.exit(1)


def _stories_of_letters(task_id: str, environment: Mapping[str, str]) -> tuple[list[Story], str | None]:
    """The stories that dead letters tell of a task, and why the dead letters could not be read."""
    from graphnode.cli.dead_letters.session import letters_of_task
    from graphnode.errors import Unexpected, classify_error
    from graphnode.operations.dead_letters.letters import letter_info
    from graphnode.operations.dead_letters.report import stories_of_letters

    try:
        found = letters_of_task(task_id, environment)
    except Exception as raised:
        error = classify_error(raised)
        if isinstance(error, Unexpected):
            raise
        return [], printable(str(error)).rstrip(".")
    return stories_of_letters([letter_info(letter, queue.name) for queue, letter in found]), None


def _unknown(task_id: str, unread: str | None) -> str:
    if unread is None:
        return "no row, no failed attempt, no dead letter. Is the ID complete?"
    look = shlex.join(["graphnode", "dlq", "show", task_id])
    return f"no row, no failed attempt. The dead letters were not read: {unread}. `{printable(look)}` looks there."
