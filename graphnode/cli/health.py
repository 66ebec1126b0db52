"""The worker's health."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from graphnode.cli.environment import env_file_option, environment_of


@click.command()
@click.option("--ready", is_flag=True, help="Ask whether it takes messages, not only whether it is alive.")
@env_file_option
def health(ready: bool, env_file: Path | None) -> None:
    """Print the health of this machine's worker, asked at GRAPHNODE_HEALTH_PORT: one line, and exit code 0 or 1.

    For a container's health check. During an outage of the database, S3 or SQS a worker is alive, but not ready.
    """
    from graphnode.errors import SettingsError
    from graphnode.settings import HealthSettings, read_settings
    from graphnode.worker.health import ask

    known = read_settings(environment_of(env_file), HealthSettings)
    if known.health_port is None:
        raise SettingsError("GRAPHNODE_HEALTH_PORT is missing: set it to the port on which the worker serves health.")
    found = ask(known.health_port, path="/ready" if ready else "/live", host=known.health_host)
    click.echo("; ".join(found.problems) or ("ready" if ready else "alive"))
    sys.exit(0 if found.ok else 1)
