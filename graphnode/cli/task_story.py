"""`graphnode task`: a task's story."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from graphnode.cli.environment import env_file_option, environment_of, open_database
from graphnode.cli.json_output import echo_json


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="All details, as a JSON array of the tasks with this ID.")
@env_file_option
def task(task_id: str, as_json: bool, env_file: Path | None) -> None:
    """Show the story of the task ID: request, progress, failed attempts, result, notifications and pushes.

    The ID of a microscope document in halves shows both halves. Exit code 1: the task is unknown.
    """
    from graphnode.cli.story_rendering import story_text
    from graphnode.operations.stories.story import find_stories
    from graphnode.storage.schema import check_schema

    with open_database(environment_of(env_file)):
        check_schema()
        stories = find_stories(task_id)
    if as_json:
        echo_json(stories)
    elif stories:
        now = datetime.now(UTC)
        click.echo("\n\n".join(story_text(story, now=now) for story in stories))
    if not stories:
        click.echo(f"Task {task_id} is unknown: no row, no failed attempt. Is the ID complete?", err=True)
        sys.exit(1)
