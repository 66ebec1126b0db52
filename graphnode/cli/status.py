"""What a deployment is doing now."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from time import sleep

import click

from graphnode.cli.environment import env_file_option, environment_of, file_hint, open_database
from graphnode.cli.json_output import echo_json

#: Seconds between two readings.
REFRESH_S = 2.0


@click.command()
@click.option("--watch", is_flag=True, help="Read it again every 2 seconds, until Ctrl-C.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print all that was read as a JSON object; with --watch, one a line."
)
@env_file_option
def status(watch: bool, as_json: bool, env_file: Path | None) -> None:
    """Show queues, dead letters, tasks, throughput, retries, outages and worker processes on one screen.

    What cannot be read is named at the end; the rest is shown. Exit code 1: nothing could be read.
    """
    from rich.console import Console
    from rich.live import Live

    from graphnode.cli.status_screen import screen
    from graphnode.clients.aws import QUICK, Aws
    from graphnode.operations.status.sources import Sources
    from graphnode.settings import QueueSettings, read_settings

    environment = {name: value for name, value in environment_of(env_file).items() if value.strip()}
    read_settings(environment, QueueSettings)
    has_database = "DATABASE_URL" in environment
    console = Console(highlight=False)
    with open_database(environment) if has_database else nullcontext():
        aws = Aws.of_environment(environment, limits=QUICK)
        sources = Sources(
            environment, sqs=aws.sqs, cloudwatch=partial(aws.client, "cloudwatch"), has_database=has_database
        )
        read = None
        is_live = console.is_terminal and not as_json
        live = Live(console=console, screen=watch, transient=True, auto_refresh=False) if is_live else nullcontext()
        try:
            with live as shown:
                while True:
                    for read in sources.readings():
                        if shown:
                            shown.update(screen(read), refresh=True)
                        elif read.awaited:
                            click.echo(f"Waiting for {' and '.join(read.awaited)} …", err=True)
                        elif as_json:
                            echo_json(read, on_one_line=watch)
                        else:
                            console.print(screen(read))
                    if not watch:
                        break
                    sleep(REFRESH_S)
        except KeyboardInterrupt:
            # Ctrl-C ends --watch.
            pass
        # A live screen is gone by now. The last reading stays.
        if is_live and read:
            console.print(screen(read))
    if read and not read.has_seen:
        sys.exit(file_hint(" ".join(read.unseen)) or 1)
