"""The worker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from graphnode.cli.environment import env_file_option, environment_of, open_database
from graphnode.errors import ServiceFault, classify_error


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@env_file_option
def worker(options: tuple[str, ...], env_file: Path | None) -> None:
    """Run the worker, with Dramatiq's OPTIONS: --processes, --threads, …; `dramatiq --help` lists them.

    The same as `dramatiq graphnode.actors`, but the main process, too, writes its log lines in the worker's format. On
    a terminal, wrong settings or a wrong schema are one plain text, and the log is readable unless
    GRAPHNODE_LOG_FORMAT says json.
    """
    from dramatiq.cli import main, make_argument_parser

    from graphnode.settings import read_log_settings
    from graphnode.telemetry.logs import configure_logs

    os.environ.update(environment_of(env_file))
    if sys.stderr.isatty():
        os.environ.setdefault("GRAPHNODE_LOG_FORMAT", "console")
        _refuse_early()
    configure_logs(read_log_settings(os.environ))
    sys.exit(main(make_argument_parser().parse_args(["graphnode.actors", *options])))


def _refuse_early() -> None:
    """Raise the SettingsError or SchemaError that each worker process would log. Without a database, return.

    Each process checks again: what changes in between is refused there.
    """
    from graphnode.settings import Settings, read_settings
    from graphnode.storage.schema import check_rights, check_schema

    read_settings(os.environ, Settings)
    try:
        with open_database(os.environ):
            check_schema()
            check_rights()
    except Exception as raised:
        if not isinstance(error := classify_error(raised), ServiceFault):
            raise error from None
