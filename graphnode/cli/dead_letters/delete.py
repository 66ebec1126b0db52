"""`graphnode dlq delete`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from graphnode.cli.dead_letters.session import exit_if_stopped, find_by_id, interruptible, not_found, open_queues
from graphnode.cli.dead_letters.shared_options import queue_option
from graphnode.cli.environment import env_file_option, open_database
from graphnode.text import printable


@click.command()
@click.argument("identity", metavar="ID")
@click.option("--because", required=True, help="Why: it is stored in the database, with your name.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@queue_option
@env_file_option
def delete(identity: str, because: str, yes: bool, names: tuple[str, ...], env_file: Path | None) -> None:
    """Delete the letter with this message ID, task ID or notification ID. It cannot be undone.

    A row in the table deleted_letters records which letter, its body's SHA-256, who deleted it, when and why. To keep
    the letter itself, run `graphnode dlq export` first.
    """
    from graphnode.cli.recording import recorded_command
    from graphnode.operations.actions import person
    from graphnode.operations.dead_letters.deletion import delete_letter
    from graphnode.operations.dead_letters.letters import letter_info
    from graphnode.storage.schema import check_schema

    if not because.strip():
        raise click.UsageError("--because is empty: say why.")
    sqs, queues = open_queues(names, env_file)
    with open_database(os.environ):
        check_schema()
        found = find_by_id(sqs, queues, identity)
        if len(found) > 1:
            listed = "\n".join(f"  {letter.message_id}" for _, letter in found)
            raise click.UsageError(f"{identity} has {len(found)} letters: delete them by their message ID.\n{listed}")
        ((queue, letter),) = found
        if not yes:
            info = letter_info(letter, queue.name)
            click.echo(printable(f"{info.reason}: {info.error}"), err=True)
            click.confirm(f"Delete the letter {letter.message_id} of {queue.title}?", abort=True, err=True)
        user_id = letter_info(letter, queue.name).user_id
        subject = f"the dead letter {letter.message_id} of {queue.name}"
        with (
            recorded_command("delete", subject, because=because, user_id=user_id) as recording,
            interruptible() as stopping,
        ):
            ended = delete_letter(sqs, queue, letter, because=because, deleted_by=person(), stopping=stopping)
            recording.add(ended)
    match ended:
        case "deleted":
            click.echo(f"Deleted {letter.message_id}.")
        case "refused by SQS":
            raise click.ClickException("SQS did not delete the letter: it is still there. Try it again.")
        case "stopped":
            exit_if_stopped(stopping, "Stopped. Nothing was deleted.")
        case "not found":
            raise not_found(identity)
