"""The development stack, and results sent by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphnode.cli.environment import FILE, env_file_option, environment_of
from graphnode.errors import SettingsError

if TYPE_CHECKING:
    from graphnode.dev.samples import Half, ResultKind, Status


@click.command()
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=".graphnode.env",
    show_default=True,
    help="Write the stack's environment to this file when everything is ready, and remove it at the end.",
)
@click.option("--keep", is_flag=True, help="Keep the database in .graphnode/; queues and bucket start empty.")
@click.option("--no-ai", is_flag=True, help="Run no stand-in for the AI server: requests stay on their queue.")
def dev(env_file: Path, keep: bool, no_ai: bool) -> None:
    """Run PostgreSQL, SQS, S3, the worker, a stand-in AI server and the console until Ctrl-C, and show their logs.

    If DATABASE_URL is set, it runs no PostgreSQL and uses that one.
    """
    from graphnode.dev.foreground import run

    if not env_file.parent.is_dir():
        raise click.BadParameter(f"there is no directory {env_file.parent}.", param_hint="--env-file")
    if keep and os.environ.get("DATABASE_URL"):
        raise click.UsageError("--keep is for the embedded PostgreSQL, and DATABASE_URL names another: leave one out.")
    run(
        os.environ,
        env_file=env_file,
        kept=keep,
        with_ai=not no_ai,
        tell=lambda line: click.secho(line, bold=True),
        show=lambda text: click.echo(text, nl=False),
    )


@click.command()
def demo() -> None:
    """Make a graph of a folder of real text, and show each message on the way."""
    from rich.console import Console

    from graphnode.dev.demo import run

    if not run(Console(highlight=False)):
        sys.exit(1)


@click.command()
@click.argument("type_name", metavar="TYPE")
@click.option("--user", required=True, help="The user's ID.")
@click.option("--document", type=FILE, help="The result's document. Without it, one of the project's own.")
@click.option("--features", type=FILE, help="graph: the features file of --document.")
@click.option("--summary", type=FILE, help="graph: the summary of --document.")
@click.option("--status", type=click.Choice(["COMPLETED", "FAILED"]), default="COMPLETED", show_default=True)
@click.option("--error", help="The AI server's text about a failure.")
@click.option("--task-id", help="The task's ID. Without it, a new one.")
@click.option("--group", help="microscope: the workspace's ID.")
@click.option("--half", type=click.Choice(["block", "nonblock"]), help="microscope: send this half of the document.")
@click.option("--stage", help="progress: the current stage.", default="Clustering", show_default=True)
@click.option(
    "--percent", help="progress: how far it is.", type=click.FloatRange(0, 100), default=50, show_default=True
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds that it may take in all.",
)
@env_file_option
def deliver(
    type_name: str,
    user: str,
    document: Path | None,
    features: Path | None,
    summary: Path | None,
    status: Status,
    error: str | None,
    task_id: str | None,
    group: str | None,
    half: Half | None,
    stage: str,
    percent: float,
    timeout: float,
    env_file: Path | None,
) -> None:
    """Send one result as the AI server would, and wait until the worker has handled it.

    TYPE is graph, progress, summary, add-node, microscope or microscope-from-node, or the contract's name of the
    type. Queue, bucket and database are those of the environment, or of the file that `graphnode dev` wrote.

    Exit code 0: the task's row is final (with PROGRESS, for progress); 1: the message became a dead letter, or
    nothing happened in time.
    """
    from graphnode.dev import samples
    from graphnode.dev.deliver import deliver as send_and_wait
    from graphnode.dev.deliver import outcome_text

    try:
        kind = samples.kind_of(type_name)
    except KeyError:
        known = ", ".join(samples.KINDS)
        raise click.BadParameter(f"{type_name!r} is unknown; choose one of {known}.", param_hint="TYPE") from None
    files = {"--document": document, "--features": features, "--summary": summary}
    _check_options(kind, {name for name, file in files.items() if file}, half=half, group=group, status=status)
    environment = environment_of(env_file)
    if not environment.get("SQS_RESULT_QUEUE_URL"):
        raise SettingsError("SQS_RESULT_QUEUE_URL is missing: set it to the result queue's URL.")

    given = dict(zip(kind.documents, (document, features, summary), strict=False))
    if half:
        given = {samples.HALVES[half]: document}
    result = samples.result_of(
        kind,
        user_id=user,
        documents={field: file.read_bytes() for field, file in given.items() if file}
        or samples.packaged_documents(kind, user_id=user, half=half),
        status=status,
        error=error,
        task_id=task_id,
        group_id=group,
        half=half,
        extra={"currentStage": stage, "progressPercent": percent} if kind is samples.KINDS["progress"] else None,
    )
    outcome = send_and_wait(result, environment, timeout_s=timeout, tell=click.echo)
    click.echo(outcome_text(outcome, timeout_s=timeout), err=outcome is None)
    if outcome is None or outcome.letter:
        sys.exit(1)


def _check_options(kind: ResultKind, files: set[str], *, half: Half | None, group: str | None, status: Status) -> None:
    """Refuse options that would have no effect."""
    is_microscope = "standardized_s3_key" in kind.documents
    if (half or group) and not is_microscope:
        raise click.UsageError("--half and --group are for microscope results.")
    if files - {"--document"} and "featuresS3Key" not in kind.documents:
        raise click.UsageError("--features and --summary are for graph results.")
    if files and "--document" not in files:
        raise click.UsageError("--features and --summary go with --document.")
    if files and (status == "FAILED" or not kind.documents):
        raise click.UsageError("This result has no documents.")
