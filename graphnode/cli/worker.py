"""The worker."""

from __future__ import annotations

import os
import sys

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def worker(options: tuple[str, ...]) -> None:
    """Run the worker, with Dramatiq's OPTIONS: --processes, --threads, …; `dramatiq --help` lists them.

    It is `dramatiq graphnode.actors`, whose main process writes its log lines in the same form as all others.
    """
    from dramatiq.cli import main, make_argument_parser

    from graphnode.settings import read_log_settings
    from graphnode.telemetry.logs import configure_logs

    configure_logs(read_log_settings(os.environ))
    sys.exit(main(make_argument_parser().parse_args(["graphnode.actors", *options])))
