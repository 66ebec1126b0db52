"""`graphnode console`: the operator's page."""

from __future__ import annotations

import getpass
import sys
from contextlib import nullcontext
from pathlib import Path

import click

from graphnode.cli.environment import env_file_option, environment_of, open_database


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8650, show_default=True, type=click.IntRange(0, 65_535), help="0: any free one.")
@click.option("--allow-changes", is_flag=True, help="Let operators change something on a shared address, too.")
@env_file_option
def console(host: str, port: int, allow_changes: bool, env_file: Path | None) -> None:
    """Serve the operator's page until Ctrl-C.

    On loopback everybody on this machine may use it. Any other address needs GRAPHNODE_CONSOLE_TOKEN, or a proxy that
    signs people in (GRAPHNODE_CONSOLE_TRUSTED_HEADER), and is read-only without --allow-changes.
    """
    from graphnode.console.access import Access, is_loopback
    from graphnode.console.web_server import serve
    from graphnode.settings import ConsoleSettings, QueueSettings, read_log_settings, read_settings
    from graphnode.telemetry.logs import configure_logs

    environment = {name: value for name, value in environment_of(env_file).items() if value.strip()}
    read_settings(environment, QueueSettings)
    settings = read_settings(environment, ConsoleSettings)
    access = Access(settings, is_loopback=is_loopback(host), allow_changes=allow_changes, owner=getpass.getuser())
    hosts = frozenset((settings.console_hosts or "").lower().split(",")) - {""}
    if sys.stderr.isatty():
        environment.setdefault("GRAPHNODE_LOG_FORMAT", "console")
    configure_logs(read_log_settings(environment))
    with open_database(environment) if "DATABASE_URL" in environment else nullcontext():
        try:
            serve(
                environment,
                access,
                host=host,
                port=port,
                hosts=hosts,
                tell=lambda address: click.echo(f"The console is at {address}; Ctrl-C stops it."),
            )
        except OSError as error:
            raise click.ClickException(f"{host}:{port}: {error.strerror}. Choose another with --port.") from None
