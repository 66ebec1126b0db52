"""`graphnode migrate`, `prune` and `forget`: the schema, and users' data."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from graphnode.cli.environment import env_file_option, environment_of, open_database
from graphnode.text import escaped

#: The longest time that SQS keeps a message, on its queue and then on its dead-letter queue.
SAFE_AGE = timedelta(days=28)


@click.command()
@env_file_option
def migrate(env_file: Path | None) -> None:
    """Migrate the database of DATABASE_URL to the newest schema. Workers may run meanwhile.

    A migration that fails is rolled back; those before it stay applied. Run the command again.
    """
    from graphnode.storage.schema import check_schema
    from graphnode.storage.schema import migrate as apply_migrations

    with open_database(environment_of(env_file)):
        apply_migrations(tell=click.echo)
        newer = check_schema()
    if newer:
        click.echo(f"The schema is newer, with {', '.join(newer)}; this version works with it.")
    else:
        click.echo("The schema is up to date.")


def _age(_context: click.Context, _option: click.Parameter, value: str) -> timedelta:
    """A number of days or hours."""
    found = re.fullmatch(r"(\d{1,5})([dh])", value)
    if not found:
        raise click.BadParameter(f"{value!r} is no age: expected days or hours, such as 90d or 36h.")
    return timedelta(**{"days" if found[2] == "d" else "hours": int(found[1])})


@click.command()
@click.option("--older-than", "age", callback=_age, required=True, help="Delete only rows older than this: 90d, 36h.")
@click.option("--dry-run", is_flag=True, help="Count the rows, delete none.")
@env_file_option
def prune(age: timedelta, dry_run: bool, env_file: Path | None) -> None:
    """Delete old rows: settled notifications, ended tasks, failed attempts at messages.

    Workers may run meanwhile: transactions are small. It can be stopped and started again at any time.
    """
    from graphnode.cli.recording import recorded_command
    from graphnode.storage.pruning import prune as prune_tables
    from graphnode.storage.schema import check_schema

    if age < SAFE_AGE:
        click.echo(
            f"Careful: SQS can deliver a result for {SAFE_AGE.days} days, dead-letter queue included. "
            "One whose task is gone has its effect again.",
            err=True,
        )
    verb, shown = "would go" if dry_run else "deleted", 0
    with open_database(environment_of(env_file)):
        check_schema()
        with recorded_command("prune", f"rows older than {age}", changes=not dry_run) as recording:
            for table, rows, share in prune_tables(datetime.now(UTC) - age, dry_run=dry_run):
                tenths = int(share * 10)
                if tenths != shown:
                    click.echo(f"{table}: {share:4.0%} looked through, {rows:,} rows {verb}")
                shown = tenths % 10
                if share == 1:
                    recording.add(f"{table}: {rows:,} rows deleted")


@click.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@env_file_option
def forget(user: str, yes: bool, env_file: Path | None) -> None:
    """Delete all data of USER: graph, summary, microscope, notifications, devices, tasks.

    Results that come later end SUPERSEDED. Objects in S3 stay: standard output has their keys, one a line, for you to
    delete; everything else goes to standard error.
    """
    from graphnode.cli.recording import recorded_command
    from graphnode.storage.schema import check_schema
    from graphnode.storage.users import forget_user

    if not yes:
        click.confirm(f"Remove all that is stored of user {user!r}? This cannot be undone.", abort=True, err=True)
    with open_database(environment_of(env_file)):
        check_schema()
        with recorded_command("forget", f"user {user}", user_id=user) as recording:
            removed = forget_user(user)
            recording.add(f"{sum(removed.rows.values()):,} rows deleted, {len(removed.s3_keys):,} keys in S3 named")
    for table, count in removed.rows.items():
        click.echo(f"{table:<24}{count:>8} removed", err=True)
    click.echo(f"{len(removed.s3_keys)} keys in S3 were named by these rows:", err=True)
    for key in removed.s3_keys:
        # What reads them from a pipe needs each character.
        click.echo(escaped(key) if sys.stdout.isatty() else key)
