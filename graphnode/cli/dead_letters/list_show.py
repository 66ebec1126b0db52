"""`graphnode dlq list` and `graphnode dlq show`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphnode.cli.dead_letters.session import (
    Progress,
    exit_if_stopped,
    find_by_id,
    interruptible,
    open_queues,
    own_aws,
)
from graphnode.cli.dead_letters.shared_options import filter_options, queue_option
from graphnode.cli.environment import env_file_option, open_database
from graphnode.cli.json_output import echo_json
from graphnode.contract.envelopes import RESULT_QUEUE
from graphnode.errors import SettingsError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from graphnode.operations.dead_letters.letters import LetterFilter
    from graphnode.operations.dead_letters.reader import LetterQueue, Listing


@click.command("list")
@filter_options
@click.option("--all", "all_letters", is_flag=True, help="Every letter, not the oldest 5 of each group.")
@click.option("--json", "as_json", is_flag=True, help="All details, as a JSON array of the queues.")
def list_(
    wanted: LetterFilter, names: tuple[str, ...], env_file: Path | None, all_letters: bool, as_json: bool
) -> None:
    """List dead letters by reason, task type and age, with advice for each reason."""
    from graphnode.cli.dead_letters.rendering import SHOWN, incompleteness, list_text
    from graphnode.operations.dead_letters.advice import RUNBOOK
    from graphnode.operations.dead_letters.letters import count_by_reason

    sqs, queues = open_queues(names, env_file)
    with interruptible() as stopping:
        listings = []
        for queue in queues.values():
            listings.append(_list_queue(sqs, queue, wanted, stopping))
            if stopping():
                break
    if as_json:
        found = [
            {
                "queue": one.queue.name,
                "dead_letter_queue": one.queue.url,
                "count": len(one.letters),
                "others": one.others,
                "by_reason": dict(count_by_reason(one.letters)),
                "complete": not (one.missing or one.hidden or stopping()),
                "letters": one.letters,
            }
            for one in listings
        ]
        echo_json(found)
    else:
        texts = [list_text(one, now=datetime.now(UTC), most=None if all_letters else SHOWN) for one in listings]
        click.echo("\n\n".join(texts))
        if any(one.letters or one.others for one in listings):
            click.echo(
                "\nLook at one: graphnode dlq show ID\nPut back: graphnode dlq redrive --reason REASON --dry-run"
                f"\nMore: {RUNBOOK}#dead-letters"
            )
    for listing in listings:
        for note in incompleteness(listing):
            click.echo(note, err=True)
    exit_if_stopped(stopping, "The list is not complete.")


def _list_queue(sqs: SQSClient, queue: LetterQueue, wanted: LetterFilter, stopping: Callable[[], bool]) -> Listing:
    from graphnode.operations.dead_letters.reader import list_letters

    progress = Progress()
    return list_letters(
        sqs,
        queue,
        wanted=wanted,
        stopping=stopping,
        on_progress=lambda seen: progress.show(f"{queue.title}: {seen:,} read"),
    )


@click.command()
@click.argument("identity", metavar="ID")
@queue_option
@click.option("--diagnose", is_flag=True, help="Fetch and decode the documents that a result names.")
@click.option("--json", "as_json", is_flag=True, help="All details, as a JSON array of the letters.")
@env_file_option
def show(identity: str, names: tuple[str, ...], diagnose: bool, as_json: bool, env_file: Path | None) -> None:
    """Show the letters with this message ID, task ID or notification ID, and what to do about them.

    The message ID may be the letter's own, or that of the message that failed, as log lines have it.

    The objects that a letter names are looked up in S3, its task and failed attempts in the database.
    """
    from graphnode.cli.dead_letters.rendering import letter_text
    from graphnode.operations.dead_letters.report import report_letter

    sqs, queues = open_queues(names, env_file)
    found = find_by_id(sqs, queues, identity)
    bucket = os.environ.get("S3_PAYLOAD_BUCKET")
    if diagnose and not bucket and any(queue.name == RESULT_QUEUE for queue, _ in found):
        raise SettingsError("S3_PAYLOAD_BUCKET is missing: --diagnose fetches the documents from there.")
    s3, no_database = own_aws().s3(), None
    with ExitStack() as stack:
        try:
            stack.enter_context(open_database(os.environ))
        except SettingsError as error:
            no_database = str(error)
        reports = [
            report_letter(
                letter,
                queue,
                s3=s3,
                bucket=bucket,
                no_database=no_database,
                largest_bytes=_largest_document() if diagnose else None,
            )
            for queue, letter in found
        ]
    if as_json:
        echo_json(reports)
    else:
        click.echo("\n\n".join(letter_text(report, now=datetime.now(UTC)) for report in reports))


def _largest_document() -> int:
    """The worker's size limit of a document, in bytes. A value that is no number counts as not set."""
    from graphnode.settings import FIELDS

    given = os.environ.get("GRAPHNODE_MAX_DOCUMENT_BYTES", "")
    return int(given) if given.isdecimal() else int(FIELDS["max_document_bytes"].default)
