"""`graphnode dlq export` and `graphnode dlq import`."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphnode.cli.dead_letters.session import Progress, exit_if_stopped, interruptible, open_queues
from graphnode.cli.dead_letters.shared_options import filter_options
from graphnode.cli.environment import FILE, env_file_option
from graphnode.settings import QUEUE_URLS

if TYPE_CHECKING:
    from graphnode.operations.dead_letters.letters import LetterFilter


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@filter_options
@click.option("--delete", is_flag=True, help="Delete each letter from the queue once it is on the disk.")
def export(file: Path, wanted: LetterFilter, names: tuple[str, ...], env_file: Path | None, delete: bool) -> None:
    """Write dead letters into the new FILE: JSON Lines, bodies and attributes unchanged.

    It holds users' data: only its owner may read it. The letters stay on their queue, unless --delete is given.
    """
    from graphnode.cli.dead_letters.rendering import not_released
    from graphnode.cli.recording import recorded_command
    from graphnode.operations.dead_letters.letter_files import ExportProgress, export_letters
    from graphnode.operations.dead_letters.subject import subject_of

    sqs, queues = open_queues(names, env_file)
    try:
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.FileError(str(file), error.strerror or "cannot be made") from None
    subject = subject_of(wanted, queues=", ".join(names))
    with (
        os.fdopen(opened, "wb") as target,
        recorded_command(
            "export and delete", subject.text, environment=os.environ, user_id=subject.user_id, changes=delete
        ) as recording,
        interruptible() as stopping,
    ):
        _sync_directory(file)
        for queue in queues.values():
            progress, done = Progress(), ExportProgress()
            with closing(export_letters(sqs, queue, wanted, target, delete=delete, stopping=stopping)) as reports:
                for done in reports:
                    progress.show(f"{queue.title}: {done.written:,} written")
            click.echo(
                f"{queue.title}: {done.seen:,} read, {done.written:,} written" + f", {done.deleted:,} deleted" * delete
            )
            recording.add(f"{queue.name}: {done.written:,} written, {done.deleted:,} deleted")
            if done.missing:
                click.echo(f"{queue.title}: SQS says there are about {done.missing:,} more.", err=True)
            if done.not_released:
                click.echo(not_released(queue.title, done.not_released), err=True)
            if stopping():
                recording.stopped()
                break
    exit_if_stopped(stopping, "Stopped. The file has what was written until then.")


def _sync_directory(file: Path) -> None:
    """Write a new file's name to the disk."""
    directory = os.open(file.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@click.command("import")
@click.argument("file", type=FILE)
@click.option("--to-source", is_flag=True, help="Send them to their source queue, as new messages.")
@click.option(
    "--skip", type=click.IntRange(0), default=0, help="Leave out this many lines: an earlier import sent them."
)
@env_file_option
def import_(file: Path, to_source: bool, skip: int, env_file: Path | None) -> None:
    """Put the letters of FILE, as an export wrote it, back on their dead-letter queues."""
    from graphnode.cli.recording import recorded_command
    from graphnode.operations.dead_letters.letter_files import import_letters, read_records

    with file.open("rb") as source:
        # The whole file is checked before anything is sent.
        needed = {record.queue for record in read_records(source)}
        if unknown := sorted(needed - set(QUEUE_URLS)):
            raise click.UsageError(f"{file} has letters of an unknown queue: {', '.join(unknown)}.")
        source.seek(0)
        sqs, queues = open_queues(tuple(sorted(needed)), env_file)
        progress, done = Progress(), skip
        reports = import_letters(sqs, queues, read_records(source), to_source=to_source, skip=skip)
        subject = f"dead letters in a file, to {'source' if to_source else 'dead-letter'} queues"
        with (
            recorded_command("import", subject, environment=os.environ) as recording,
            interruptible() as stopping,
            closing(reports),
        ):
            for done in reports:
                progress.show(f"{done:,} lines done")
                recording.report(f"{done - skip:,} sent")
                if stopping():
                    recording.stopped()
                    break
    where = "queues they came from" if to_source else "dead-letter queues"
    click.echo(f"{done - skip:,} letters are on the {where}.")
    exit_if_stopped(stopping, f"Stopped. Go on with --skip {done}.")
