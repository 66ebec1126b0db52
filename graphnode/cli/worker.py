"""The worker."""

from __future__ import annotations

import os
import sys

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def worker(options: tuple[str, ...]) -> None:
    """Run the worker, with Dramatiq's OPTIONS: --processes, --threads, …; `dramatiq --help` lists them.

    The same as `dramatiq graphnode.actors`, but the main process, too, writes its log lines in the worker's format.
    """
    from dramatiq.cli import main, make_argument_parser

    from graphnode.settings import read_log_settings
    from graphnode.telemetry.logs import configure_logs

    configure_logs(read_log_settings(os.environ))
    sys.exit(main(make_argument_parser().parse_args(["graphnode.actors", *options])))
