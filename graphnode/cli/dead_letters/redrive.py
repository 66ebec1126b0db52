"""`graphnode dlq redrive`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphnode.cli.dead_letters.session import Progress, exit_if_stopped, interruptible, open_queues
from graphnode.cli.dead_letters.shared_options import filter_options
from graphnode.text import printable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from graphnode.operations.dead_letters.letters import LetterFilter
    from graphnode.operations.dead_letters.reader import LetterQueue
    from graphnode.operations.dead_letters.redrive import RedriveProgress


def _rate(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """A number of letters a second."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,5})(?:/([sm]))?", value)
    if not found or int(found[1]) == 0:
        raise click.BadParameter(f"{value!r} is no rate: expected such as 50/s or 30/m.")
    return int(found[1]) / (60 if found[2] == "m" else 1)


@click.command()
@filter_options
@click.option("--all", "all_letters", is_flag=True, help="All letters: required without another filter.")
@click.option("--limit", type=click.IntRange(1), help="At most this many.")
@click.option("--rate", "per_second", callback=_rate, help="At most this many a second or a minute: 50/s, 30/m.")
@click.option("--dry-run", is_flag=True, help="Count the letters, redrive none.")
@click.option("--native", is_flag=True, help="Have SQS itself move all letters: a message move task.")
def redrive(
    wanted: LetterFilter,
    names: tuple[str, ...],
    env_file: Path | None,
    all_letters: bool,
    limit: int | None,
    per_second: float | None,
    dry_run: bool,
    native: bool,
) -> None:
    """Put dead letters back on their source queue, where they have all their attempts again; the others stay.

    Each message is sent first, then its letter is deleted. Ctrl-C stops after the current batch; the same command
    continues. The letter of a task that is COMPLETED has no effect.
    """
    from graphnode.cli.recording import recorded_command
    from graphnode.operations.dead_letters.subject import subject_of

    if any(wanted) == all_letters:
        raise click.UsageError("Say which letters: --reason, --task, --type or --older-than; or else --all.")
    if native and (not all_letters or limit or dry_run):
        raise click.UsageError("SQS itself moves all letters of a queue: --native goes with --all, --queue and --rate.")
    sqs, queues = open_queues(names, env_file)
    subject = subject_of(wanted, queues=", ".join(names))
    with (
        recorded_command(
            "redrive", subject.text, environment=os.environ, user_id=subject.user_id, changes=not dry_run
        ) as recording,
        interruptible() as stopping,
    ):
        left = limit
        for queue in queues.values():
            if native:
                recording.add(follow_move(sqs, queue, per_second, stopping))
            else:
                done = _redrive(sqs, queue, wanted, left, per_second, dry_run, stopping)
                recording.add(f"{queue.name}: {done.seen:,} read, {done.moved:,} redriven, {done.refused:,} refused")
                left = None if left is None else left - done.matching
            if stopping() or left == 0:
                break
        if stopping():
            recording.stopped()
    exit_if_stopped(stopping, "Stopped. The same command goes on with what is left.")


def _redrive(
    sqs: SQSClient,
    queue: LetterQueue,
    wanted: LetterFilter,
    limit: int | None,
    per_second: float | None,
    dry_run: bool,
    stopping: Callable[[], bool],
) -> RedriveProgress:
    """Redrive a queue's letters and print the outcome."""
    from graphnode.cli.dead_letters.rendering import not_released
    from graphnode.operations.dead_letters.redrive import RedriveProgress, redrive_letters

    progress, done = Progress(), RedriveProgress()
    reports = redrive_letters(
        sqs, queue, wanted, limit=limit, per_second=per_second, dry_run=dry_run, stopping=stopping
    )
    with closing(reports):
        for done in reports:
            progress.show(f"{queue.title}: {done.seen:,} read, {done.matching:,} match, {done.moved:,} redriven")
    verb = f"{done.matching:,} would be redriven" if dry_run else f"{done.moved:,} redriven"
    click.echo(f"{queue.title}: {done.seen:,} read, {verb}")
    if done.refused:
        click.echo(f"{queue.title}: SQS refused {done.refused:,}, they stay: {printable(done.error or '')}", err=True)
    if done.undeleted:
        click.echo(
            f"{queue.title}: {done.undeleted:,} were redriven and could not be deleted: redriving them again changes "
            "nothing.",
            err=True,
        )
    if done.failed_again:
        click.echo(
            f"{queue.title}: {done.failed_again:,} failed again, and are dead letters again: graphnode dlq list",
            err=True,
        )
    if done.missing:
        click.echo(f"{queue.title}: SQS says there are about {done.missing:,} more: run it again.", err=True)
    if done.not_released:
        click.echo(not_released(queue.title, done.not_released), err=True)
    return done


def follow_move(sqs: SQSClient, queue: LetterQueue, per_second: float | None, stopping: Callable[[], bool]) -> str:
    """Have SQS move a queue's letters and print the progress; Ctrl-C cancels the move. Returns what came of it."""
    from graphnode.operations.dead_letters.move_tasks import RUNNING, cancel_move, newest_move, start_move

    move = newest_move(sqs, queue)
    if move and move.status in RUNNING:
        click.echo(f"{queue.title}: a move task is running already; this follows it.", err=True)
    else:
        start_move(sqs, queue, per_second=None if per_second is None else max(1, int(per_second)))
    progress, cancelled = Progress(), False
    while (move := newest_move(sqs, queue)) and move.status in RUNNING:
        progress.show(f"{queue.title}: {move.status}, {move.moved:,} moved of about {move.total or 0:,}")
        if stopping() and not cancelled and move.handle:
            cancel_move(sqs, move.handle)
            cancelled = True
        time.sleep(0.2)
    if not move:
        return ""
    failure = f": {printable(move.failure)}" if move.failure else ""
    click.echo(f"{queue.title}: {move.status}, {move.moved:,} moved{failure}")
    return f"{queue.name}: {move.status}, {move.moved:,} moved"
