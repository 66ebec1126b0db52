"""What became of a task."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from graphnode.cli.environment import env_file_option, environment_of, open_database


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="All that is stored, as a JSON array of the tasks with this ID.")
@env_file_option
def task(task_id: str, as_json: bool, env_file: Path | None) -> None:
    """Tell the story of the task ID: request, progress, failed attempts, result, notifications and pushes.

    The ID of a microscope document that was sent in halves means both of them. Exit code 1: nothing is known of it.
    """
    import msgspec

    from graphnode.operations.stories.reading import stories
    from graphnode.operations.stories.telling import story_text
    from graphnode.storage.schema import check_schema

    with open_database(environment_of(env_file)):
        check_schema()
        found = stories(task_id)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif found:
        now = datetime.now(UTC)
        click.echo("\n\n".join(story_text(story, now=now) for story in found))
    if not found:
        click.echo(f"Nothing is known of task {task_id}: no row, no failed attempt. Is its ID complete?", err=True)
        sys.exit(1)
